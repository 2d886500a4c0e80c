/** The processes of the fleet: started, killed, frozen, stopped in good order, and started again. */
import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream, mkdirSync, readFileSync, readdirSync } from "node:fs";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { backendEnvironment, type BackendAddress } from "./connect.ts";
import type { Trouble } from "./backends.ts";
import type { Random } from "./random.ts";
import { roleNames, type RoleName } from "./roles.ts";
import type { Report, Vitals } from "./service.ts";

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
/** A busy machine takes its time. */
const patienceMs = 30_000;
const maxLastWords = 1_000;

/** A process, from its start to its end. */
class Member {
  readonly role: RoleName;
  readonly port: number;
  readonly child: ChildProcess;
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  /** What it wrote last, for whoever asks why it ended. */
  lastWords = "";
  /** It has handlers for signals; before, Node's own end it at once. */
  running = false;
  readonly #ready = Promise.withResolvers<boolean>();
  /** It serves, and has told the registry; false if it ended first. */
  readonly ready: Promise<boolean> = this.#ready.promise;
  /** {@link ready} has come true. */
  serving = false;
  /** Somebody is doing something to it: others leave it alone. */
  busy = false;
  /** It is frozen and cut off like others, but neither killed nor stopped: what it holds at the end tells of leaks. */
  readonly stays: boolean;

  constructor(role: RoleName, port: number, stays: boolean, folder: string, backend: BackendAddress) {
    this.role = role;
    this.port = port;
    this.stays = stays;
    const log = createWriteStream(join(folder, `${role}.log`), { flags: "a" });
    this.child = spawn(
      process.execPath,
      ["--expose-gc", "--import", here("resolve.mjs"), here("service.ts"), role, folder, `127.0.0.1:${port}`],
      {
        env: {
          PATH: process.env["PATH"],
          HOME: process.env["HOME"],
          MICRO_LOG_LEVEL: "warn",
          ...backendEnvironment(backend),
        },
        stdio: ["ignore", "pipe", "pipe", "ipc"],
      },
    );
    for (const output of [this.child.stdout, this.child.stderr]) {
      output?.pipe(log, { end: false });
      output?.on(
        "data",
        (chunk: Buffer) => (this.lastWords = (this.lastWords + chunk.toString()).slice(-maxLastWords)),
      );
    }
    this.child.on("error", () => {}); // a question to a process that is just ending
    this.child.on("message", (report: Report | Vitals) => {
      if (report === "running") this.running = true;
      if (report !== "ready") return;
      this.serving = true;
      this.#ready.resolve(true);
    });
    this.exited = once(this.child, "exit").then(([code, signal]) => {
      log.end();
      this.#ready.resolve(false);
      return { code: code as number | null, signal: signal as NodeJS.Signals | null };
    });
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async vitals(): Promise<Vitals> {
    const { promise, resolve, reject } = Promise.withResolvers<Vitals>();
    const take = (message: Report | Vitals): void => {
      if (typeof message === "object") resolve(message);
    };
    this.child.on("message", take);
    const timer = setTimeout(() => reject(new Error(`${this.role} does not say how it is`)), patienceMs);
    this.child.send("vitals");
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.child.off("message", take);
    }
  }
}

/** What the end of a process in good order looked like where it was not good. */
export interface BadEnd {
  readonly role: RoleName;
  readonly how: string;
}

export interface FleetOptions {
  readonly folder: string;
  readonly backend: BackendAddress;
  /** Instances of each role. */
  readonly instances: number;
  readonly firstPort: number;
}

export class Fleet implements AsyncDisposable {
  readonly #options: FleetOptions;
  readonly #members = new Set<Member>();
  #nextPort: number;
  readonly badEnds: BadEnd[] = [];
  /** Processes that ended in good order when they were told to. */
  stopped = 0;

  constructor(options: FleetOptions) {
    this.#options = options;
    this.#nextPort = options.firstPort;
    mkdirSync(options.folder, { recursive: true });
  }

  start(): void {
    for (const role of roleNames)
      for (let n = 0; n < this.#options.instances; n++) this.#launch(role, this.#nextPort++, n === 0);
  }

  #launch(role: RoleName, port = this.#nextPort++, stays = false): Member {
    const { folder, backend } = this.#options;
    const member = new Member(role, port, stays, folder, backend);
    this.#members.add(member);
    void this.#mind(member);
    return member;
  }

  /** One that ends without being told to is a fault; it is started again, as an orchestrator would. */
  async #mind(member: Member): Promise<void> {
    const { code, signal } = await member.exited;
    if (member.busy) return;
    const how = `ended by itself with ${signal ?? `code ${code}`}, having said last: ${member.lastWords.trim()}`;
    this.badEnds.push({ role: member.role, how });
    this.#members.delete(member);
    if (!this.#over) this.#launch(member.role);
  }
  #over = false;

