/** Real processes that use a registry: they end by themselves, whoever made the registry. */
import { it } from "vitest";
import { expectProgramExit, expectRefusedStart } from "./program-exit.ts";

/** What of a registry package is to be used. */
export interface RegistryExitOptions {
  readonly module: string;
  readonly factory: string;
  /** Module of hooks that finds the packages' sources. */
  readonly resolve: URL;
  /** Given to the factory. */
  readonly options: object;
  /** The command line that chooses the same registry by name; undefined if none does. */
  readonly flags: readonly string[] | undefined;
}

/**
 * What a program does: a service that is `found` by another, that `calls` itself, or that leaves a `watch` of its own in the
 * background is told to stop; `late` looks up after the stop once more. `alone` has no service, and is told nothing.
 */
const uses = {
  instance: ["found", "calls", "watch", "late", "alone"],
  name: ["found", "calls", "watch"],
} as const;

const program = new URL("./registry-exit-program.ts", import.meta.url);

/** Declare tests of command lines with which nothing can start: by what is tested, flags and the line that is printed. */
export function registryRefusalTests(
  { module, factory, resolve }: Pick<RegistryExitOptions, "module" | "factory" | "resolve">,
  commands: Readonly<Record<string, readonly [flags: readonly string[], why: RegExp]>>,
): void {
  for (const [name, [flags, why]] of Object.entries(commands))
    it(name, () =>
      expectRefusedStart({ program, resolve, args: [module, factory, "{}", "name", "found", ...flags] }, why),
    );
}

/** Declare the tests. `prepare` may start the server. */
export function registryExitTests(
  prepare: () => RegistryExitOptions | Promise<RegistryExitOptions>,
  forms: readonly (keyof typeof uses)[] = ["instance", "name"],
): void {
  for (const form of forms)
    for (const use of uses[form])
      it(`${form}, used for: ${use}`, async () => {
        const { module, factory, resolve, options, flags = [] } = await prepare();
        await expectProgramExit({
          program,
          resolve,
          args: [module, factory, JSON.stringify(options), form, use, ...(form === "name" ? flags : [])],
          signal: use === "alone" ? undefined : "SIGTERM",
        });
      });
}
