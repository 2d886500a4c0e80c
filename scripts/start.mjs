// `npm start`: install, build, and run the greeter example.
import { join } from "node:path";
import { installAndBuild, root, run, toolchain } from "./toolchain.mjs";

const tools = await toolchain();
await installAndBuild(tools);
const { code } = await run(tools.node, [join(root, "examples", "greeter", "start.ts")], { env: tools.env });
process.exit(code);
