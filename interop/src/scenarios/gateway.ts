/** go-micro's own gateway and command (`micro` v2.9.3) in front of our service. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, request } from "node:http";
import { createServer, type AddressInfo } from "node:net";
import type { Scenario } from "../outcome.ts";
import type { Pair } from "../pair.ts";
import { waitFor } from "../wait.ts";

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** The gateway, listening on a free port, with go-micro's mucp client: v2's own default is gRPC. */
class Gateway implements AsyncDisposable {
  readonly #port: number;
  readonly #stop: () => Promise<void>;

  private constructor(port: number, stop: () => Promise<void>) {
    this.#port = port;
    this.#stop = stop;
  }

  static async start(binary: string, home: string): Promise<Gateway> {
    const port = await freePort();
    const parameters = ["--client", "mucp", "--server", "mucp", "--registry", "mdns"];
    const child = spawn(binary, [...parameters, "api", "--enable_rpc", "--address", `127.0.0.1:${port}`], {
      env: { HOME: home, PATH: "/usr/bin:/bin" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let log = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => (log = (log + text).slice(-4_000)));
    const exited = once(child, "exit");
    const running = new Gateway(port, async () => {
      child.kill("SIGKILL");
      await exited;
    });
    try {
      const isUp = async (): Promise<boolean> =>
        await running.post({}, {}).then(
          () => true,
          () => child.exitCode !== null,
        );
      await waitFor("the gateway answers", isUp, Boolean, 20_000);
      assert.equal(child.exitCode, null, "the gateway ended");
    } catch (cause) {
      await running[Symbol.asyncDispose]();
      throw new Error(`the gateway did not start: ${log}`, { cause });
    }
    return running;
  }

  /** To `/rpc`, which calls any service. */
  async post(body: unknown, headers: Readonly<Record<string, string>>, agent?: Agent): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const sent = request(
      { host: "127.0.0.1", port: this.#port, path: "/rpc", method: "POST", agent: agent ?? false, timeout: 15_000 },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
        response.on("error", reject);
      },
    );
    for (const [name, value] of Object.entries({ "Content-Type": "application/json", ...headers }))
      sent.setHeader(name, value);
    sent.on("error", reject);
    sent.on("timeout", () => sent.destroy(new Error("the gateway did not answer")));
    sent.end(JSON.stringify(body));
    return await promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** What Chromium adds to a request of a page on another origin. */
const ofBrowser = {
  Origin: "https://shop.example",
  "Sec-Fetch-Mode": "cors",
  "Sec-Fetch-Site": "cross-site",
  "Sec-Fetch-Dest": "empty",
  Referer: "https://shop.example/",
};

async function hello(running: Gateway, pair: Pair, name: string, headers = {}, agent?: Agent): Promise<Answer> {
  return await running.post({ service: pair.ourName, endpoint: "Plain.Hello", request: { name } }, headers, agent);
}

export function gateway(binary: string, home: string): readonly Scenario[] {
  const common = { generations: ["v2"], via: "mdns" } as const;
  const starting =
    (run: (gateway: Gateway, pair: Pair) => Promise<void>) =>
    async ({ pair }: { readonly pair: Pair }): Promise<void> => {
      await using running = await Gateway.start(binary, home);
      const ready = (): Promise<Answer> => hello(running, pair, "warm-up");
      await waitFor("the gateway finds our service", ready, ({ status }) => status === 200, 15_000);
      await run(running, pair);
    };

  return [
    {
      ...common,
      name: "official gateway: clients that close and clients that stay, no request lost",
      goToTs: starting(async (running, pair) => {
        const agent = new Agent({ keepAlive: true });
        const answers: Answer[] = [];
        // What clients say of their own connections reaches us as metadata.
        const kinds = [
          {},
          { Connection: "close" },
          { Connection: "keep-alive", "Keep-Alive": "timeout=1" },
          { Connection: "close, Te", Te: "trailers" },
          { "Proxy-Connection": "close" },
        ];
        for (let round = 0; round < 60; round++) {
          const batch = kinds.map((headers) => hello(running, pair, `n${round}`, headers, agent));
          // oxlint-disable-next-line no-await-in-loop -- connections are to be used again
          answers.push(...(await Promise.all(batch)));
        }
        agent.destroy();
        const bad = answers.filter(({ status, body }) => status !== 200 || !/"Hello n\d+"/.test(body));
        assert.deepEqual(bad, []);
        assert.equal(answers.length, 300);
      }),
    },
    {
      ...common,
      name: "official gateway: what browsers add is passed on and served",
      goToTs: starting(async (running, pair) => {
        for (const headers of [ofBrowser, { Origin: "http://127.0.0.1:8080" }, { Origin: "null" }]) {
          // oxlint-disable-next-line no-await-in-loop -- a failure is to name its headers
          const { status, body } = await hello(running, pair, "browser", headers);
          assert.deepEqual([status, JSON.parse(body)], [200, { msg: "Hello browser" }], JSON.stringify(headers));
        }
      }),
    },
    {
      ...common,
      name: "official gateway: errors keep their code, a handler that fails runs once",
      goToTs: starting(async (running, pair) => {
        const fail = (failure: unknown): Promise<Answer> =>
          running.post({ service: pair.ourName, endpoint: "Plain.Fail", request: failure }, {});
        const told = await fail({ code: 409, detail: "taken", id: "shop" });
        assert.equal(told.status, 409);
        assert.match(told.body, /"detail":"taken"/);
        const plain = await fail({ plain: true, detail: "a bug" });
        assert.equal(plain.status, 500);
        assert.match(plain.body, /a bug/);
      }),
    },
  ];
}
