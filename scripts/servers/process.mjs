/** A server process: started under a guard, asked until it is ready, signalled and ended by pid. */
import { spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { freePorts, poll } from "./shared.mjs";

// The shell kills the server when the process that started it is gone, however that ended: its end of the pipe closes.
// $1 names a file with the pid of the server proper, where that is a child of the program that is run.
const guard =
  'f=$1; shift; exec 4<&0; "$@" </dev/null 4<&- & p=$!; echo $p >&3; exec 3>&-; (cat <&4 >/dev/null; kill -9 $(cat "$f" 2>/dev/null) $p 2>/dev/null) & c=$!; wait $p; s=$?; kill $c 2>/dev/null; exit $s';

/** A server process with its folder, ports and log; what the `start…` functions give. */
export class ServerProcess {
  #command;
  #environment;
  #prepare;
  #ready;
  #readyWithinMs;
  #pidFile;
  #companion;
  #guard;
  #exited = Promise.resolve();

  /**
   * @param options `command`; `environment` added to this process's; `prepare()` before every start; `ready(server)`;
   *   `readyWithinMs`; `pidFile`, written by the program if it runs the server as its child; `companion`, a process the
   *   server needs, which starts with it and ends with `dispose()`; all else becomes properties
   */
  constructor({
    name,
    folder,
    ports,
    command,
    environment,
    prepare,
    ready,
    readyWithinMs = 60_000,
    pidFile,
    companion,
    ...facts
  }) {
    Object.assign(this, { name, folder, ports, pid: undefined }, facts);
    this.#command = command;
    this.#environment = environment;
    this.#prepare = prepare;
    this.#ready = ready;
    this.#readyWithinMs = readyWithinMs;
    this.#pidFile = pidFile;
    this.#companion = companion;
  }

  /** Where the server's own words are. */
  get logFile() {
    return join(this.folder, "server.log");
  }

  /** Where this start's words begin in the log. */
  logStart = 0;

  async start() {
    if (this.#companion !== undefined && this.#companion.pid === undefined) await this.#companion.start();
    if (this.#pidFile !== undefined) rmSync(this.#pidFile, { force: true });
    await this.#prepare?.();
    this.logStart = this.log().length;
    const log = openSync(this.logFile, "a");
    const [program, ...args] = this.#command;
    const child = spawn("sh", ["-c", guard, "sh", this.#pidFile ?? "/dev/null", program, ...args], {
      stdio: ["pipe", log, log, "pipe"],
      cwd: this.folder,
      env: { ...process.env, ...this.#environment },
    });
    closeSync(log);
    child.stdin.on("error", () => {});
    this.#guard = child;
    let over = false;
    this.#exited = new Promise((resolve) =>
      child.on("close", () => {
        over = true;
        resolve();
      }),
    );
    this.pid = await new Promise((resolve, reject) => {
      child.on("error", reject);
      let text = "";
      child.stdio[3].on("data", (chunk) => {
        text += chunk;
        if (text.includes("\n")) resolve(Number(text));
      });
    });
    await poll(`${this.name} (process ${this.pid}, log ${this.logFile})`, this.#readyWithinMs, async () => {
      if (over) throw new Error(`${this.name} ended at once:\n${this.log().slice(-4_000)}`);
      return this.#ready(this);
    });
    this.pid = this.#serverPid() ?? this.pid;
    return this;
  }

  #serverPid() {
    if (this.#pidFile === undefined) return undefined;
    try {
      return Number(readFileSync(this.#pidFile, "utf8")) || undefined;
    } catch (error) {
      // A server that ends removes it.
      if (error.code !== "ENOENT") throw error;
      return undefined;
    }
  }

  /** All it has logged, over every start. */
  log() {
    return existsSync(this.logFile) ? readFileSync(this.logFile, "utf8") : "";
  }

  signal(signal) {
    process.kill(this.#serverPid() ?? this.pid, signal);
  }

  #signalIfAlive(signal) {
    try {
      this.signal(signal);
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
  }

  /** SIGSTOP: it accepts connections and answers nothing. */
  freeze() {
    this.signal("SIGSTOP");
  }

  thaw() {
    this.signal("SIGCONT");
  }

  /** SIGKILL, as a crash. `start()` brings it back on the same ports with what it had stored. */
  async kill() {
    if (this.pid === undefined) return;
    this.#signalIfAlive("SIGKILL");
    await this.#exited;
    this.pid = undefined;
  }

  /** SIGTERM, and SIGKILL after 15 s. */
  async stop() {
    if (this.pid === undefined) return;
    const timer = setTimeout(() => this.#signalIfAlive("SIGKILL"), 15_000);
    try {
      this.#signalIfAlive("SIGTERM");
      this.#signalIfAlive("SIGCONT");
      await this.#exited;
    } finally {
      clearTimeout(timer);
    }
    this.pid = undefined;
  }

  /** `stop()` and `start()`. */
  async restart() {
    await this.stop();
    return this.start();
  }

  /** What was stored goes, between `kill()` and `start()`. */
  forget() {
    rmSync(join(this.folder, "data"), { recursive: true, force: true });
  }

  /** `kill()`, `forget()` and `start()`: the same address with nothing in it. */
  async wipe() {
    await this.kill();
    this.forget();
    return this.start();
  }

  /** Ends the process and removes its folder. */
  async dispose() {
    await this.kill();
    this.#guard?.stdin.destroy();
    await this.#companion?.dispose();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Start what `create` makes of so many free ports; with others if somebody took one meanwhile. */
export async function startOnFreePorts(count, create) {
  for (let attempt = 1; ; attempt++) {
    const server = create(await freePorts(count));
    try {
      return await server.start();
    } catch (error) {
      const taken = /address already in use|eaddrinuse/i.test(server.log());
      await server.dispose();
      if (!taken || attempt === 3) throw error;
    }
  }
}
