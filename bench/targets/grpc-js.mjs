import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const { greeter } = grpc.loadPackageDefinition(
  loader.loadSync(fileURLToPath(new URL("../greeter.proto", import.meta.url))),
);

export async function serve() {
  const server = new grpc.Server();
  server.addService(greeter.Greeter.service, {
    Hello: (call, done) => done(null, { msg: `Hello ${call.request.name}` }),
    Echo: (call, done) => done(null, call.request),
    async Count(call) {
      for (let i = 1; i <= call.request.to; i++) {
        if (!call.write({ i })) await new Promise((resolve) => call.once("drain", resolve));
      }
      call.end();
    },
  });
  const port = await new Promise((resolve, reject) =>
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  return { address: `127.0.0.1:${port}` };
}

export async function connect(address) {
  const client = new greeter.Greeter(address, grpc.credentials.createInsecure());
  const unary = (method, request) =>
    new Promise((resolve, reject) =>
      client[method](request, (error, reply) => (error ? reject(error) : resolve(reply))),
    );
  return {
    hello: async (name) => (await unary("Hello", { name })).msg,
    echo: async (data) => (await unary("Echo", { data })).data,
    async count(to) {
      let items = 0;
      for await (const { i } of client.Count({ to })) if (i > 0) items++;
      return items;
    },
    close: () => client.close(),
  };
}
