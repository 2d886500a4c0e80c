/** What all servers of the tests share: the cache, its lock, ports, and questions with a time limit of their own. */
import { spawn, spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cacheFolder } from "../toolchain.mjs";

/** A server cannot be had on this machine: not a defect of the project. */
export class Unavailable extends Error {}

/** Where the programs are kept. */
export const serversFolder = join(cacheFolder, "servers");

/** What a user can do where a server cannot be had. */
export const help = (variable) => `set ${variable} to the address of one that runs already`;

/** True if the program runs and ends well with these arguments. */
export const runs = (program, args) => existsSync(program) && spawnSync(program, args).status === 0;

/** Run a program to its end without a terminal. @returns its exit code and the end of its output */
export function runQuietly(program, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
    let output = "";
    const note = (chunk) => (output = (output + chunk).slice(-100_000));
    child.stdout.on("data", note);
    child.stderr.on("data", note);
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}

/** What Go says when a module could not be got for now. */
const networkTrouble =
  /dial tcp|i\/o timeout|no such host|lookup .* on|proxyconnect|connection re(fused|set)|TLS handshake|: 40[34] |: 50\d /;

/** Whether a Go command failed for want of its modules. */
export const networkFailed = ({ code, output }) => code !== 0 && networkTrouble.test(output);

/** A Go command whose downloads may fail for a moment: three tries. @returns what the last one said. */
export async function withDownloads(command) {
  for (let attempt = 1; ; attempt++) {
    const result = await command();
    if (attempt === 3 || !networkFailed(result)) return result;
  }
}

/** One process at a time gets a server; a lock whose owner is gone counts for nothing. @returns the unlocking */
export async function takeLock(name) {
  mkdirSync(serversFolder, { recursive: true });
  const path = join(serversFolder, `${name}.lock`);
  for (const end = Date.now() + 20 * 60_000; ;) {
    try {
      closeSync(openSync(path, "wx"));
      writeFileSync(path, String(process.pid));
      return () => rmSync(path, { force: true });
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    const owner = existsSync(path) ? Number(readFileSync(path, "utf8")) : 0;
    if (owner > 0 && !isAlive(owner)) rmSync(path, { force: true });
    else if (Date.now() > end) throw new Unavailable(`${path} is held by process ${owner}`);
    await sleep(500);
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

// Below the ports that systems hand out for connections (Linux from 32768, others from 49152): one of those may be taken
// while its server is down, even by a client that tries to reach it and so connects to itself.
const [lowestPort, highestPort] = [10_240, 32_000];
const given = new Set();

/** Ports nobody uses at this moment. */
export async function freePorts(count) {
  const ports = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries > 1_000) throw new Error(`no ${count} free ports between ${lowestPort} and ${highestPort}`);
    const port = randomInt(lowestPort, highestPort);
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    ports.push(port);
  }
  return ports;
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer();
    server.on("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** Somebody else may take a port between its choice and its use: then others are chosen. */
export async function withFreshPorts(start) {
  for (let round = 1; ; round++)
    try {
      return await start();
    } catch (error) {
      if (round >= 3 || !/address already in use/i.test(error.message)) throw error;
    }
}

/** A folder for one server. */
export const scratch = (name) => mkdtempSync(join(tmpdir(), `micro-${name}-`));

export async function poll(what, timeoutMs, check) {
  for (const end = Date.now() + timeoutMs; ;) {
    if (await check()) return;
    if (Date.now() > end) throw new Error(`${what} was not ready within ${timeoutMs / 1000} s`);
    await sleep(50);
  }
}

/** True if a request is answered with status 200 within a second. */
export async function answers(url, init = {}) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(1_000), ...init });
    const text = await response.text();
    return response.status === 200 && (init.expect?.(text) ?? true);
  } catch {
    return false;
  }
}

export async function tcpOpen(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}
