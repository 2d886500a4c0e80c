// Moleculer with its TCP transporter, gossip off: both nodes are told where the other is.
import net from "node:net";
import { Readable } from "node:stream";
import { ServiceBroker } from "moleculer";

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function broker(nodeID, port, urls) {
  return new ServiceBroker({
    nodeID,
    logger: false,
    metrics: false,
    transporter: { type: "TCP", options: { udpDiscovery: false, port, urls } },
  });
}

export async function serve() {
  const [serverPort, clientPort] = [await freePort(), await freePort()];
  const urls = { server: `127.0.0.1:${serverPort}`, client: `127.0.0.1:${clientPort}` };
  const node = broker(
    "server",
    serverPort,
    Object.entries(urls).map(([id, address]) => `${address}/${id}`),
  );
  node.createService({
    name: "greeter",
    actions: {
      hello: (context) => ({ msg: `Hello ${context.params.name}` }),
      echo: (context) => context.params,
      count(context) {
        const { to } = context.params;
        return Readable.from(
          (function* () {
            for (let i = 1; i <= to; i++) yield { i };
          })(),
          { objectMode: true },
        );
      },
    },
  });
  await node.start();
  return { address: `${urls.server}/${clientPort}` };
}

export async function connect(address) {
  const [server, clientPort] = address.split("/");
  const node = broker("client", Number(clientPort), [`${server}/server`, `127.0.0.1:${clientPort}/client`]);
  await node.start();
  await node.waitForServices("greeter", 15_000);
  return {
    hello: async (name) => (await node.call("greeter.hello", { name })).msg,
    echo: async (data) => (await node.call("greeter.echo", { data })).data,
    async count(to) {
      let items = 0;
      for await (const { i } of await node.call("greeter.count", { to })) if (i > 0) items++;
      return items;
    },
    close: () => node.stop(),
  };
}
