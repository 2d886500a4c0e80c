import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { MicroError } from "../../src/errors.ts";
import { mdnsRegistry } from "../../src/registry/mdns/mdns-registry.ts";
import { createService } from "../../src/service/service.ts";
import type { MicroService } from "../../src/service/service.ts";
import { Program, keepingLogger, waitFor } from "../support/service.ts";

interface Outcome {
  readonly call: number;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly pid?: number;
  readonly error?: unknown;
}

interface CrowdOptions {
  wire?: "auto" | "http";
  port?: number;
}

const anyPort = () => 20_000 + Math.floor(Math.random() * 12_000);

/** A cluster of the program `cluster.ts`, what its processes noted in order, and a caller. */
class Crowd implements AsyncDisposable {
  /** Of its mdns group: clusters with the same one meet. */
  readonly port: number;
  readonly program: Program;
  readonly client: MicroService;
  readonly #folder = mkdtempSync(join(tmpdir(), "micro-cluster-"));
  readonly #registry;

  constructor(env: Record<string, string> = {}, { wire = "auto", port = anyPort() }: CrowdOptions = {}) {
    this.port = port;
    const log = join(this.#folder, "log");
    this.program = new Program("cluster.ts", {
      env: { TEST_MDNS_PORT: String(port), TEST_LOG: log, MICRO_LOG_LEVEL: "warn", ...env },
    });
    this.#registry = mdnsRegistry({ loopbackOnly: true, port });
    this.client = createService({ name: "caller", registry: this.#registry, logger: keepingLogger(), wire });
  }

  get notes(): string[] {
    try {
      return readFileSync(join(this.#folder, "log"), "utf8").split("\n").slice(0, -1);
    } catch {
      return [];
    }
  }

  /** The notes of each kind, without who wrote them. */
  count(what: string): number {
    return this.notes.filter((line) => line.includes(what)).length;
  }

  /** Pids of workers that have started, in order. */
  get started(): number[] {
    return this.notes.flatMap((line) => {
      const pid = /^worker (\d+): afterStart/.exec(line)?.[1];
      return pid === undefined ? [] : [Number(pid)];
    });
  }

  async ready(): Promise<{ node: string; address: string }> {
    const line = await waitFor(
      () => {
        if (this.program.ended !== undefined)
          throw new Error(`ended (${this.program.ended})\n${this.program.stdout}\n${this.program.stderr}`);
        return this.notes.find((note) => note.startsWith("primary: ready"));
      },
      () => `the cluster\n${this.notes.join("\n")}\n${this.program.stderr}`,
      60_000,
    );
    const [, , node = "", address = ""] = line.split(" ");
    return { node, address };
  }

  async pid(): Promise<number> {
    return (await this.client.call<{ pid: number }>("crowd", "Crowd.Pid", {})).pid;
  }

  /** Let 12 calls run at once until all of `pids` have answered; returns who answered in all. */
  async answeredBy(pids: readonly number[], client = this.client): Promise<Set<number>> {
    const seen = new Set<number>();
    const work = () => client.call<{ pid: number }>("crowd", "Crowd.Work", { call: 0, ms: 5 });
    await waitFor(
      async () => {
        for (const { pid } of await Promise.all(Array.from({ length: 12 }, work))) seen.add(pid);
        return pids.every((pid) => seen.has(pid));
      },
      () => `answers of ${pids.join(", ")}; seen ${[...seen].join(", ")}`,
      30_000,
    );
    return seen;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.stop();
    await this.#registry[Symbol.asyncDispose]();
    // Workers see their primary go, and end.
    const workers = this.notes.flatMap((line) => /^worker (\d+): beforeStart/.exec(line)?.[1] ?? []);
    await this.program[Symbol.asyncDispose]();
    await waitFor(
      () => workers.every((pid) => !alive(Number(pid))),
      `the end of workers ${workers.join(", ")}`,
      45_000,
    );
    rmSync(this.#folder, { recursive: true });
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** 200 calls a second, until it is ended. */
class Load {
  readonly outcomes: Outcome[] = [];
  readonly #crowd: Crowd;
  readonly #timer: NodeJS.Timeout;
  readonly #from = performance.now();
  readonly #running = new Set<Promise<void>>();
  #calls = 0;
  #lastTick = this.#from;
  /** Longest time in which this process got no turn, and could learn nothing. */
  longestStallMs = 0;

  constructor(crowd: Crowd) {
    this.#crowd = crowd;
    this.#timer = setInterval(() => {
      const now = performance.now();
      this.longestStallMs = Math.max(this.longestStallMs, now - this.#lastTick);
      this.#lastTick = now;
      const due = ((now - this.#from) / 1000) * 200;
      while (this.#calls < due) {
        const running = this.#call(++this.#calls).finally(() => this.#running.delete(running));
        this.#running.add(running);
      }
    }, 5);
  }

  async #call(call: number): Promise<void> {
    const startedAt = performance.now();
    const done = (rest: { pid: number } | { error: unknown }) =>
      void this.outcomes.push({ call, startedAt, endedAt: performance.now(), ...rest });
    try {
      done(await this.#crowd.client.call<{ pid: number }>("crowd", "Crowd.Work", { call }, { timeoutMs: 5000 }));
    } catch (error) {
      done({ error });
    }
  }

  async more(calls: number): Promise<void> {
    const goal = this.outcomes.length + calls;
    await waitFor(() => this.outcomes.length >= goal, `${calls} calls`, 30_000);
  }

  get failures(): Outcome[] {
    return this.outcomes.filter(({ error }) => error !== undefined);
  }

  async end(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#running);
  }
}

describe("a service of several processes", () => {
  it.each(["auto", "http"] as const)("is one node, and one caller reaches all of them (wire %s)", async (wire) => {
    await using crowd = new Crowd({}, { wire });
    const { node, address } = await crowd.ready();
    const records = await crowd.client.registry.getService("crowd");
    expect(records.flatMap(({ nodes }) => nodes.map(({ id, address: at }) => [id, at]))).toEqual([[node, address]]);
    expect(records[0]?.nodes[0]?.metadata).toMatchObject({ wire: "micro/1", "wire-workers": "3", registry: "mdns" });
    expect(records[0]?.endpoints.map(({ name }) => name)).toContain("Crowd.Work");
    expect(crowd.started).toHaveLength(3);
    await crowd.answeredBy(crowd.started);
    // All are that node, and each counts its own calls.
    expect(crowd.notes.filter((line) => line.includes(`afterStart ${node} ${address}`))).toHaveLength(3);
  });

  it("subscribes in every worker: each gets what is published, and one of them what is for a queue", async () => {
    await using crowd = new Crowd({ TEST_EVENTS: "yes" });
    await crowd.ready();
    await crowd.client.publish("crowd.news", { n: 0 });
    await waitFor(
      () => crowd.count("news 0") === 3 || undefined,
      () => crowd.notes.join("\n"),
      20_000,
    );
    const jobs = Array.from({ length: 12 }, (_, n) => n);
    await Promise.all(jobs.map((n) => crowd.client.publish("crowd.jobs", { n })));
    await waitFor(
      () => crowd.count(": job ") >= jobs.length || undefined,
      () => crowd.notes.join("\n"),
      20_000,
    );
    expect(
      crowd.notes
        .filter((line) => line.includes(": job "))
        .map((line) => Number(line.split(" ").at(-1)))
        .toSorted((a, b) => a - b),
    ).toEqual(jobs);
  });

  it("stops in the order of a single one, and the primary ends last", async () => {
    await using crowd = new Crowd();
    await crowd.ready();
    await crowd.answeredBy(crowd.started);
    crowd.program.kill("SIGTERM");
    expect(await crowd.program.end()).toBe(0);
    const kinds = crowd.notes.slice(-10).map((line) => line.replace(/^worker \d+/, "worker"));
    expect(kinds.slice(0, 3)).toEqual(Array(3).fill("worker: beforeStop"));
    expect(kinds.slice(3, 9).toSorted()).toEqual([
      ...Array(3).fill("worker: afterStop"),
      ...Array(3).fill("worker: over"),
    ]);
    expect(kinds.at(-1)).toBe("primary: over");
    expect(await crowd.client.registry.getService("crowd")).toEqual([]);
  });

  it("loses no call when it is stopped under load and another one takes over", async () => {
    await using old = new Crowd();
    await old.ready();
    await using load = stopping(new Load(old));
    await load.value.more(200);
    await using successor = new Crowd({}, { port: old.port });
    await successor.ready();
    await waitFor(
      () => load.value.outcomes.some(({ pid }) => pid !== undefined && successor.started.includes(pid)),
      "calls to the successor",
      30_000,
    );
    old.program.kill("SIGTERM");
    expect(await old.program.end()).toBe(0);
    await load.value.more(200);
    await load.value.end();
    expect(load.value.failures.map(({ error }) => String(error))).toEqual([]);
  });

  it("loses what runs in a worker that is killed, nothing else, and replaces it", async () => {
    await using crowd = new Crowd();
    await crowd.ready();
    await using load = stopping(new Load(crowd));
    await waitFor(() => new Set(load.value.outcomes.map(({ pid }) => pid)).size === 3, "answers of all", 30_000);
    await load.value.more(100);
    const [victim = 0, ...others] = crowd.started;
    const killedAt = performance.now();
    process.kill(victim, "SIGKILL");
    await waitFor(() => crowd.started.length === 4, "a replacement", 30_000);
    await load.value.more(300);
    await load.value.end();
    for (const { error, startedAt } of load.value.failures) {
      expect(MicroError.is(error) && error.code).toBe("unavailable");
      // Handlers take 20 ms; what was sent before the death of the process could be known is lost as well.
      expect(startedAt).toBeGreaterThan(killedAt - 1_000 - load.value.longestStallMs);
      expect(startedAt).toBeLessThan(killedAt + 250 + load.value.longestStallMs);
    }
    expect(load.value.failures.length).toBeLessThan(100);
    expect(crowd.program.stderr).toMatch(new RegExp(`Worker \\[${victim}\\] ended with SIGKILL: it is replaced`));
    const replacement = crowd.started.at(-1) as number;
    // By a caller that comes now; those that were there get to it within their connections' age.
    await using late = createService({ name: "late", registry: crowd.client.registry, logger: keepingLogger() });
    const seen = await crowd.answeredBy([replacement], late);
    expect([...seen].every((pid) => [replacement, ...others].includes(pid))).toBe(true);
  });

  it("is out of the registry while one of its workers says so", async () => {
    await using crowd = new Crowd({ TEST_CHECK: "on" });
    const { address } = await crowd.ready();
    await crowd.client.call("crowd", "Crowd.Sick", { ms: 3_000 }, { address });
    await waitFor(async () => (await crowd.client.registry.getService("crowd")).length === 0, "its absence");
    await waitFor(async () => (await crowd.client.registry.getService("crowd")).length === 1, "its return");
    expect(crowd.program.stderr).toContain("Register check failed: not ready");
  });

  it("keeps its port when its only worker dies, whatever port it was", async () => {
    for (const place of ["127.0.0.1:0", ":0"]) {
      await using crowd = new Crowd({ TEST_WORKERS: "1", TEST_ADDRESS: place });
      const { address } = await crowd.ready();
      await crowd.client.call("crowd", "Crowd.End", { code: 0 }).catch(() => {});
      await waitFor(() => crowd.started.length === 2, "a replacement", 30_000);
      expect(await crowd.pid()).toBe(crowd.started[1]);
      expect(crowd.notes.at(-1)).toContain(address);
    }
  });

  it("shares one of a range of ports, the first that is free", async () => {
    const blocker = createServer().listen(0, "127.0.0.1");
    await once(blocker, "listening");
    const { port } = blocker.address() as { port: number };
    await using crowd = new Crowd({ TEST_ADDRESS: `127.0.0.1:${port}-${port + 20}` });
    const { address } = await crowd.ready();
    expect(Number(address.split(":")[1])).toBeGreaterThan(port);
    await crowd.answeredBy(crowd.started);
    process.kill(crowd.started[0] as number, "SIGKILL");
    await waitFor(() => crowd.started.length === 4, "a replacement", 30_000);
    expect(crowd.notes.at(-1)).toContain(address);
    blocker.close();
  });

  it("shares a unix domain socket", async () => {
    const folder = mkdtempSync(join(tmpdir(), "micro-cluster-unix-"));
    const place = `unix:${join(folder, "crowd")}`;
    // mdns cannot carry such an address.
    await using crowd = new Crowd({ TEST_ADDRESS: place, TEST_REGISTRY: "memory" });
    expect((await crowd.ready()).address).toBe(place);
    const all = async (pids: readonly number[]) => {
      const seen = new Set<number>();
      const options = { address: place, freshConnection: true };
      await waitFor(
        async () => {
          seen.add((await crowd.client.call<{ pid: number }>("crowd", "Crowd.Pid", {}, options)).pid);
          return pids.every((pid) => seen.has(pid));
        },
        `answers of ${pids.join(", ")}`,
      );
    };
    await all(crowd.started);
    process.kill(crowd.started[0] as number, "SIGKILL");
    await waitFor(() => crowd.started.length === 4, "a replacement", 30_000);
    await all(crowd.started.slice(1));
    crowd.program.kill("SIGTERM");
    expect(await crowd.program.end()).toBe(0);
    expect(existsSync(join(folder, "crowd"))).toBe(false);
    rmSync(folder, { recursive: true });
  });

  it("ends with the code of a worker that cannot start, which is said once", async () => {
    await using failing = new Crowd({ TEST_FAIL: "start", MICRO_LOG_LEVEL: "error" });
    expect(await failing.program.end()).toBe(7);
    expect(failing.program.stderr).toBe("this worker cannot start\n");
    expect(failing.count("beforeStart")).toBe(1);

    const blocker = createServer().listen(0, "127.0.0.1");
    await once(blocker, "listening");
    const { port } = blocker.address() as { port: number };
    await using taken = new Crowd({ TEST_ADDRESS: `127.0.0.1:${port}` });
    expect(await taken.program.end()).toBe(1);
    const told = taken.program.stdout + taken.program.stderr;
    expect(told.match(/cannot start: cannot listen on 127\.0\.0\.1:\d+: EADDRINUSE/g)?.length, told).toBe(1);
    blocker.close();
  });

  it("ends when the first worker fails in its last hook, and in good order when one stops it there", async () => {
    await using failing = new Crowd({ TEST_FAIL: "afterStart", MICRO_LOG_LEVEL: "error" });
    expect(await failing.program.end()).toBe(1);
    expect(failing.program.stderr.match(/^Error: this worker cannot go on/gm)?.length).toBe(1);
    expect([failing.count("afterStart"), failing.count("over")]).toEqual([1, 2]);
    for (const workers of [1, 3]) {
      await using stopped = new Crowd({ TEST_FAIL: "stop", TEST_WORKERS: String(workers) });
      expect(await stopped.program.end()).toBe(0);
      expect(stopped.count("over")).toBe(workers + 1);
      // Whoever had started stops in good order; the others may or may not have come so far.
      expect(stopped.count("afterStop")).toBe(stopped.count("afterStart"));
      expect(stopped.count("afterStop")).toBeGreaterThan(0);
    }
  });

  it("starts no worker for a wrong flag", async () => {
    await using program = new Program("cluster.ts", { args: ["--nope"], env: { TEST_MDNS_PORT: "20001" } });
    expect(await program.end()).toBe(1);
    expect([program.stderr, program.stdout]).toEqual(["crowd: unknown flag --nope; --help lists the flags\n", ""]);
  });

  it("gives up a worker that ends again and again", async () => {
    await using crowd = new Crowd({ TEST_WORKERS: "1" });
    await crowd.ready();
    const ending = waitFor(
      async () => {
        if (crowd.program.ended !== undefined) return true;
        await crowd.client.call("crowd", "Crowd.End", { code: 3 }, { timeoutMs: 500 }).catch(() => {});
        return false;
      },
      "the end of the program",
      100_000,
    );
    await ending;
    expect(crowd.program.ended).toBe(3);
    expect(crowd.program.stderr).toContain("for the 10th time in a row: the service stops");
    // Some may have ended before they said that they had started.
    expect(crowd.count("beforeStart")).toBe(10);
  });

  it("stops as a whole when a worker is asked to, and ends with the code of one that did not end well", async () => {
    await using crowd = new Crowd();
    await crowd.ready();
    await crowd.client.call("crowd", "Crowd.FailLater", {});
    await crowd.client.call("crowd", "Crowd.Stop", {});
    expect(await crowd.program.end()).toBe(9);
    expect([crowd.count("afterStop"), crowd.count("over")]).toEqual([3, 3]);
  });

  it("ends at once on a second signal, with all its processes", async () => {
    await using crowd = new Crowd();
    await crowd.ready();
    const hanging = crowd.client.call("crowd", "Crowd.Hang", {}, { timeoutMs: 20_000 }).catch(() => {});
    await waitFor(() => crowd.count("hanging") === 1, "a call that does not end");
    crowd.program.kill("SIGINT");
    await waitFor(() => crowd.count("beforeStop") === 3, "the stop");
    // Workers are in the terminal's process group, too: they leave signals to the primary.
    for (const pid of crowd.started) process.kill(pid, "SIGINT");
    crowd.program.kill("SIGINT");
    expect(await crowd.program.end()).toBe(130);
    await waitFor(() => crowd.started.every((pid) => !alive(pid)), "the end of the workers");
    await hanging;
  });

  it("drains when the primary is killed", async () => {
    await using crowd = new Crowd();
    await crowd.ready();
    const call = crowd.client.call<{ call: number }>("crowd", "Crowd.Work", { call: 5, ms: 1_500 });
    await waitFor(() => crowd.client.call("crowd", "Crowd.Pid", {}).then(() => true), "a connection");
    crowd.program.kill("SIGKILL");
    expect((await call).call).toBe(5);
    await waitFor(() => crowd.count("afterStop") === 3, "all workers drained", 45_000);
  });
});

/** Ends a load with its block. */
function stopping(value: Load): AsyncDisposable & { readonly value: Load } {
  return { value, [Symbol.asyncDispose]: () => value.end() };
}