  /** One that serves, that nobody is doing anything to, and that is not the last of its role. @param survives it is not ended. */
  #victim(random: Random, survives: boolean): Member | undefined {
    const free = [...this.#members].filter((member) => member.serving && member.alive && !member.busy);
    const spare = free.filter(
      ({ role, stays }) => (survives || !stays) && free.filter((other) => other.role === role).length > 1,
    );
    return spare.length === 0 ? undefined : random.pick(spare);
  }

  #count(role: RoleName): number {
    return [...this.#members].filter((member) => member.role === role && member.serving && member.alive).length;
  }

  readonly troubles: readonly Trouble[] = [
    {
      name: "a process is killed",
      weight: 6,
      strike: async (random) => {
        const victim = this.#victim(random, false);
        if (victim === undefined) return;
        await this.#kill(victim);
        await sleep(random.between(0, 2_000));
        this.#launch(victim.role);
      },
    },
    {
      name: "a process is killed, and another service takes its port",
      weight: 3,
      strike: async (random) => {
        const victim = this.#victim(random, false);
        if (victim === undefined) return;
        await this.#kill(victim);
        this.#launch(random.pick(roleNames.filter((role) => role !== victim.role)), victim.port);
        this.#launch(victim.role);
      },
    },
    {
      name: "a process is stopped and replaced",
      weight: 5,
      strike: async (random) => {
        const victim = this.#victim(random, false);
        if (victim === undefined) return;
        // A port that changed hands has left one process more than there were.
        if (this.#count(victim.role) <= this.#options.instances) {
          victim.busy = true;
          await Promise.race([this.#launch(victim.role).ready, sleep(patienceMs, undefined, { ref: false })]);
          victim.busy = false;
          // It may have ended meanwhile, or be the last one left.
          if (!victim.alive || this.#count(victim.role) < 2) return;
        }
        await this.#stop(victim);
      },
    },
    {
      name: "a process is frozen",
      weight: 4,
      strike: async (random) => {
        const victim = this.#victim(random, true);
        if (victim === undefined) return;
        victim.busy = true;
        victim.child.kill("SIGSTOP");
        await sleep(random.between(200, 5_000));
        victim.child.kill("SIGCONT");
        await sleep(500);
        victim.busy = false;
      },
    },
  ];

  async #kill(member: Member): Promise<void> {
    member.busy = true;
    member.child.kill("SIGKILL");
    await member.exited;
    this.#members.delete(member);
  }

  async #stop(member: Member): Promise<void> {
    member.busy = true;
    member.child.kill("SIGTERM");
    const end = await Promise.race([member.exited, sleep(patienceMs, undefined, { ref: false })]);
    if (end === undefined) {
      this.badEnds.push({ role: member.role, how: `did not end within ${patienceMs / 1000} s of SIGTERM` });
      member.child.kill("SIGKILL");
      await member.exited;
    } else if (end.code === 0) this.stopped += 1;
    else this.badEnds.push({ role: member.role, how: `ended with ${end.signal ?? `code ${end.code}`} after SIGTERM` });
    this.#members.delete(member);
  }

  /** Memory and handles of all that run, by process id. */
  async vitals(): Promise<Map<number, Vitals & { readonly role: RoleName }>> {
    const found = new Map<number, Vitals & { readonly role: RoleName }>();
    for (const member of this.#members)
      if (member.alive && member.child.connected && member.child.pid !== undefined)
        // oxlint-disable-next-line no-await-in-loop -- all of them collecting garbage at once would measure each other
        found.set(member.child.pid, { role: member.role, ...(await member.vitals()) });
    return found;
  }

  /** Effects written by all processes so far, by what they are: each id as often as it happened. */
  effects(): Map<string, string[]> {
    const found = new Map<string, string[]>();
    for (const file of readdirSync(this.#options.folder).filter((name) => name.startsWith("effects-")))
      for (const line of readFileSync(join(this.#options.folder, file), "utf8").split("\n")) {
        const [what = "", id = ""] = line.split(" ");
        if (what === "") continue;
        const ids = found.get(what);
        if (ids === undefined) found.set(what, [id]);
        else ids.push(id);
      }
    return found;
  }

  /** All of them, in good order. */
  async stop(): Promise<void> {
    this.#over = true;
    await Promise.all(
      [...this.#members].map(async (member) => {
        // Before that it knows nothing of signals.
        while (!member.running && member.alive) await sleep(20);
        await this.#stop(member);
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    await Promise.all([...this.#members].map((member) => this.#kill(member)));
  }
}
