/** RabbitMQ, one node: Debian 13's unpacked, or the one that is installed. */
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { aptInstall, canInstall, unpackDebian13 } from "./debian.mjs";
import { ServerProcess, startOnFreePorts } from "./process.mjs";
import { Unavailable, help, runQuietly, scratch, serversFolder, takeLock, tcpOpen } from "./shared.mjs";

const variable = "MICRO_TEST_RABBITMQ";
const version = "4.0.5";
const installed = "/usr/lib/rabbitmq/bin/rabbitmq-server";
// To be raised when the unpacking changes, so that nobody meets what an older one left.
const recipe = 1;
const folder = join(serversFolder, `rabbitmq-${version}-${process.platform}-${process.arch}-${recipe}`);
const unpacked = join(folder, "root", "usr", "lib", "rabbitmq", "bin", "rabbitmq-server");
const erlang = join(folder, "root", "usr", "lib", "erlang");

/**
 * Path of its start script, got if there is none.
 *
 * Where Debian 13's packages cannot be had, the RabbitMQ of this machine, installed by apt if that may be.
 * @throws {Unavailable}
 */
export async function ensureRabbitmq(log = () => {}) {
  // Written last: without it the folder is somebody's unfinished work.
  const complete = join(folder, "complete");
  if (existsSync(complete)) return unpacked;
  if (process.platform !== "linux") throw new Unavailable(`RabbitMQ is only got on Linux; ${help(variable)}`);
  const started = Date.now();
  const unlock = await takeLock("rabbitmq");
  try {
    if (existsSync(complete)) return unpacked;
    log(`unpacking RabbitMQ ${version} into ${folder} (some 10 s, once)`);
    await unpack();
    writeFileSync(complete, "");
    log(`unpacked RabbitMQ in ${Math.round((Date.now() - started) / 1000)} s`);
    return unpacked;
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    if (!(error instanceof Unavailable)) throw error;
    log(`RabbitMQ ${version} cannot be unpacked: ${error.message}`);
    if (!existsSync(installed) && canInstall()) await aptInstall(["rabbitmq-server"], log);
    if (existsSync(installed)) return installed;
    throw new Unavailable(`RabbitMQ is missing (apt-get install rabbitmq-server), or ${help(variable)}`);
  } finally {
    unlock();
  }
}

async function unpack() {
  const programs = ["usr/bin", "usr/sbin", "usr/lib/erlang/erts-*", "usr/lib/erlang/lib/os_mon-*"];
  await unpackDebian13(folder, ["rabbitmq-server"], programs);
  const runtimes = readdirSync(erlang).filter((name) => name.startsWith("erts-"));
  for (const script of [join(erlang, "bin", "erl"), ...runtimes.map((name) => join(erlang, name, "bin", "erl"))])
    if (existsSync(script))
      writeFileSync(script, readFileSync(script, "utf8").replaceAll("=/usr/lib/erlang", `=${erlang}`));
  const { code, output } = await runQuietly(join(erlang, "bin", "erl"), ["-noshell", "-eval", "halt()."]);
  if (code !== 0) throw new Unavailable(`the unpacked Erlang does not run: ${output.slice(-2_000)}`);
}

/**
 * One RabbitMQ node. `guest` with password `guest` may do everything.
 * @param options `users`: passwords of further users by name; `tls: { cert, key, ca, clientAuth }` adds a port with
 *   TLS; `plugins`; `config`: lines of rabbitmq.conf
 * @throws {Unavailable}
 */
