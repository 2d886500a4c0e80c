// node:http as people use it: JSON over POST, a keep-alive agent, a stream as lines of JSON.
import http from "node:http";

async function body(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString());
}

export async function serve() {
  const server = http.createServer(async (request, response) => {
    const message = await body(request);
    if (request.url === "/count") {
      response.writeHead(200, { "Content-Type": "application/x-ndjson" });
      for (let i = 1; i <= message.to; i++) {
        if (!response.write(`${JSON.stringify({ i })}\n`))
          await new Promise((resolve) => response.once("drain", resolve));
      }
      response.end();
      return;
    }
    const reply = JSON.stringify(request.url === "/hello" ? { msg: `Hello ${message.name}` } : message);
    response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(reply) });
    response.end(reply);
  });
  server.keepAliveTimeout = 0;
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: `127.0.0.1:${server.address().port}` };
}

export async function connect(address) {
  const [host, port] = address.split(":");
  const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity, maxFreeSockets: 256 });
  const post = (path, message) =>
    new Promise((resolve, reject) => {
      const text = JSON.stringify(message);
      const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) };
      const request = http.request({ host, port, path, method: "POST", agent, headers }, resolve);
      request.on("error", reject);
      request.end(text);
    });
  return {
    hello: async (name) => (await body(await post("/hello", { name }))).msg,
    echo: async (data) => (await body(await post("/echo", { data }))).data,
    async count(to) {
      let items = 0;
      let rest = "";
      for await (const chunk of (await post("/count", { to })).setEncoding("utf8")) {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop();
        for (const line of lines) if (JSON.parse(line).i > 0) items++;
      }
      return items;
    },
    close: () => agent.destroy(),
  };
}
