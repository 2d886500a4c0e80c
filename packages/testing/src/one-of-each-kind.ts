/** Handlers that tell whether anything was run. */
import { bidiHandler, clientStreamHandler, type Server } from "@micro/core";

/** Give `server` a `Greeter` with one endpoint of each kind; `runs` gets the name of every one that is run. */
export function handleOneOfEachKind(server: Server, runs: string[]): void {
  server.handle("Greeter", {
    hello: () => void runs.push("hello"),
    *count() {
      runs.push("count");
      yield {};
    },
    sum: clientStreamHandler(async () => void runs.push("sum")),
    chat: bidiHandler(async function* () {
      runs.push("chat");
      yield {};
    }),
  });
}
