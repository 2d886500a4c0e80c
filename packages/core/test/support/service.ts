import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { LogFields, Logger, LogLevel } from "../../src/logger/logger.ts";

/** Poll until `condition` gives something true. */
export async function waitFor<T>(
  condition: () => T | false | undefined | Promise<T | false | undefined>,
  what: string | (() => string),
  limitMs = 10_000,
): Promise<T> {
  const until = performance.now() + limitMs;
  for (;;) {
    const value = await condition();
    if (value !== false && value !== undefined) return value;
    if (performance.now() > until)
      throw new Error(`waited ${limitMs} ms in vain for ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => void setTimeout(resolve, 5));
  }
}

/** A logger that keeps its lines, `level message`. */
export function keepingLogger(): Logger & { readonly lines: string[] } {
  const lines: string[] = [];
  const write = (level: LogLevel) => (message: string, _fields?: LogFields) => void lines.push(`${level} ${message}`);
  const logger: Logger & { readonly lines: string[] } = {
    lines,
    name: "keeping",
    level: "trace",
    enabled: () => true,
    log: (level, message) => write(level)(message),
    trace: write("trace"),
    debug: write("debug"),
    info: write("info"),
    warn: write("warn"),
    error: write("error"),
    child: () => logger,
  };
  return logger;
}

/** A busy machine may take seconds to start a process. */
const programLimitMs = 30_000;

export interface ProgramOptions {
  args?: readonly string[];
  env?: Readonly<Record<string, string>>;
  cwd?: string;
}

/** A child process that runs a TypeScript program. Disposing kills it. */
export class Program implements AsyncDisposable {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  /** Exit code, or the signal that ended it; undefined while it runs. */
  ended: number | NodeJS.Signals | undefined;

  /** @param file absolute, or the name of a program in `service/programs`. */
  constructor(file: string, options: ProgramOptions = {}) {
    const path = file.startsWith("/") ? file : fileURLToPath(new URL(`../service/programs/${file}`, import.meta.url));
    const env: NodeJS.ProcessEnv = { ...options.env };
    for (const name of ["PATH", "HOME", "TMPDIR", "SystemRoot"])
      if (process.env[name] !== undefined) env[name] = process.env[name];
    this.child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", path, ...(options.args ?? [])], {
      stdio: ["ignore", "pipe", "pipe"],
      env,
      cwd: options.cwd,
    });
    this.child.stdout!.setEncoding("utf8").on("data", (text: string) => (this.stdout += text));
    this.child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.stderr += text));
    this.child.once("close", (code, signal) => (this.ended = code ?? signal ?? 0));
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Wait until stdout or stderr contains a match; returns it. */
  async output(pattern: RegExp): Promise<RegExpExecArray> {
    return waitFor(
      () => {
        const match = pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
        if (match === null && this.ended !== undefined)
          throw new Error(`the program ended (${this.ended}) without ${pattern}\n${this.stdout}\n${this.stderr}`);
        return match ?? undefined;
      },
      () => `${pattern} of the program\n${this.stdout}\n${this.stderr}`,
      programLimitMs,
    );
  }

  /** Wait until it has ended. */
  async end(): Promise<number | NodeJS.Signals> {
    return waitFor(
      () => this.ended,
      () => `the end of the program\n${this.stdout}\n${this.stderr}`,
      programLimitMs,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.ended !== undefined) return;
    const closed = once(this.child, "close");
    this.child.kill("SIGKILL");
    await closed;
  }
}
