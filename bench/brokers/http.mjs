// The http broker, against go-micro v5.30's and against the least that could carry the same: a POST with bare node:http.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { Agent, createServer, request } from "node:http";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { httpBroker, memoryRegistry } from "../../packages/core/dist/index.js";

export const label = "http";

const sources = fileURLToPath(new URL("./go/", import.meta.url));

/** The Go program, in a cache outside the checkout. */
function goProgram() {
  const hash = createHash("sha256");
  for (const file of ["main.go", "go.mod", "go.sum"]) hash.update(readFileSync(join(sources, file)));
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return join(cache, "micro-ts", "go-bench", `broker-${hash.digest("hex").slice(0, 16)}`);
}

function buildGo() {
  const program = goProgram();
  if (existsSync(program)) return;
  const go = [process.env.GO, "go", "/usr/local/go/bin/go"].find(
    (each) => each !== undefined && spawnSync(each, ["version"]).status === 0,
  );
  if (go === undefined) return;
  mkdirSync(join(program, ".."), { recursive: true });
  const made = `${program}.${process.pid}`;
  const { status, stderr } = spawnSync(go, ["build", "-o", made, "."], {
    cwd: sources,
    encoding: "utf8",
    env: { ...process.env, CGO_ENABLED: "0", GOFLAGS: "-buildvcs=false", GOTOOLCHAIN: "local" },
  });
  if (status === 0) renameSync(made, program);
  else process.stderr.write(`http: the go-micro side does not build:\n${stderr}\n`);
}

/** No server: consumers tell publishers where they are. */
export async function start() {
  buildGo();
  return { address: null };
}

const ours = {
  async consumer() {
    const registry = memoryRegistry();
    const broker = httpBroker({ registry, address: "127.0.0.1:0" });
    return {
      async subscribe(topic, handle) {
        // As many as may be under way: the default is for handlers that do something.
        await broker.subscribe(topic, ({ message }) => handle(message.body), { prefetch: 256 }).ready;
        return registry.getService("micro.http.broker");
      },
      close: () => broker.disconnect(),
    };
  },
  async publisher(_address, services) {
    const broker = httpBroker({ registry: memoryRegistry({ services }) });
    return {
      publish: (topic, body) => broker.publish(topic, { body }),
      close: () => broker.disconnect(),
    };
  },
};

const bare = {
  async consumer() {
    let handle = () => {};
    const server = createServer((incoming, reply) => {
      const chunks = [];
      incoming.on("data", (chunk) => chunks.push(chunk));
      incoming.on("end", () => {
        handle(Buffer.concat(chunks));
        reply.writeHead(200, { "Content-Length": 0 });
        reply.end();
      });
    });
    server.keepAliveTimeout = 60_000;
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return {
      async subscribe(_topic, onMessage) {
        handle = onMessage;
        return server.address().port;
      },
      async close() {
        server.closeAllConnections();
        server.close();
      },
    };
  },
  async publisher(_address, port) {
    const agent = new Agent({ keepAlive: true });
    return {
      publish: (_topic, body) =>
        new Promise((resolve, reject) => {
          const post = request(
            { agent, port, host: "127.0.0.1", method: "POST", headers: { "Content-Length": body.length } },
            (reply) => reply.resume().on("end", resolve),
          );
          post.on("error", reject);
          post.end(body);
        }),
      async close() {
        agent.destroy();
      },
    };
  },
};

const goMicro = { command: (role) => [goProgram(), [role]] };

export async function sides(leftOut) {
  const all = { "@micro/core httpBroker": ours, "raw node:http POST": bare };
  if (!existsSync(goProgram())) leftOut("go-micro is left out: Go cannot be had, or did not build it");
  // One goroutine for each publish takes up to 8 messages, and pauses 100 ms after each if there is more than one: it is
  // at its best with one message at a time.
  else Object.assign(all, { "go-micro v5.30": goMicro, "go-micro v5.30, one at a time": { ...goMicro, inFlight: 1 } });
  return all;
}
