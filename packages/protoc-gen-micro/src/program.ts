/** Running another program with input and output in memory. */
import { spawn } from "node:child_process";

export interface ProgramResult {
  readonly code: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface ProgramOptions {
  /** Standard input. Default: empty. */
  readonly input?: Uint8Array | undefined;
  /** Working folder. Default: this process's. */
  readonly cwd?: string | undefined;
}

/** Run a program to its end. @throws {Error} if it cannot be started */
export function runProgram(
  command: string,
  args: readonly string[],
  { input, cwd }: ProgramOptions = {},
): Promise<ProgramResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, stdio: ["pipe", "pipe", "pipe"], windowsHide: true });
    const output: Buffer[] = [];
    const errors: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => errors.push(chunk));
    child.on("error", reject);
    child.on("close", (code) =>
      resolve({ code: code ?? 1, stdout: Buffer.concat(output), stderr: Buffer.concat(errors).toString() }),
    );
    // A program that ends early says why itself.
    child.stdin.on("error", () => {});
    child.stdin.end(input ?? new Uint8Array());
  });
}
