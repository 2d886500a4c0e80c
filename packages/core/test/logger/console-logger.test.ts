import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { logRing } from "../../src/debug/log-ring.ts";
import { MicroError } from "../../src/errors.ts";
import {
  consoleLogger,
  parseLogLevel,
  silentLogger,
  type ConsoleLoggerOptions,
} from "../../src/logger/console-logger.ts";
import type { LogFields, Logger, LogLevel } from "../../src/logger/logger.ts";

const time = new Date(2020, 6, 1, 10, 0, 9);

function capture(options: ConsoleLoggerOptions = {}): { logger: Logger; lines: string[] } {
  const lines: string[] = [];
  const logger = consoleLogger({
    clock: () => time,
    source: false,
    write: (line) => void lines.push(line),
    ...options,
  });
  return { logger, lines };
}

const levels: readonly LogLevel[] = ["trace", "debug", "info", "warn", "error", "fatal"];

describe("consoleLogger in Go's format", () => {
  it("writes time, sorted fields and message in one line", () => {
    const { logger, lines } = capture({ fields: { service: "api" } });
    logger.info("Registry [mdns] Registering node: greeter-1", { node: "greeter-1", attempt: 2 });
    expect(lines).toEqual([
      "2020-07-01 10:00:09  attempt=2 level=info node=greeter-1 service=api Registry [mdns] Registering node: greeter-1\n",
    ]);
  });

  it("names the place of the call", () => {
    const { logger, lines } = capture({ source: true });
    logger.warn("here");
    logger.child({ a: 1 }).log("info", "and here");
    expect(lines[0]).toMatch(/^2020-07-01 10:00:09 {2}file=logger\/console-logger\.test\.ts:\d+ level=warn here\n$/);
    expect(lines[1]).toMatch(/ a=1 file=logger\/console-logger\.test\.ts:\d+ level=info and here\n$/);
  });

  it("names the place of the call through a logger around it", () => {
    const { logger, lines } = capture({ source: true });
    logRing({ logger }).logger.info("here");
    expect(lines[0]).toMatch(/ file=logger\/console-logger\.test\.ts:\d+ level=info here\n$/);
  });

  it("quotes values with blanks, escapes newlines and terminal sequences, and leaves text alone", () => {
    const { logger, lines } = capture();
    logger.info("two\nlines \u001b[31mred\r", {
      blank: "a b",
      empty: "",
      quote: 'a"b',
      plain: "größe/7",
      line: "a\nb",
      "k\ney": 1,
    });
    expect(lines).toEqual([
      '2020-07-01 10:00:09  blank="a b" empty="" k\\ney=1 level=info line="a\\nb" plain=größe/7 quote="a\\"b" two\\nlines \\u001b[31mred\\r\n',
    ]);
  });

  it("escapes in JSON what moves a terminal's cursor, too, and what some take for the end of a line", () => {
    const { logger, lines } = capture({ format: "json" });
    logger.info("\u001b[2J \u009b2J \u2028 größe", { text: "\u009b" });
    // oxlint-disable-next-line no-control-regex
    expect(lines[0]).toMatch(/^[^\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]+\n$/);
    expect(JSON.parse(lines[0]!)).toMatchObject({ message: "\u001b[2J \u009b2J \u2028 größe", text: "\u009b" });
  });

  it("prints values of every kind", () => {
    const { logger, lines } = capture();
    const circle: Record<string, unknown> = { a: [1, "x"] };
    circle["self"] = circle;
    logger.info("m", {
      big: 5n,
      circle,
      date: new Date(0),
      none: null,
      skipped: undefined,
      yes: true,
      bad: new Date(Number.NaN),
    });
    expect(lines[0]).toContain(
      'bad="invalid date" big=5 circle="<ref *1> { a: [ 1, \'x\' ], self: [Circular *1] }" date=1970-01-01T00:00:00.000Z',
    );
    expect(lines[0]).toContain("none=null yes=true m\n");
    expect(lines[0]).not.toContain("skipped");
  });

  it("prints code and message of errors with a code, and their stack only where debug is written", () => {
    const error = new MicroError("no node", { code: "not_found", cause: new Error("the cause") });
    const info = capture();
    info.logger.error("failed", { error });
    info.logger.warn("away", { error: new RangeError("below error, a line is enough") });
    expect(info.lines).toEqual([
      '2020-07-01 10:00:09  error="not_found: no node" level=error failed\n',
      '2020-07-01 10:00:09  error="RangeError: below error, a line is enough" level=warn away\n',
    ]);
    const debug = capture({ level: "debug" });
    debug.logger.warn("failed", { error });
    const [first, ...below] = debug.lines[0]!.trimEnd().split("\n");
    expect(first).toBe('2020-07-01 10:00:09  error="not_found: no node" level=warn failed');
    expect(below[0]).toMatch(/^ {4}at .*console-logger\.test\.ts:\d+:\d+\)?$/);
    expect(below).toContain("    caused by the cause");
    expect(below.every((line) => /^ {4}(?:at |caused by )/.test(line))).toBe(true);
  });

  it("prints where an unexpected error was made, with its causes, on lines that cannot pose as records", () => {
    const { logger, lines } = capture({ source: true });
    const forged = "disk\n2020-07-01 10:00:09  level=info all is well\n    at forged (/etc/passwd:1:1)\u001b[2J";
    const error = new TypeError("x is not a function", { cause: new Error(forged, { cause: "a text" }) });
    logger.error("The handler of Greeter.Hello failed", { error });
    const [first, ...below] = lines[0]!.trimEnd().split("\n");
    expect(first).toMatch(
      /^2020-07-01 10:00:09 {2}error="TypeError: x is not a function" file=logger\/console-logger\.test\.ts:\d+ level=error The/,
    );
    expect(below[0]).toMatch(/^ {4}at .*console-logger\.test\.ts:\d+:\d+\)?$/);
    expect(below.some((line) => line.startsWith("    caused by disk\\n2020-07-01"))).toBe(true);
    expect(below.at(-1)).toBe("    caused by a text");
    expect(below.every((line) => line.startsWith("    "))).toBe(true);
    expect(lines[0]).not.toContain("\u001b");
    expect(lines[0]).not.toContain("node:internal");
  });

  it("prints the parts of an aggregate, causes that go in a circle, and stacks without end within bounds", () => {
    const { logger, lines } = capture();
    const circle = new Error("round", { cause: undefined });
    circle.cause = circle;
    const deep = new Error("deep");
    deep.stack = `Error: deep\n${"    at f (/app/a.ts:1:1)\n".repeat(10_000)}`;
    const many = new AggregateError(
      Array.from({ length: 1_000 }, (_, index) => new Error(`part ${index}`)),
      "all failed",
    );
    logger.error("m", { circle, deep, many });
    expect(lines[0]).toContain("    one of 1000: part 0\n");
    expect(lines[0]!.length).toBeLessThan(20_000);
  });

  it("names the program's file, never the library's", () => {
    const { logger, lines } = capture({ source: true });
    const library = new Error("from below");
    library.stack = `Error: from below
    at ComposedService.start (file:///app/node_modules/@micro/core/dist/index.js:18812:5)
    at Broker.publish (/app/node_modules/.pnpm/@micro+broker-nats@1/node_modules/@micro/broker-nats/dist/index.js:5:1)
    at process.processTicksAndRejections (node:internal/process/task_queues:104:5)
    at async file:///app/src/main.ts:12:3`;
    logger.error("m", { library });
    expect(lines[0]).toMatch(/ file=src\/main\.ts:12 level=error library=/);
    expect(lines[0]!.trimEnd().split("\n").slice(1)).toEqual(["    at async file:///app/src/main.ts:12:3"]);
    library.stack = library.stack.split("\n").slice(0, 3).join("\n");
    logger.error("m", { library });
    expect(lines[1]).toMatch(/ file=logger\/console-logger\.test\.ts:\d+ /);
    expect(lines[1]!.split("\n")[1]).toContain("index.js:18812:5");
  });
});

