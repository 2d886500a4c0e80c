/** Real processes that are up, are told to stop or are done, and end by themselves. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";

/** A program that says `ready` once it is up, and `stopped` at its end. */
export interface ExitingProgram {
  readonly program: URL;
  /** Module of hooks that finds the packages' sources. */
  readonly resolve: URL;
  readonly args: readonly string[];
  /** Sent once it is ready. Left out: it ends without. */
  readonly signal?: "SIGTERM" | undefined;
}

const startMs = 25_000;
/** A goodbye to a group of consumers takes a while; a process that is held would stay for ever. */
const endMs = 8_000;

/** Start the program, wait for `ready`, send the signal, and see it end with code 0. */
export async function expectProgramExit({ program, resolve, args, signal: sent }: ExitingProgram): Promise<void> {
  const child = spawn(process.execPath, ["--import", fileURLToPath(resolve), fileURLToPath(program), ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, NODE_ENV: "production" },
  });
  let output = "";
  const ready = Promise.withResolvers<void>();
  child.stdout.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    if (output.includes("ready\n")) ready.resolve();
  });
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  const exited = once(child, "exit") as Promise<[number | null, string | null]>;
  const late = (ms: number, what: string) => {
    const { promise, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(new Error(`${what}; it said ${output}${errors}`)), ms);
    return { promise, [Symbol.dispose]: () => clearTimeout(timer) };
  };
  try {
    {
      using limit = late(startMs, "the program was not up in time");
      const ended = exited.then(() => Promise.reject(new Error(`the program ended at once: ${output}${errors}`)));
      ended.catch(() => {});
      await Promise.race([ready.promise, limit.promise, ended]);
    }
    if (sent !== undefined) child.kill(sent);
    using limit = late(endMs, "the process stays");
    const [code, signal] = await Promise.race([exited, limit.promise]);
    expect([code, signal, output], errors).toEqual([0, null, "ready\nstopped\n"]);
  } finally {
    child.kill("SIGKILL");
  }
}

/** Start the program, and see it end with code 1 and one line that says why. */
export async function expectRefusedStart(
  { program, resolve, args }: Omit<ExitingProgram, "signal">,
  why: RegExp,
): Promise<void> {
  const child = spawn(process.execPath, ["--import", fileURLToPath(resolve), fileURLToPath(program), ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, NODE_ENV: "production" },
  });
  const limit = setTimeout(() => child.kill("SIGKILL"), startMs);
  let errors = "";
  child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(limit);
  const lines = errors.split("\n").filter((line) => line !== "" && !line.includes("level=info"));
  expect(lines).toEqual([expect.stringMatching(why)]);
  expect(code).toBe(1);
}
