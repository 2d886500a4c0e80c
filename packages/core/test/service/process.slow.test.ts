import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { Program } from "../support/service.ts";

/** A group port of its own, so that services of other tests are not seen. */
const mdnsPort = () => String(20_000 + Math.floor(Math.random() * 12_000));
const source = (file: string) => pathToFileURL(path.resolve(import.meta.dirname, "../../src", file)).href;
const signals = process.platform === "win32" ? [] : (["SIGTERM", "SIGINT", "SIGQUIT"] as const);

describe("a service process", () => {
  it("is found, answers, deregisters on Ctrl-C, and is not found any more", async () => {
    const env = { TEST_MDNS_PORT: mdnsPort() };
    await using service = new Program("greeter.ts", { env, args: ["--environment=dev"] });
    await service.output(/afterStart/);
    expect(service.stderr).toMatch(/level=info Starting \[service\] greeter\n/);
    const [, address] = await service.output(/level=info Transport \[http\] Listening on (127\.0\.0\.1:\d+)\n/);
    const [, node] = await service.output(/level=info Registry \[mdns\] Registering node: (greeter-[-\da-f]{36})\n/);
    expect(address).not.toContain(":0\n");
    expect(service.stdout).toContain(
      "Environment set to dev\nName is greeter\nbeforeStart 1\nbeforeStart 2\nafterStart\n",
    );

    await using first = new Program("caller.ts", { env });
    expect([await first.end(), first.stdout]).toEqual([0, '{"msg":"Hello John"}\nlistening: 0\n']);

    service.kill("SIGINT");
    expect(await service.end()).toBe(0);
    expect(service.stderr).toContain(`Registry [mdns] Deregistering node: ${node}`);
    expect(service.stdout).toContain("beforeStop\nafterStop\nleft: []\n");

    await using second = new Program("caller.ts", { env });
    expect(await second.end()).toBe(0);
    expect(second.stdout).toMatch(/^not_found: /);
  });

  it.each(signals)("drains on %s and ends with code 0", async (signal) => {
    await using service = new Program("greeter.ts", { args: ["--registry=memory"] });
    await service.output(/afterStart/);
    service.kill(signal);
    expect(await service.end()).toBe(0);
    expect(service.stdout).toContain("beforeStop\nafterStop\nleft: []\n");
  });

  it("ends at once on a second signal", async () => {
    const env = { TEST_MDNS_PORT: mdnsPort() };
    await using service = new Program("greeter.ts", { env });
    await service.output(/afterStart/);
    await using caller = new Program("caller.ts", { env, args: ["Greeter.Hang"] });
    await service.output(/hanging/);
    service.kill("SIGTERM");
    await service.output(/Deregistering/);
    service.kill("SIGTERM");
    expect(await service.end()).toBe(143);
    expect(service.stdout).not.toContain("afterStop");
    await caller.end();
  });

  it("leaves signals alone when it is told to", async () => {
    const env = { TEST_MDNS_PORT: mdnsPort(), TEST_SIGNALS: "off" };
    await using service = new Program("greeter.ts", { env });
    await service.output(/afterStart/);
    service.kill("SIGTERM");
    await service.output(/the program got SIGTERM/);
    await using caller = new Program("caller.ts", { env });
    await caller.end();
    expect(caller.stdout).toContain("Hello John");
    expect(service.stdout).not.toContain("beforeStop");
  });

  it("takes its name from code, variable or flag, the later winning", async () => {
    const memory = ["--registry=memory"];
    const env = { MICRO_SERVER_NAME: "b", CA_CERT_FILE: "/ca.pem" };
    await using flag = new Program("greeter.ts", { env, args: [...memory, "--server_name=c"] });
    await using variable = new Program("greeter.ts", { env, args: [...memory, "--ca-cert-file", "/mine.pem"] });
    await flag.output(/Starting \[service\] c\n/);
    await variable.output(/Starting \[service\] b\n/);
    expect(flag.stdout).toContain("CA is /ca.pem\nName is c\n");
    expect(variable.stdout).toContain("CA is /mine.pem\nName is b\n");
  });

  it("logs at the level of MICRO_LOG_LEVEL", async () => {
    await using service = new Program("greeter.ts", { env: { MICRO_LOG_LEVEL: "error", MICRO_REGISTRY: "memory" } });
    await service.output(/afterStart/);
    service.kill("SIGTERM");
    expect([await service.end(), service.stderr]).toEqual([0, ""]);
  });

  it("ends by itself after stop, whatever the transport", async () => {
    for (const transport of ["http", "memory"]) {
      await using program = new Program("idle.ts", { args: [`--transport=${transport}`, "--registry=memory"] });
      expect([await program.end(), program.stdout]).toEqual([0, "registry memory\n"]);
    }
  });
});

