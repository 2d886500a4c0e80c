/** Real processes that use a broker and are told to stop: they end by themselves, whoever made the broker. */
import { expectProgramExit } from "./program-exit.ts";

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

/** Start the program, wait for `ready`, send SIGTERM, and see it end with code 0. */
export async function expectExit(
  { module, factory, resolve, options, address }: BrokerExitOptions,
  form: string,
  use: string,
): Promise<void> {
  await expectProgramExit({
    program: new URL("./broker-exit-program.ts", import.meta.url),
    resolve,
    args: [module, factory, JSON.stringify({ options, address }), form, use],
    signal: "SIGTERM",
  });
}
