/** One process of the fleet: `service.ts ROLE FOLDER ADDRESS`, the backend in variables. It answers the driver's questions by IPC. */
import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { createService } from "@micro/core";
import { connectBackend } from "./connect.ts";
import { roles, type RoleName } from "./roles.ts";

const [role, folder, address] = process.argv.slice(2) as [RoleName, string, string];
const effects = join(folder, `effects-${role}-${process.pid}.log`);

/** What a process says of itself when it is asked. */
export interface Vitals {
  readonly heapBytes: number;
  /** Sockets, ports and timers that keep the process alive. */
  readonly handles: number;
}

await using backend = connectBackend();
const service = createService({
  ...backend.options,
  name: role,
  address,
  registerTtlMs: 6_000,
  registerIntervalMs: 2_000,
  // It may be started while its registry or broker is away.
  startWait: true,
  afterStart: [() => void process.send?.("ready" satisfies Report)],
  signal: AbortSignal.timeout(3_600_000),
});
roles[role](service, (what, id) => appendFileSync(effects, `${what} ${id}\n`));

/** What it tells the driver without being asked: it can be stopped in good order; it serves. */
export type Report = "running" | "ready";

process.on("message", (question) => {
  if (question !== "vitals") return;
  globalThis.gc?.();
  const vitals: Vitals = {
    heapBytes: process.memoryUsage().heapUsed,
    handles: process.getActiveResourcesInfo().length,
  };
  process.send?.(vitals);
});
process.channel?.unref();
const running = service.run();
process.send?.("running" satisfies Report);
await running;
process.disconnect?.();