export async function startRabbitmq({ users = {}, tls, plugins = [], config, log } = {}) {
  const program = await ensureRabbitmq(log);
  return startOnFreePorts(4, ([client, secure, distribution, names]) => {
    const home = scratch("rabbitmq");
    const lines = [`load_definitions = ${join(home, "definitions.json")}`];
    if (tls !== undefined)
      lines.push(
        `listeners.ssl.1 = 127.0.0.1:${secure}`,
        `ssl_options.certfile = ${tls.cert}`,
        `ssl_options.keyfile = ${tls.key}`,
        ...(tls.ca === undefined ? [] : [`ssl_options.cacertfile = ${tls.ca}`]),
        `ssl_options.verify = ${tls.clientAuth === true ? "verify_peer" : "verify_none"}`,
        `ssl_options.fail_if_no_peer_cert = ${tls.clientAuth === true}`,
      );
    writeFileSync(join(home, "rabbitmq.conf"), `${[...lines, config ?? ""].join("\n")}\n`);
    writeFileSync(join(home, "definitions.json"), definitions({ guest: "guest", ...users }));
    writeFileSync(join(home, "enabled_plugins"), `[${plugins.join(",")}].\n`);
    const { environment: naming, epmd } = nameServer(program, names);
    const node = `t${client}@localhost`;
    const environment = {
      ...naming,
      HOME: home,
      RABBITMQ_NODENAME: node,
      RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1",
      RABBITMQ_NODE_PORT: String(client),
      RABBITMQ_DIST_PORT: String(distribution),
      // Schedulers that do not spin leave the cores to the tests.
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS:
        "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
      RABBITMQ_MNESIA_BASE: join(home, "data"),
      RABBITMQ_LOG_BASE: join(home, "log"),
      RABBITMQ_LOGS: "-",
      RABBITMQ_PID_FILE: join(home, "pid"),
      RABBITMQ_CONF_ENV_FILE: "/dev/null",
      RABBITMQ_CONFIG_FILE: join(home, "rabbitmq.conf"),
      RABBITMQ_ADVANCED_CONFIG_FILE: join(home, "advanced.config"),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(home, "enabled_plugins"),
      RABBITMQ_GENERATED_CONFIG_DIR: join(home, "generated"),
      RABBITMQ_SCHEMA_DIR: join(home, "schema"),
    };
    mkdirSync(join(home, "data"), { recursive: true });
    const address = `127.0.0.1:${client}`;
    return new ServerProcess({
      name: "rabbitmq",
      folder: home,
      ports: { client, secure },
      command: [program],
      environment,
      pidFile: join(home, "pid"),
      companion: epmd,
      ready: async (server) =>
        server.log().slice(server.logStart).includes("Server startup complete") && (await tcpOpen(client)),
      readyWithinMs: 60_000,
      url: `amqp://guest:guest@${address}`,
      address,
      tlsUrl: tls === undefined ? undefined : `amqps://guest:guest@127.0.0.1:${secure}`,
      /** What `rabbitmqctl` prints. */
      async control(...args) {
        const command = program.replace(/rabbitmq-server$/, "rabbitmqctl");
        const options = { env: { ...process.env, ...environment } };
        const { code, output } = await runQuietly(command, ["-n", node, ...args], options);
        if (code !== 0) throw new Error(`rabbitmqctl ${args.join(" ")}: ${output}`);
        return output;
      },
    });
  });
}

/** Erlang's name server. A node without one starts one that outlives it. */
function nameServer(program, port) {
  const ours = program === unpacked;
  const environment = {
    ERL_EPMD_PORT: String(port),
    ERL_EPMD_ADDRESS: "127.0.0.1",
    ...(ours && { PATH: [join(erlang, "bin"), process.env.PATH].join(delimiter) }),
  };
  const path = ours ? join(folder, "root", "usr", "bin", "epmd") : "/usr/bin/epmd";
  const epmd = new ServerProcess({
    name: "epmd",
    folder: scratch("epmd"),
    ports: { client: port },
    command: [path, "-port", String(port), "-address", "127.0.0.1"],
    ready: () => tcpOpen(port),
  });
  return { environment, epmd };
}

/** Users and their rights in every virtual host, as the server reads them at each start. */
function definitions(users) {
  const names = Object.keys(users);
  return JSON.stringify({
    vhosts: [{ name: "/" }],
    users: names.map((name) => ({
      name,
      password_hash: passwordHash(users[name]),
      hashing_algorithm: "rabbit_password_hashing_sha256",
      tags: name === "guest" ? ["administrator"] : [],
    })),
    permissions: names.map((user) => ({ user, vhost: "/", configure: ".*", write: ".*", read: ".*" })),
  });
}

function passwordHash(password) {
  const salt = randomBytes(4);
  return Buffer.concat([salt, createHash("sha256").update(salt).update(password).digest()]).toString("base64");
}
