// node bench/brokers/peer.mjs consumer|publisher TARGET ADDRESS: one of the two processes of bench/brokers.mjs.
//
// Reads commands as lines of JSON and answers each with one line, `{"error":…}` if it failed:
//   consumer   {"do":"subscribe","side","topic"}     → {"link"?}         subscribed once for the whole run
//              {"do":"expect","side","topic","count"} → {"endNs","p50Ns","p99Ns","cpuUs"} when so many more have been handled
//   publisher  {"do":"publish","side","topic","link","size","count","inFlight","pauseMs"?} → {"startNs","cpuUs"} when all are sent
// A publisher does not wait for what it is not asked to: messages lost make the consumer's answer fail after 20 s.
import { createInterface } from "node:readline";

const [, name, address] = process.argv.slice(2);
const target = await import(`./${name}.mjs`);
const sides = typeof target.sides === "function" ? await target.sides(() => {}) : target.sides;
const backend = JSON.parse(address);
/** Since the machine started, as all processes count; exact enough as a number for a hundred days. */
const nowNs = () => Number(process.hrtime.bigint());
const opened = new Map();
const topics = new Map();

const once = (name_, make) => {
  if (!opened.has(name_)) opened.set(name_, make());
  return opened.get(name_);
};

function cpuMeter() {
  const before = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(before);
    return user + system;
  };
}

const commands = {
  async subscribe({ side, topic }) {
    const consumer = await once(side, () => sides[side].consumer(backend));
    const state = { wanted: 0, latencies: [], done: undefined };
    topics.set(`${side} ${topic}`, state);
    const link = await consumer.subscribe(topic, (body) => {
      state.latencies.push(nowNs() - Buffer.from(body.buffer, body.byteOffset, 8).readDoubleLE());
      if (state.latencies.length === state.wanted) state.done?.();
    });
    return { link };
  },
  async expect({ side, topic, count }) {
    const state = topics.get(`${side} ${topic}`);
    state.wanted = count;
    const cpuUs = cpuMeter();
    // The first may have come before this was asked.
    if (state.latencies.length < count)
      await new Promise((resolve, reject) => {
        let before = -1;
        const timer = setInterval(() => {
          const { length } = state.latencies;
          if (length === before) reject(new Error(`${count - length} of ${count} messages did not come`));
          before = length;
        }, 20_000);
        state.done = () => (clearInterval(timer), resolve());
      });
    const endNs = nowNs();
    const sorted = state.latencies.splice(0, count).toSorted((a, b) => a - b);
    state.wanted = 0;
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
    return { endNs, p50Ns: at(0.5), p99Ns: at(0.99), cpuUs: cpuUs() };
  },
  async publish({ side, topic, link, size, count, inFlight, pauseMs }) {
    const publisher = await once(side, () => sides[side].publisher(backend, link));
    const cpuUs = cpuMeter();
    const startNs = nowNs();
    let left = count;
    await Promise.all(
      Array.from({ length: Math.min(inFlight, count) }, async () => {
        while (left-- > 0) {
          const body = Buffer.alloc(size, 120);
          body.writeDoubleLE(nowNs());
          await publisher.publish(topic, body);
          if (pauseMs !== undefined) await new Promise((resolve) => setTimeout(resolve, pauseMs));
        }
      }),
    );
    return { startNs, cpuUs: cpuUs() };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  let answer;
  try {
    answer = await commands[command.do](command);
  } catch (error) {
    answer = { error: error?.stack ?? String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
for (const peer of opened.values()) await (await peer).close();
process.exit(0);
