import { describe, expect, it } from "vitest";
import { formatDuration, parseDuration } from "../../src/service/duration.ts";
import { applyServiceFlags, ignoredVariables, serviceFlagDefinitions } from "../../src/service/flag-table.ts";
import { UsageError, flagMap, parseFlags, scanFlag } from "../../src/service/flags.ts";
import type { FlagDefinition } from "../../src/service/flags.ts";

const own: FlagDefinition[] = [
  { name: "environment", usage: "Where it runs", variable: ["ENVIRONMENT", "ENV"], default: "prod" },
  { name: "verbose", type: "boolean" },
  { name: "ratio", type: "number" },
  { name: "wait", type: "duration", default: "1s" },
  { name: "tags", type: "list", variable: "TAGS" },
  { name: "labels", type: "map", variable: "LABELS" },
  { name: "count", type: "integer" },
];
const parse = (args: string[], env: Record<string, string> = {}) => parseFlags(flagMap(own), args, env);
const service = (args: string[], env: Record<string, string> = {}) => {
  const flags = parseFlags(flagMap(serviceFlagDefinitions([])), args, env);
  return applyServiceFlags(flags, []).options;
};

describe("durations", () => {
  it.each([
    ["0", 0],
    ["300ms", 300],
    ["1.5s", 1500],
    [".5s", 500],
    ["5.s", 5000],
    ["1h2m3.5s", 3_723_500],
    ["-2m", -120_000],
    ["+1s", 1000],
    ["2us", 0.002],
    ["2µs", 0.002],
    ["1ns", 0.000001],
  ])("reads %s", (text, ms) => {
    expect(parseDuration(text)).toBeCloseTo(ms, 9);
  });

  it.each(["", "5", "s", "5x", "1 s", "1s ", "-", ".s", "1h2", "5S", "1e3s", "NaN", "__proto__"])(
    "refuses %j",
    (text) => {
      expect(() => parseDuration(text)).toThrow(TypeError);
    },
  );

  it("are written as Go writes them", () => {
    expect([0, 300, 5000, 60_000, 3_723_500, -1500].map(formatDuration)).toEqual([
      "0s",
      "300ms",
      "5s",
      "1m0s",
      "1h2m3.5s",
      "-1.5s",
    ]);
  });
});