const redact = (text: string, field: string): string =>
  field === "token" ? "***" : text.replaceAll(/hunter\d/g, "***");
const secretError = () => new Error("login with hunter2 failed", { cause: new Error("hunter3") });

describe("secrets", () => {
  it.each(["go", "json"] as const)("are taken out of messages, fields, errors and causes: %s", (format) => {
    const { logger, lines } = capture({ format, redact, level: "debug" });
    logger.error("hunter1", {
      token: "abc",
      user: { password: "hunter4" },
      list: ["hunter5"],
      error: secretError(),
      pin: 7,
    });
    expect(lines.join("")).not.toMatch(/hunter|abc/);
    expect(lines[0]).toContain("***");
    if (format === "json")
      expect(JSON.parse(lines[0]!)).toMatchObject({ user: { password: "***" }, list: ["***"], token: "***", pin: 7 });
  });

  it.each(["go", "json"] as const)("are not written where the hook fails: %s", (format) => {
    const { logger, lines } = capture({
      format,
      redact: () => {
        throw new Error("hunter2");
      },
    });
    logger.error("hunter1", { error: secretError(), a: "hunter3" });
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toContain("hunter");
    expect(lines[0]).toContain("[redacted]");
  });

  it("are not kept in the ring either", () => {
    const { logger } = capture();
    const ring = logRing({ logger, redact });
    ring.logger.error("hunter1", { token: "abc", error: secretError() });
    const [record] = ring.read();
    expect(JSON.stringify([record!.message, ...record!.fields])).not.toMatch(/hunter|abc/);
  });

  it("are not kept where the hook gives no text", () => {
    const { logger } = capture();
    const ring = logRing({ logger, redact: () => undefined as unknown as string });
    ring.logger.error("hunter1", { token: "hunter2" });
    const [record] = ring.read();
    expect([record!.message, ...record!.fields]).toEqual(["[redacted]", ["token", "[redacted]"]]);
  });
});

