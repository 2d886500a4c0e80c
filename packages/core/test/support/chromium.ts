/** A browser without a window, which opens one page. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Unavailable, ensureChromium } from "../../../../scripts/servers.mjs";

/** Where it is; an error says why there is none. In CI that is a failure. */
export const chromium: string | Error = await ensureChromium((line) => process.stderr.write(`${line}\n`)).catch(
  (error: unknown) => {
    if (!(error instanceof Unavailable) || process.env["CI"] === "true") throw error;
    process.stderr.write(`tests with a browser are skipped: ${error.message}\n`);
    return error;
  },
);

/** Ends with its processes, and its folder is removed, on disposal. */
export async function openPage(url: string, hosts = ""): Promise<AsyncDisposable> {
  if (typeof chromium !== "string") throw chromium;
  const folder = mkdtempSync(join(tmpdir(), "micro-chromium-"));
  const child: ChildProcess = spawn(
    chromium,
    [
      "--headless=new",
      "--no-sandbox",
      "--no-proxy-server",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-background-networking",
      "--disable-component-update",
      "--no-first-run",
      `--host-resolver-rules=${hosts}`,
      `--user-data-dir=${folder}`,
      url,
    ],
    // A group of its own: it has processes of its own.
    { stdio: "ignore", detached: true },
  );
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  return {
    async [Symbol.asyncDispose]() {
      if (child.pid !== undefined && child.exitCode === null) {
        try {
          process.kill(-child.pid, "SIGKILL");
        } catch {
          // It has ended meanwhile.
        }
      }
      await ended;
      rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    },
  };
}