describe("flags", () => {
  it("take a value behind an equals sign or as the next argument, with one dash or two", () => {
    for (const args of [["--environment=dev"], ["-environment=dev"], ["--environment", "dev"], ["-environment", "dev"]])
      expect(parse(args).string("environment")).toBe("dev");
    expect(parse(["--environment=a=b"]).string("environment")).toBe("a=b");
    expect(parse(["--environment", "-x"]).string("environment")).toBe("-x");
  });

  it("take the last of several values", () => {
    expect(parse(["--environment=a", "--environment=b"]).string("environment")).toBe("b");
  });

  it("of type boolean take no following value", () => {
    const flags = parse(["--verbose", "rest"]);
    expect([flags.boolean("verbose"), flags.args]).toEqual([true, ["rest"]]);
    expect(parse(["--verbose=false"]).boolean("verbose")).toBe(false);
    expect(parse([]).boolean("verbose")).toBe(false);
  });

  it("end at the first argument that is none, and at two dashes", () => {
    expect(parse(["--verbose", "a", "--environment=dev"]).args).toEqual(["a", "--environment=dev"]);
    expect(parse(["--verbose", "--", "--environment=dev"]).args).toEqual(["--environment=dev"]);
    expect(parse(["-", "x"]).args).toEqual(["-", "x"]);
  });

  it("win over variables, which win over defaults; an empty variable is none", () => {
    expect(parse([]).string("environment")).toBe("prod");
    expect(parse([], { ENV: "b" }).string("environment")).toBe("b");
    expect(parse([], { ENVIRONMENT: "", ENV: "b" }).source("environment")).toBe("ENV");
    expect(parse([], { ENVIRONMENT: "a", ENV: "b" }).string("environment")).toBe("a");
    expect(parse(["--environment=c"], { ENVIRONMENT: "a" }).string("environment")).toBe("c");
  });

  it("know whether they were given", () => {
    expect(parse([]).isSet("environment")).toBe(false);
    expect(parse(["--environment=prod"]).isSet("environment")).toBe(true);
    expect(parse([], { ENV: "prod" }).isSet("environment")).toBe(true);
  });

  it("of type list repeat and split at commas, in flags and variables", () => {
    expect(parse(["--tags=a,b", "--tags", " c ,"]).list("tags")).toEqual(["a", "b", "c"]);
    expect(parse([], { TAGS: "a,b" }).list("tags")).toEqual(["a", "b"]);
  });

  it("of type map read key=value, keep further equals signs and touch no prototype", () => {
    const map = parse(["--labels=a=1,b=x=y,c=", "--labels=__proto__=1"]).map("labels");
    expect([...map]).toEqual([
      ["a", "1"],
      ["b", "x=y"],
      ["c", ""],
      ["__proto__", "1"],
    ]);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it("of type map refuse a key alone", () => {
    for (const text of ["c", "a=1,c"])
      expect(() => parse([`--labels=${text}`])).toThrow(
        '--labels: "c" has no value; write key=value, or key= for an empty one',
      );
    expect(() => service([], { MICRO_SERVER_METADATA: "novalue" })).toThrow(
      'MICRO_SERVER_METADATA: "novalue" has no value',
    );
  });

  it("read numbers and durations", () => {
    const flags = parse(["--ratio=0.5", "--count=-3", "--wait=2m"]);
    expect([flags.number("ratio"), flags.number("count"), flags.durationMs("wait")]).toEqual([0.5, -3, 120_000]);
  });

  it.each([
    [["--nope"], "unknown flag --nope; --help lists the flags"],
    [["--__proto__=1"], "unknown flag --__proto__"],
    [["--ENVIRON-MENT=1"], "did you mean --environment?"],
    [["--environment"], "--environment needs a value"],
    [["--=x"], "is no flag"],
    [["---environment=x"], "is no flag"],
    [["--verbose=maybe"], '--verbose: "maybe" is neither true nor false'],
    [["--count=1.5"], '--count: "1.5" is no whole number'],
    [["--count="], '--count: "" is no whole number'],
    [["--ratio=abc"], '--ratio: "abc" is no number'],
    [["--wait=5"], '--wait: "5" is no duration; write it as 5s, 300ms or 1h2m3.5s'],
  ])("%j is refused with one line", (args, message) => {
    expect(() => parse(args)).toThrow(UsageError);
    expect(() => parse(args)).toThrow(message);
  });

  it("name the variable that holds a wrong value", () => {
    const flags = flagMap([{ name: "wait", type: "duration", variable: "WAIT" }]);
    expect(() => parseFlags(flags, [], { WAIT: "x" })).toThrow('WAIT: "x" is no duration');
  });

  it("are not asked for by a wrong name or type", () => {
    expect(() => parse([]).string("nope")).toThrow(TypeError);
    expect(() => parse([]).boolean("environment")).toThrow('flag "environment" is a string, not a boolean');
  });

  it("cannot be defined twice, with dashes, or with a default of another type", () => {
    expect(() => flagMap([{ name: "a" }, { name: "a" }])).toThrow("--a is defined twice");
    expect(() => flagMap([{ name: "--a" }])).toThrow("without dashes");
    expect(() => flagMap([{ name: "a", type: "integer", default: "x" }])).toThrow('default of --a: "x"');
  });

  it("can be scanned for before they are known", () => {
    expect(scanFlag("plugin", ["--x", "y", "--plugin=a,b", "-plugin", "c", "--", "--plugin=d"])).toEqual([
      "a",
      "b",
      "c",
    ]);
    expect(scanFlag("plugin", ["--plugins=a"])).toBeUndefined();
  });
});

describe("flags of every service", () => {
  it("set options, each from its variable as well", () => {
    const values: Record<string, [string, object]> = {
      client: ["grpc", { client: "grpc" }],
      client_request_timeout: ["1.5s", { timeoutMs: 1500 }],
      client_retries: ["0", { retries: 0 }],
      client_pool_size: ["7", { poolSize: 7 }],
      client_pool_ttl: ["1m", { poolTtlMs: 60_000 }],
      register_ttl: ["90", { registerTtlMs: 90_000 }],
      register_interval: ["45", { registerIntervalMs: 45_000 }],
      server: ["grpc", { server: "grpc" }],
      server_name: ["n", { name: "n" }],
      server_version: ["1.1.0", { version: "1.1.0" }],
      server_id: ["i", { id: "i" }],
      server_address: [":8080", { address: ":8080" }],
      server_advertise: ["h:1", { advertise: "h:1" }],
      server_metadata: ["a=1,b=2", { metadata: { a: "1", b: "2" } }],
      registry: ["etcd", { registry: "etcd" }],
      registry_address: ["a:1,b:2", { registryAddress: ["a:1", "b:2"] }],
      transport: ["memory", { transport: "memory" }],
      transport_address: ["a:1", { transportAddress: ["a:1"] }],
      selector: ["random", { selector: "random" }],
      tracer: ["memory", { tracer: "memory" }],
    };
    for (const [name, [value, options]] of Object.entries(values)) {
      expect(service([`--${name}=${value}`])).toEqual(options);
      expect(service([], { [`MICRO_${name.toUpperCase()}`]: value })).toEqual(options);
    }
  });

  it("ignore an empty text", () => {
    expect(service(["--server_name=", "--registry="], { MICRO_SERVER_VERSION: "" })).toEqual({});
  });

  it.each([
    [["--register_ttl=90s"], '--register_ttl: "90s" is no whole number'],
    [["--register_ttl=-1"], "--register_ttl: -1 is too small; at least 1 is needed"],
    [["--client_pool_size=0"], "--client_pool_size: 0 is too small; at least 1"],
    [["--client_request_timeout=0s"], "--client_request_timeout: the duration must be above 0"],
    [["--server-name=x"], "unknown flag --server-name; did you mean --server_name?"],
    [["--store=redis"], "--store is a flag of go-micro, but this version has no store yet; leave it out"],
    [["--tracer=jaeger"], '--tracer: tracer "jaeger" does not exist; there is memory'],
  ])("%j is refused", (args, message) => {
    expect(() => service(args)).toThrow(UsageError);
    expect(() => service(args)).toThrow(message);
  });

  it("tell which variables are ignored because their piece does not exist", () => {
    expect(ignoredVariables({ MICRO_AUTH: "jwt", MICRO_STORE: "", MICRO_UNKNOWN: "x", MICRO_PROXY: "p:1" })).toEqual([
      ["MICRO_AUTH", "auth"],
      ["MICRO_PROXY", "proxy"],
    ]);
  });

  it("leave a program its own flags of names that belong to later pieces, and of help and version", () => {
    const mine: FlagDefinition[] = [{ name: "config" }, { name: "v", type: "boolean" }];
    const flags = parseFlags(flagMap([...mine, ...serviceFlagDefinitions(mine)]), ["--config=a.json", "-v"], {});
    expect(applyServiceFlags(flags, mine).options).toEqual({});
    expect(flags.string("config")).toBe("a.json");
  });
});
