/** Chromium, the browser: for tests that see what a web page can do. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { aptInstall, canInstall } from "./debian.mjs";
import { Unavailable } from "./shared.mjs";

const variable = "MICRO_TEST_CHROMIUM";
const names = ["chromium", "chromium-browser", "google-chrome"];

function installed() {
  const folders = (process.env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.flatMap((folder) => names.map((name) => join(folder, name))).find(existsSync);
}

/** Path of the program, installed by apt if there is none and that may be. @throws {Unavailable} */
export async function ensureChromium(log = () => {}) {
  const named = process.env[variable];
  if (named !== undefined && named !== "") return named;
  const found = installed();
  if (found !== undefined) return found;
  if (canInstall()) await aptInstall(["chromium"], log);
  const path = installed();
  if (path === undefined) throw new Unavailable(`Chromium is missing (apt-get install chromium), or set ${variable}`);
  return path;
}
