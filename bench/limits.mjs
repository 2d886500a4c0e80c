// `node bench/limits.mjs [--seconds N] [--only TEXT]`: how long honest calls take while a peer drives a limit of docs/limits.md to its bound, beside the
// time just before: the listener, the honest and the hostile caller are a process each. Ratios are of one run; the machine should do nothing else.
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({ options: { seconds: { type: "string", default: "6" }, only: { type: "string" } } });
const seconds = Number(values.seconds);
const program = fileURLToPath(new URL("../packages/core/test/transport/programs/limits-load.ts", import.meta.url));

async function start(...parameters) {
  const child = fork(program, parameters);
  const [first] = await once(child, "message");
  return [child, first];
}

async function ask(child, question) {
  const answer = once(child, "message");
  child.send(question);
  return (await answer)[0];
}

const [listener, address] = await start("listener");
const [honest] = await start("honest", address);
const [list, kinds] = await start("kinds");
list.kill();
await ask(honest, 2);
const ms = (time) => time.toFixed(2).padStart(8);
console.log(`${"".padEnd(46)}${"p99 quiet".padStart(11)}${"under load".padStart(11)}   ratio  failed   rss MiB`);
for (const kind of kinds.filter((name) => values.only === undefined || name.includes(values.only))) {
  const quiet = await ask(honest, seconds);
  const [hostile] = await start("hostile", address, kind);
  const loaded = await ask(honest, seconds);
  const { rss } = await ask(listener, "memory");
  hostile.kill();
  const ratio = (loaded.p99 / quiet.p99).toFixed(2).padStart(8);
  const rest = `${String(loaded.failures.length).padStart(8)}${String(Math.round(rss / 2 ** 20)).padStart(10)}`;
  console.log(`${kind.padEnd(46)}${ms(quiet.p99)} ms${ms(loaded.p99)} ms${ratio}${rest}`);
  // What the hostile one had sent is read at its rate.
  for (let held = Infinity; held > 10_000;) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    ({ fromCallers: held } = (await ask(listener, "memory")).held);
  }
}
listener.kill();
honest.kill();