describe("the command line", () => {
  it("--help lists flags with variables and defaults, the program's first, and ends with 0", async () => {
    await using program = new Program("greeter.ts", { args: ["--help"] });
    expect(await program.end()).toBe(0);
    expect(program.stderr).toBe("");
    expect(program.stdout).toMatch(/^NAME:\n {3}greeter - a micro service\n/);
    expect(program.stdout).toMatch(/VERSION:\n {3}1\.2\.0\n/);
    expect(program.stdout).toMatch(/\nFLAGS:\n {3}--environment value +Where it runs\n/);
    expect(program.stdout).toMatch(/ {3}--ca-cert-file value +Certificate authority \[\$CA_CERT_FILE\]\n/);
    expect(program.stdout).toMatch(/ {3}--registry value +Registry: .+ \(default: mdns\) \[\$MICRO_REGISTRY\]\n/);
    expect(program.stdout).toMatch(
      / {3}--client_request_timeout value .+\(default: 5s\) \[\$MICRO_CLIENT_REQUEST_TIMEOUT\]\n/,
    );
    expect(program.stdout).toMatch(/ {3}MICRO_LOG_LEVEL +Lowest level/);
    expect(program.stdout).toMatch(/ {3}--broker value +Broker: .+ \(default: http\) \[\$MICRO_BROKER\]\n/);
    expect(program.stdout).not.toContain("--store");
  });

  it.each(["--version", "-v"])("%s prints name and version and ends with 0", async (flag) => {
    await using program = new Program("greeter.ts", { args: [flag] });
    expect([await program.end(), program.stdout, program.stderr]).toEqual([0, "greeter version 1.2.0\n", ""]);
  });

  it.each([
    [[], { MICRO_BROKER: "natz" }, /^greeter: MICRO_BROKER: broker "natz" is .+ installed; did you mean "nats"\?\n$/],
    [["--registry=ectd"], {}, /^greeter: --registry: registry "ectd" is .+; did you mean "etcd"\?\n$/],
    [["--transport=htpp"], {}, /^greeter: --transport: transport "htpp" is .+; did you mean "http"\?\n$/],
    [["--registy=etcd"], {}, "greeter: unknown flag --registy; did you mean --registry?\n"],
    [["--client_pool_ttl=1000h"], {}, /^greeter: --client_pool_ttl: .+ from 0 to 2147483647, not 3600000000\n$/],
    [["--nope=1"], {}, "greeter: unknown flag --nope; --help lists the flags\n"],
    [
      ["--client_request_timeout=5"],
      {},
      'greeter: --client_request_timeout: "5" is no duration; write it as 5s, 300ms or 1h2m3.5s\n',
    ],
    [
      [],
      { MICRO_CLIENT_POOL_TTL: "soon" },
      'greeter: MICRO_CLIENT_POOL_TTL: "soon" is no duration; write it as 5s, 300ms or 1h2m3.5s\n',
    ],
    [[], { MICRO_REGISTER_TTL: "1m" }, 'greeter: MICRO_REGISTER_TTL: "1m" is no whole number\n'],
    [
      ["--register_interval=60"],
      {},
      "greeter: --register_interval: the registration would expire between renewals: its TTL (60 s) must exceed the interval (60 s)\n",
    ],
    [["--server_address=nowhere:http:1"], {}, /nowhere:http:1/],
    [
      ["--registry=etcd"],
      {},
      'greeter: --registry: registry "etcd" is neither built in (mdns, memory) nor installed: npm i @micro/registry-etcd\n',
    ],
    [
      [],
      { MICRO_TRANSPORT: "nats" },
      'greeter: MICRO_TRANSPORT: transport "nats" is neither built in (http, memory) nor installed: npm i @micro/transport-nats\n',
    ],
    [
      ["--broker=nats"],
      {},
      'greeter: --broker: broker "nats" is neither built in (http, memory) nor installed: npm i @micro/broker-nats\n',
    ],
    [
      ["--store=redis"],
      {},
      "greeter: --store is a flag of go-micro, but this version has no store yet; leave it out\n",
    ],
    [[], { MICRO_LOG_LEVEL: "loud" }, /^greeter: MICRO_LOG_LEVEL: .*"loud".*\n$/],
    [["--plugin=./none.js"], {}, 'greeter: --plugin: "./none.js" cannot be found\n'],
    [[], { MICRO_PLUGIN: "@acme/none" }, 'greeter: MICRO_PLUGIN: "@acme/none" cannot be found: npm i @acme/none\n'],
  ] as const)("%j with %j ends with code 1", async (args, env, message) => {
    await using program = new Program("greeter.ts", { args, env });
    expect(await program.end()).toBe(1);
    if (typeof message === "string") expect([program.stderr, program.stdout]).toEqual([message, ""]);
    else expect(program.stderr).toMatch(message);
  });
});