describe("consoleLogger levels", () => {
  it.each(levels)("%s writes itself and what is above it", (level) => {
    const { logger, lines } = capture({ level });
    expect(logger.level).toBe(level);
    for (const other of levels) {
      logger.log(other, other);
      expect(logger.enabled(other)).toBe(levels.indexOf(other) >= levels.indexOf(level));
    }
    expect(lines.map((line) => line.trim().split(" ").at(-1))).toEqual(levels.slice(levels.indexOf(level)));
  });

  it("have a method each, and fatal does not end the process", () => {
    const { logger, lines } = capture({ level: "trace" });
    for (const level of ["trace", "debug", "info", "warn", "error"] as const) logger[level](level);
    logger.log("fatal", "fatal");
    expect(lines.map((line) => /level=(\w+) (\w+)/.exec(line)?.slice(1))).toEqual(
      levels.map((level) => [level, level]),
    );
  });

  it("default to info", () => {
    expect(consoleLogger().level).toBe("info");
  });

  it("are read in any case, and an unknown one is an error that lists them", () => {
    for (const level of levels) expect(parseLogLevel(` ${level.toUpperCase()} `)).toBe(level);
    for (const text of ["", "verbose", "__proto__"])
      expect(() => parseLogLevel(text)).toThrow(
        expect.objectContaining({
          code: "bad_request",
          detail: expect.stringContaining("trace, debug, info, warn, error, fatal"),
        }),
      );
  });

  it("and formats that do not exist are refused", () => {
    expect(() => consoleLogger({ level: "loud" as never })).toThrow(TypeError);
    expect(() => consoleLogger({ format: "xml" as never })).toThrow(TypeError);
  });
});

describe("consoleLogger children", () => {
  it("add their fields, and leave their parent alone", () => {
    const { logger, lines } = capture({ fields: { a: 1, b: 1 } });
    const child = logger.child({ b: 2, c: 2 });
    child.child({ d: 3 }).info("x", { a: 9 });
    logger.info("y");
    expect(lines.map((line) => line.slice(21))).toEqual(["a=9 b=2 c=2 d=3 level=info x\n", "a=1 b=1 level=info y\n"]);
    expect(child.level).toBe("info");
  });
});

describe("consoleLogger as JSON", () => {
  it("writes one object per line; fields cannot replace time, level and message", () => {
    const { logger, lines } = capture({ format: "json", fields: { service: "api" } });
    const circle: Record<string, unknown> = {};
    circle["self"] = circle;
    logger.info("a\nb", {
      message: "other",
      level: "none",
      n: 5n,
      error: new MicroError("gone", { code: "closed" }),
      circle,
      o: { a: [1] },
      __proto__: { x: 1 },
    });
    expect(lines[0]!.endsWith("}\n")).toBe(true);
    expect(JSON.parse(lines[0]!)).toEqual({
      timestamp: time.toISOString(),
      level: "info",
      message: "a\nb",
      service: "api",
      n: "5",
      error: { type: "MicroError", code: "closed", statusCode: 500, message: "gone" },
      circle: "<ref *1> { self: [Circular *1] }",
      o: { a: [1] },
    });
  });

  it("writes unexpected errors with stack and causes", () => {
    const { logger, lines } = capture({ format: "json" });
    logger.error("m", { error: new TypeError("bad", { cause: new Error("why") }) });
    expect(lines[0]!.split("\n")).toHaveLength(2);
    const { error } = JSON.parse(lines[0]!) as { error: Record<string, unknown> };
    expect(error).toMatchObject({ type: "TypeError", message: "bad", cause: { type: "Error", message: "why" } });
    expect(error["stack"]).toContain("console-logger.test.ts");
  });
});

