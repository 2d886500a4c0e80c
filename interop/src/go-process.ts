/** A running Go peer: its lines of JSON, and its end. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** What peers print, see `go/peer/main.go`; everything else they write is go-micro's log. */
export type Line = Record<string, any>;

const mark = "\x1e";
const running = new Set<ChildProcess>();
process.once("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

export class GoProcess implements AsyncDisposable {
  readonly lines: Line[] = [];
  /** The last of what it logged, for reports of failures. */
  log = "";
  readonly exited: Promise<number | null>;
  #ended = false;
  readonly #child: ChildProcess;
  #wake = Promise.withResolvers<void>();

  /** @param input whether lines are to be written to it; without, its input is empty. */
  constructor(binary: string, parameters: readonly string[], home: string, input = false) {
    // A clean environment: MICRO_* variables of the caller would override what the peers are told.
    this.#child = spawn(binary, parameters, {
      env: { HOME: home, PATH: "/usr/bin:/bin" },
      stdio: [input ? "pipe" : "ignore", "pipe", "pipe"],
    });
    // It may end before it has read everything; that shows in its lines.
    this.#child.stdin?.on("error", () => {});
    running.add(this.#child);
    const read = (text: string): void => {
      if (text.startsWith(mark)) {
        this.lines.push(JSON.parse(text.slice(1)) as Line);
        this.#changed();
      } else if (text !== "") this.log = `${this.log}${text}\n`.slice(-4000);
    };
    createInterface({ input: this.#child.stdout! }).on("line", read);
    createInterface({ input: this.#child.stderr! }).on("line", read);
    this.exited = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        this.log += `${String(error)}\n`;
        this.#finish();
        resolve(null);
      });
      this.#child.once("close", (code) => {
        this.#finish();
        resolve(code);
      });
    });
  }

  #finish(): void {
    this.#ended = true;
    running.delete(this.#child);
    this.#changed();
  }

  #changed(): void {
    const { resolve } = this.#wake;
    this.#wake = Promise.withResolvers();
    resolve();
  }

  /** The first line, from `from` on, that `wanted` accepts. */
  async line(what: string, wanted: (line: Line) => boolean, timeoutMs = 30_000, from = 0): Promise<Line> {
    const limit = Promise.withResolvers<never>();
    limit.promise.catch(() => {});
    const timer = setTimeout(
      () => limit.reject(new Error(`the Go peer did not say "${what}" in ${timeoutMs} ms: ${this.describe()}`)),
      timeoutMs,
    );
    try {
      for (let next = from; ;) {
        for (; next < this.lines.length; next++) if (wanted(this.lines[next]!)) return this.lines[next]!;
        if (this.#ended) throw new Error(`the Go peer ended before it said "${what}": ${this.describe()}`);
        await Promise.race([this.#wake.promise, limit.promise]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  write(line: unknown): void {
    this.#child.stdin!.write(`${JSON.stringify(line)}\n`);
  }

  endInput(): void {
    this.#child.stdin!.end();
  }

  describe(): string {
    return `lines ${JSON.stringify(this.lines.slice(-5))}, log ${JSON.stringify(this.log.slice(-1500))}`;
  }

  kill(signal: "SIGTERM" | "SIGKILL"): void {
    if (!this.#ended) this.#child.kill(signal);
  }

  /** End it: politely, so that it deregisters, then not. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ended) return;
    this.kill("SIGTERM");
    const timer = setTimeout(() => this.kill("SIGKILL"), 5_000);
    await this.exited;
    clearTimeout(timer);
  }
}