const registryPackage = (name: string) => `
  import { memoryRegistry } from ${JSON.stringify(source("registry/memory.ts"))};
  export const plugins = [{
    kind: "registry",
    name: ${JSON.stringify(name)},
    flags: [{ name: "example_flag", usage: "An example", variable: "EXAMPLE_FLAG" }],
    create(context) {
      console.log("addresses " + context.addresses.join("+"));
      const flag = context.flags.string("example_flag");
      if (flag !== "") console.log("Got value for example_flag " + flag);
      const registry = memoryRegistry();
      return new Proxy(registry, {
        get: (target, key) => {
          if (key === "name") return ${JSON.stringify(name)};
          const value = target[key];
          return typeof value === "function" ? value.bind(target) : value;
        },
      });
    },
  }];`;

async function installed() {
  const folder = await mkdtemp(path.join(tmpdir(), "micro-program-"));
  const install = async (name: string, text: string, exports: unknown) => {
    const at = path.join(folder, "app/node_modules", name);
    await mkdir(at, { recursive: true });
    await writeFile(path.join(at, "package.json"), JSON.stringify({ name, version: "1.0.0", type: "module", exports }));
    await writeFile(path.join(at, "index.js"), text);
  };
  await install("@micro/registry-etcd", registryPackage("etcd"), { ".": { import: "./index.js" } });
  await install("@acme/registry-zk", registryPackage("zk"), "./index.js");
  await install("@acme/other", "export const nothing = 1;", "./index.js");
  const file = path.join(folder, "app/main.mjs");
  await writeFile(
    file,
    `import { createService } from ${JSON.stringify(source("service/service.ts"))};
     const service = createService({ name: "app", address: "127.0.0.1:0", spreadMs: 0 });
     await service.init();
     console.log("registry " + service.registry.name);
     await service.start();
     const [record] = await service.registry.getService("app");
     console.log("node " + record.nodes[0].metadata.registry);
     await service.stop();`,
  );
  return {
    /** Not in the program's folder: its dependencies count, not those of where it is started. */
    run: (args: string[], env: Record<string, string> = {}) => new Program(file, { args, env, cwd: folder }),
    folder,
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true }),
  };
}

async function written(body: string) {
  const folder = await mkdtemp(path.join(tmpdir(), "micro-told-"));
  const file = path.join(folder, "main.mjs");
  const head = `import { createService } from ${JSON.stringify(source("service/service.ts"))};\n`;
  await writeFile(file, head + body);
  return { file, [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) };
}

