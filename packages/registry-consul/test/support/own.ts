/** For tests that kill, freeze, empty or configure a server: never one that runs already, whatever the environment names. */
import { Unavailable, ensureServer } from "../../../../scripts/servers.mjs";

/** Why none can be started; undefined if one can. In CI that is a failure. */
export const ownMissing: string | undefined = await ensureServer("consul", (line) =>
  process.stderr.write(`${line}\n`),
).then(
  () => undefined,
  (error: unknown) => {
    if (!(error instanceof Unavailable) || process.env["CI"] === "true") throw error;
    process.stderr.write(`tests with servers of their own are skipped: ${error.message}\n`);
    return error.message;
  },
);