describe("a logger never fails", () => {
  it("reports a field that cannot be read", () => {
    for (const format of ["go", "json"] as const) {
      const { logger, lines } = capture({ format });
      const hostile = {
        toJSON(): never {
          throw new Error("no json");
        },
        get [Symbol.toStringTag](): never {
          throw new Error("no tag");
        },
      };
      expect(() => logger.info("m", { hostile, good: 1 })).not.toThrow();
      expect(lines).toHaveLength(1);
      expect(lines[0]).toMatch(format === "json" ? /"good":1/ : /good=1/);
    }
  });

  const trap = new Proxy(
    {},
    {
      get() {
        throw new Error("trap");
      },
      getPrototypeOf() {
        throw new Error("trap");
      },
      ownKeys() {
        throw new Error("trap");
      },
    },
  );
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const values: Record<string, unknown> = {
    "a proxy": trap,
    "a revoked proxy": revoked.proxy,
    "an error whose message is an object": Object.assign(new Error("x"), { message: { statusCode: 400 } }),
    "an error whose message fails": Object.defineProperty(new Error("x"), "message", {
      get() {
        throw new Error("getter");
      },
    }),
    "an error whose stack is a list": Object.assign(new Error("x"), { stack: ["a"] }),
    "an error with an odd cause": new Error("x", { cause: trap }),
    "what fails when it is looked at": {
      [Symbol.for("nodejs.util.inspect.custom")]() {
        throw new Error("inspect");
      },
    },
  };
  it.each(Object.entries(values))(
    "tells the rest of a record with %s, in either format and in the ring",
    (_, value) => {
      for (const format of ["go", "json"] as const) {
        const { logger, lines } = capture({ format, source: true });
        const ring = logRing({ logger });
        const getter = Object.defineProperty({ good: 1 }, "bad", {
          enumerable: true,
          get() {
            throw new Error("a getter");
          },
        });
        ring.logger.error("said", { value, good: 1 });
        ring.logger.error("said", getter);
        ring.logger.error("said", value as LogFields);
        expect(lines).toHaveLength(3);
        for (const line of lines) {
          expect(line).toContain("said");
          if (format === "json") expect(JSON.parse(line)).toMatchObject({ level: "error", message: "said" });
        }
        expect(lines[0]).toMatch(/good"?[=:]1/);
        expect(lines[1]).toContain("cannot be read: a getter");
        expect(ring.read().map(({ message, fields }) => [message, fields.get("good")])).toEqual([
          ["said", "1"],
          ["said", "1"],
          ["said", undefined],
        ]);
        expect(() => logger.info(null as unknown as string, null as unknown as LogFields)).not.toThrow();
        expect(lines.at(-1)).toContain("null");
      }
    },
  );

  it("survives a writer that throws", () => {
    const { logger } = capture({
      write: () => {
        throw new Error("EPIPE");
      },
    });
    expect(() => logger.error("m")).not.toThrow();
  });

  it("and the silent one does nothing", () => {
    expect(silentLogger.enabled("fatal")).toBe(false);
    expect(silentLogger.child({ a: 1 })).toBe(silentLogger);
    for (const level of ["trace", "debug", "info", "warn", "error"] as const) silentLogger[level]("m");
    silentLogger.log("fatal", "m");
  });
});

it("consoleLogger writes to stderr by default", () => {
  const source = new URL("../../src/logger/console-logger.ts", import.meta.url).href;
  const program = `import { consoleLogger } from ${JSON.stringify(source)}; consoleLogger().info("to stderr");`;
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
  expect(run.stdout).toBe("");
  expect(run.stderr).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}(file=\S+ )?level=info to stderr\n$/);
});
