// The floor: length-prefixed JSON on bare node:net, many calls in flight on one connection. Nothing a user could ship.
import net from "node:net";

const head = 9; // length u32, id u32, kind u8
const [hello, echo, count, item, end] = [0, 1, 2, 3, 4];

function frame(id, kind, text) {
  const size = Buffer.byteLength(text);
  const buffer = Buffer.allocUnsafe(head + size);
  buffer.writeUInt32BE(size, 0);
  buffer.writeUInt32BE(id, 4);
  buffer[8] = kind;
  buffer.utf8Write(text, head);
  return buffer;
}

/** Calls `take(id, kind, text)` for every frame; the writes of one read leave together. */
function pump(socket, take) {
  let rest;
  let out = [];
  socket.setNoDelay(true);
  socket.on("data", (chunk) => {
    if (rest !== undefined) chunk = Buffer.concat([rest, chunk]);
    let at = 0;
    while (chunk.length - at >= head) {
      const size = chunk.readUInt32BE(at);
      if (chunk.length - at < head + size) break;
      take(chunk.readUInt32BE(at + 4), chunk[at + 8], chunk.utf8Slice(at + head, at + head + size));
      at += head + size;
    }
    rest = at === chunk.length ? undefined : chunk.subarray(at);
    flush();
  });
  let scheduled = false;
  function flush() {
    scheduled = false;
    if (out.length === 0) return;
    const frames = out;
    out = [];
    socket.write(frames.length === 1 ? frames[0] : Buffer.concat(frames));
  }
  return (buffer) => {
    out.push(buffer);
    if (!scheduled) {
      scheduled = true;
      queueMicrotask(flush);
    }
  };
}

export async function serve() {
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    const send = pump(socket, (id, kind, text) => {
      const request = JSON.parse(text);
      if (kind === hello) send(frame(id, hello, JSON.stringify({ msg: `Hello ${request.name}` })));
      else if (kind === echo) send(frame(id, echo, JSON.stringify(request)));
      else {
        for (let i = 1; i <= request.to; i++) send(frame(id, item, JSON.stringify({ i })));
        send(frame(id, end, "{}"));
      }
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { address: `127.0.0.1:${server.address().port}` };
}

export async function connect(address) {
  const [host, port] = address.split(":");
  const socket = net.connect({ host, port: Number(port) });
  await new Promise((resolve) => socket.once("connect", resolve));
  const waiting = new Map();
  let nextId = 0;
  const send = pump(socket, (id, kind, text) => {
    const wait = waiting.get(id);
    const message = JSON.parse(text);
    if (kind === item) {
      wait.items++;
      return;
    }
    waiting.delete(id);
    wait.resolve(kind === end ? wait.items : message);
  });
  const request = (kind, message) =>
    new Promise((resolve) => {
      const id = nextId++;
      waiting.set(id, { resolve, items: 0 });
      send(frame(id, kind, JSON.stringify(message)));
    });
  return {
    hello: async (name) => (await request(hello, { name })).msg,
    echo: async (data) => (await request(echo, { data })).data,
    count: (to) => request(count, { to }),
    close: () => socket.destroy(),
  };
}
