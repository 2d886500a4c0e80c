/** The consul of this suite: one that runs already (`MICRO_TEST_CONSUL`), or one that is started for it. */
import { once } from "node:events";
import http from "node:http";
import { Unavailable, ensureServer, runningServer, startConsul } from "../../../../scripts/servers.mjs";

/** Why there is none; undefined if there is one. In CI that is a failure. */
export const missing: string | undefined = await (
  runningServer("consul") === undefined
    ? ensureServer("consul", (line) => process.stderr.write(`${line}\n`))
    : Promise.resolve()
).then(
  () => undefined,
  (error: unknown) => {
    if (!(error instanceof Unavailable) || process.env["CI"] === "true") throw error;
    process.stderr.write(`tests with consul are skipped: ${error.message}\n`);
    return error.message;
  },
);

let shared: Promise<{ readonly url: string; dispose(): Promise<void> }> | undefined;

/** URL of an consul shared by the file's tests; whoever uses it empties it. */
export async function consulUrl(): Promise<string> {
  const running = runningServer("consul");
  if (running !== undefined) return running;
  shared ??= startConsul({ dev: true });
  return (await shared).url;
}

/** To be called before the file's tests: on busy cores the server takes its time. */
export async function startShared(): Promise<void> {
  if (missing === undefined) await consulUrl();
}

/** To be called when the file's tests are through. */
export async function endConsul(): Promise<void> {
  await (await shared)?.dispose();
}

/** One request on a connection of its own: kept open, it would look like something the tested client left behind. */
async function ask<T>(url: string, path: string, method = "GET"): Promise<T> {
  const request = http.request(`${url}${path}`, { method, agent: false }).end();
  const [response] = (await once(request, "response")) as [http.IncomingMessage];
  const text = (await response.toArray()).join("");
  return (text === "" ? undefined : JSON.parse(text)) as T;
}

/** Take every go-micro service out of the agent; others' stay. */
export async function emptyConsul(url: string): Promise<void> {
  const services = await ask<Record<string, { Tags?: string[] }>>(url, "/v1/agent/services");
  for (const [id, { Tags: tags = [] }] of Object.entries(services))
    if (tags.some((tag) => tag.startsWith("v-") || tag.startsWith("v=")))
      await ask(url, `/v1/agent/service/deregister/${encodeURIComponent(id)}`, "PUT");
  for (const end = performance.now() + 10_000; ; await new Promise((resolve) => setTimeout(resolve, 20))) {
    const catalog = await ask<Record<string, string[]>>(url, "/v1/catalog/services");
    if (!Object.values(catalog).some((tags) => tags.some((tag) => tag.startsWith("v-")))) return;
    if (performance.now() > end) throw new Error(`Consul at ${url} keeps ${Object.keys(catalog).join(", ")}`);
  }
}