describe("what a person reads", () => {
  it("of a handler that throws: message, the program's file and line, stack and cause", async () => {
    await using program = await written(`
const service = createService({ name: "a", address: "127.0.0.1:0", registry: "memory", spreadMs: 0 });
const find = (user) => user.profile.name;
service.handle("A.B", () => { try { find({}); } catch (cause) { throw new Error("no greeting", { cause }); } });
await service.start();
await service.call("a", "A.B", {}).catch(() => {});
await service.stop();`);
    await using run = new Program(program.file);
    expect(await run.end()).toBe(0);
    expect(run.stderr).toMatch(
      /error="no greeting" file=micro-told-\w+\/main\.mjs:5 level=error .*A\.B failed: no greeting\n {4}at .*main\.mjs:5:\d+\)?\n {4}caused by TypeError: Cannot read .*\n {4}at find \(.*main\.mjs:4:\d+\)\n/,
    );
    expect(run.stderr).not.toContain("/core/src/");
  });

  it.each([
    ["an address that is none", "", ["--registry=memory", "--server_address=foo"], /"foo" is not an address/],
    [
      "a registry that is away",
      `plugins: [{ kind: "registry", name: "gone", create: () => ({ name: "gone",
        getService: () => Promise.reject(new errors.MicroError("gone at 127.0.0.1:1: connection refused", { code: "unavailable" })),
        [Symbol.asyncDispose]: async () => {} }) }],`,
      ["--registry=gone", "--server_address=127.0.0.1:0"],
      /gone at 127\.0\.0\.1:1: connection refused/,
    ],
  ])(
    "of a start that fails by %s: one line, code 1; the stack for those who debug",
    async (_name, options, args, text) => {
      await using program = await written(`import * as errors from ${JSON.stringify(source("errors.ts"))};
const service = createService({ name: "a", spreadMs: 0, ${options} });
service.subscribe("topic", () => {});
await service.run();
console.log("not reached");`);
      await using run = new Program(program.file, { args });
      expect(await run.end()).toBe(1);
      const lines = run.stderr.trimEnd().split("\n");
      expect(lines.filter((line) => !line.includes("level=info"))).toEqual([
        expect.stringMatching(/ level=fatal a cannot start: /) as string,
      ]);
      expect(lines.at(-1)).toMatch(text);
      expect(run.stdout).toBe("");
      await using debugged = new Program(program.file, { args, env: { MICRO_LOG_LEVEL: "debug" } });
      expect(await debugged.end()).toBe(1);
      expect(debugged.stderr).toMatch(/level=fatal a cannot start: .*\n {4}at /);
    },
  );
});

describe("a plugin in the program's dependencies", () => {
  it("is chosen by flag, variable, alias, scope, path and MICRO_PLUGIN", async () => {
    await using app = await installed();
    const own = path.join(app.folder, "own.mjs");
    await writeFile(own, registryPackage("own"));
    const runs: [string[], Record<string, string>, string][] = [
      [["--registry=etcd", "--registry_address=a:1,b:2"], {}, "addresses a:1+b:2\nregistry etcd\nnode etcd\n"],
      [[], { MICRO_REGISTRY: "etcdv3", MICRO_REGISTRY_ADDRESS: "c:3" }, "addresses c:3\nregistry etcd\nnode etcd\n"],
      [["--registry=@acme/registry-zk"], {}, "addresses \nregistry zk\nnode zk\n"],
      [["--registry=./own.mjs"], {}, "addresses \nregistry own\nnode own\n"],
      [
        ["--registry=zk", "--example_flag=avalue"],
        { MICRO_PLUGIN: "@acme/registry-zk,./own.mjs".split(",")[0]! },
        "addresses \nGot value for example_flag avalue\nregistry zk\nnode zk\n",
      ],
      [
        ["--registry=own", "--plugin=./own.mjs"],
        { EXAMPLE_FLAG: "x" },
        "addresses \nGot value for example_flag x\nregistry own\nnode own\n",
      ],
    ];
    for (const [args, env, output] of runs) {
      await using child = app.run(args, env);
      expect([await child.end(), child.stdout], child.stderr).toEqual([0, output]);
    }
  }, 40_000);

  it("has its flags in --help when it is loaded first, and says what is wrong with it", async () => {
    await using app = await installed();
    await using help = app.run(["--plugin=@acme/registry-zk", "--help"]);
    expect(await help.end()).toBe(0);
    expect(help.stdout).toMatch(/--example_flag value +An example \[\$EXAMPLE_FLAG\]/);
    await using wrong = app.run(["--registry=@acme/other"]);
    expect([await wrong.end(), wrong.stderr]).toEqual([
      1,
      "app: @acme/other is no plugin: it must export `plugins`, a list of descriptors\n",
    ]);
  });
});
