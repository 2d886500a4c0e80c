/** Real processes that use a broker and are told to stop: they end by themselves, whoever made the broker. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";

/** What of a broker package is to be used. */
export interface BrokerExitOptions {
  readonly module: string;
  readonly factory: string;
  /** Module of hooks that finds the packages' sources. */
  readonly resolve: URL;
  readonly options: object;
  /** What `brokerAddress` is for one chosen by name. */
  readonly address: string;
}

export const brokerExitForms = ["instance", "name"] as const;
/** `queue` and `subscribe` have subscriptions; `connect` only a connection; with `none` the broker is never asked. */
export const brokerExitUses = ["subscribe", "queue", "publish", "connect", "none"] as const;

const startMs = 25_000;
/** A goodbye to a group of consumers takes a while; a process that is held would stay for ever. */
const endMs = 8_000;

/** Start the program, wait for `ready`, send SIGTERM, and see it end with code 0. */
export async function expectExit(
  { module, factory, resolve, options, address }: BrokerExitOptions,
  form: string,
  use: string,
): Promise<void> {
  const program = fileURLToPath(new URL("./broker-exit-program.ts", import.meta.url));
  const child = spawn(
    process.execPath,
    ["--import", fileURLToPath(resolve), program, module, factory, JSON.stringify({ options, address }), form, use],
    { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, NODE_ENV: "production" } },
  );
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
      const ended = exited.then(() => Promise.reject(new Error(`the program ended at once: ${errors}`)));
      await Promise.race([ready.promise, limit.promise, ended]);
      ended.catch(() => {});
    }
    child.kill("SIGTERM");
    using limit = late(endMs, "the process stays");
    const [code, signal] = await Promise.race([exited, limit.promise]);
    expect([code, signal, output], errors).toEqual([0, null, "ready\nstopped\n"]);
  } finally {
    child.kill("SIGKILL");
  }
}
