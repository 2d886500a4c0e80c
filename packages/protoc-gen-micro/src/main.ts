#!/usr/bin/env node
import { buffer } from "node:stream/consumers";
import { runCommand, usage } from "./command.ts";
import { InputError } from "./options.ts";
import { runPlugin } from "./plugin.ts";

const args = process.argv.slice(2);
const line = (stream: NodeJS.WriteStream) => (text: string) => void stream.write(`${text}\n`);

if (args.length > 0) {
  process.exitCode = await runCommand(args, { out: line(process.stdout), error: line(process.stderr) });
} else if (process.stdin.isTTY) {
  line(process.stderr)(usage());
  process.exitCode = 1;
} else {
  // As protoc starts it.
  try {
    process.stdout.write(await runPlugin(await buffer(process.stdin), line(process.stderr)));
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    line(process.stderr)(`protoc-gen-micro: ${error.message}`);
    process.exitCode = 1;
  }
}
