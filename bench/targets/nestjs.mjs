// NestJS microservices over its TCP transport; decorators are applied by hand, since this is plain JavaScript.
import "reflect-metadata";
import net from "node:net";
import { Controller, Module } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { ClientProxyFactory, MessagePattern, Payload, Transport } from "@nestjs/microservices";
import { from, firstValueFrom } from "rxjs";

class Greeter {
  hello({ name }) {
    return { msg: `Hello ${name}` };
  }
  echo(message) {
    return message;
  }
  count({ to }) {
    return from(
      (function* () {
        for (let i = 1; i <= to; i++) yield { i };
      })(),
    );
  }
}
for (const method of ["hello", "echo", "count"]) {
  MessagePattern(method)(Greeter.prototype, method, Object.getOwnPropertyDescriptor(Greeter.prototype, method));
  Payload()(Greeter.prototype, method, 0);
}
Controller()(Greeter);
class Application {}
Module({ controllers: [Greeter] })(Application);

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export async function serve() {
  const port = await freePort();
  const application = await NestFactory.createMicroservice(Application, {
    transport: Transport.TCP,
    options: { host: "127.0.0.1", port },
    logger: false,
  });
  await application.listen();
  return { address: `127.0.0.1:${port}` };
}

export async function connect(address) {
  const [host, port] = address.split(":");
  const client = ClientProxyFactory.create({ transport: Transport.TCP, options: { host, port: Number(port) } });
  await client.connect();
  return {
    hello: async (name) => (await firstValueFrom(client.send("hello", { name }))).msg,
    echo: async (data) => (await firstValueFrom(client.send("echo", { data }))).data,
    count: (to) =>
      new Promise((resolve, reject) => {
        let items = 0;
        client.send("count", { to }).subscribe({ next: () => items++, error: reject, complete: () => resolve(items) });
      }),
    close: () => client.close(),
  };
}
