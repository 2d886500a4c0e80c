/** What takes connections in place of a node that is gone: a load balancer, a proxy of a mesh. What is known not to have run? */
import { createServer, type Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { httpTransport } from "../../src/transport/http/http-transport.ts";

const request = { service: "test", endpoint: "T.M", contentType: "x", metadata: undefined, body: Buffer.from("hi") };

/** Takes connections and does this to each, at once or when its first bytes have come. */
async function taker(act: (socket: Socket) => void, when: "at once" | "at the first bytes") {
  const sockets = new Set<Socket>();
  let received = "";
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => {
      if (received === "" || when === "at once") received += chunk.toString("latin1");
      if (when === "at the first bytes") act(socket);
    });
    if (when === "at once") act(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return {
    address: `127.0.0.1:${port}`,
    connections: () => sockets.size,
    /** Something of a call has come. */
    received: () => received.includes("T.M"),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const acts: Record<string, (socket: Socket) => void> = {
  resets: (socket) => void socket.resetAndDestroy(),
  closes: (socket) => void socket.end(),
  "is silent": () => {},
};

describe.each(Object.keys(acts))("a peer that takes connections and %s", (kind) => {
  for (const when of ["at once", "at the first bytes"] as const)
    for (const wire of ["micro/1", undefined])
      for (const form of ["call", "stream"] as const)
        it(`${when}: a ${form} over ${wire ?? "HTTP"} is known not to have run where nothing of it was sent, time after time`, async () => {
          await using peer = await taker(acts[kind]!, when);
          const client = httpTransport({ direct: false });
          for (let attempt = 0; attempt < 4; attempt++) {
            const options = { wire, deadline: performance.now() + (kind === "is silent" ? 50 : 5_000) };
            const outcome =
              form === "call"
                ? client.call(peer.address, request, options)
                : client.open(peer.address, request, options).then((stream) => stream.receive());
            const error = await outcome.then(
              () => undefined,
              (caught: unknown) => caught,
            );
            expect(MicroError.is(error)).toBe(true);
            const { code, notRun, message } = error as MicroError;
            expect(code).toBe(kind === "is silent" ? "timeout" : "unavailable");
            if (wire !== undefined) expect(notRun).toBe(true);
            // Nobody may be told that nothing ran where something did come.
            if (peer.received()) expect(notRun).toBe(false);
            if (code === "unavailable") expect(message).toContain(peer.address);
          }
          if (wire !== undefined) expect(peer.received()).toBe(false);
          await client[Symbol.asyncDispose]();
        });
});
