// The http broker, against go-micro v5.30's and against the least that could carry the same: a POST with bare node:http.
import { once } from "node:events";
import { Agent, createServer, request } from "node:http";

export const label = "http";

/** No server: consumers tell publishers where they are. */
export async function start() {
  return { address: null };
}

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

export const sides = { "raw node:http POST": bare };
