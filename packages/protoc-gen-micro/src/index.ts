/** For programs that generate code themselves; everybody else uses the command or the plugin. */
export { runCommand, type CommandOutput } from "./command.ts";
export { runPlugin } from "./plugin.ts";
