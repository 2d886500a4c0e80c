// A listener that answers calls and streams after the milliseconds that their body, or endpoint, names. Prints its address.
import { httpTransport } from "../../../src/transport/http/http-transport.ts";

const listener = await httpTransport().listen(
  (exchange) => {
    const body = Buffer.from("there");
    setTimeout(() => {
      if (exchange.endpoint === "T.Call") return exchange.reply({ contentType: "x", body });
      const stream = exchange.stream();
      void stream.send({ contentType: "x", body });
      return stream.end();
    }, 20);
  },
  { address: "127.0.0.1:0" },
);
process.stdout.write(`${listener.address}\n`);
