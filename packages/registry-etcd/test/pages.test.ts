/** Lists that take several answers, read from a real etcd that goes on changing between two of them. */
import { encodeService, silentLogger, type Registry, type Service } from "@micro/core";
import { etcdRegistry } from "@micro/registry-etcd";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { EtcdMember } from "../src/member.ts";
import { endEtcd, etcdUrl, missing, startShared } from "./support/etcd.ts";

const mebibyte = 1024 * 1024;
let url: string;
let count = 0;
beforeAll(startShared, 90_000);
afterAll(endEtcd);
afterEach(() => vi.restoreAllMocks());

const greeter = (id: string, padding = ""): Service => ({
  name: "greeter",
  version: "1",
  metadata: {},
  endpoints: [],
  nodes: [{ id, address: "127.0.0.1:8080", metadata: padding === "" ? {} : { padding } }],
});
const idsOf = (services: readonly Service[]): string[] =>
  services.flatMap(({ nodes }) => nodes.map(({ id }) => id)).toSorted();
const names = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, index) => `n${(from + index).toString().padStart(5, "0")}`);

/** etcd's own HTTP interface. */
async function post(path: string, body: object): Promise<Record<string, unknown>> {
  const response = await fetch(`${url}/v3/${path}`, { method: "POST", body: JSON.stringify(body) });
  const answer = (await response.json()) as Record<string, unknown>;
  if (!response.ok) throw new Error(JSON.stringify(answer));
  return answer;
}
const base64 = (text: string): string => Buffer.from(text).toString("base64");

/** A part of etcd of the test's own. */
function place(options: object = {}) {
  const namespace = `/pages-${process.pid}-${++count}`;
  const key = (id: string): string => base64(`${namespace}/micro/registry/greeter/${id}`);
  const put = (id: string, padding?: string) => ({
    request_put: { key: key(id), value: base64(encodeService(greeter(id, padding))) },
  });
  const registry = etcdRegistry({ endpoints: [url], namespace, timeoutMs: 60_000, ...options });
  return {
    registry,
    put,
    fill: async (ids: readonly string[]): Promise<void> => {
      for (let from = 0; from < ids.length; from += 100)
        await post("kv/txn", { success: ids.slice(from, from + 100).map((id) => put(id)) });
    },
    /** Two nodes change places at one revision. */
    swap: async (gone: string, come: string): Promise<string> => {
      const { header } = await post("kv/txn", {
        success: [{ request_delete_range: { key: key(gone) } }, put(come)],
      });
      return (header as { revision: string }).revision;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await registry[Symbol.asyncDispose]();
      await post("kv/deleterange", { key: base64(namespace), range_end: base64(`${namespace}0`) });
    },
  };
}

/** Something happens after each answer that says there are more. Gives the sizes of all pages that were asked for. */
function between(pages: (page: number) => Promise<unknown>): number[] {
  const asked: number[] = [];
  // oxlint-disable-next-line typescript/unbound-method -- called with the member below
  const { range } = EtcdMember.prototype;
  vi.spyOn(EtcdMember.prototype, "range").mockImplementation(async function (this: EtcdMember, request, options) {
    asked.push(request.limit ?? 0);
    const answer = await range.call(this, request, options);
    if (answer.more) await pages(asked.length);
    return answer;
  });
  return asked;
}

const reads: Record<string, (registry: Registry) => Promise<Service[]>> = {
  "a look-up": (registry) => registry.getService("greeter"),
  "a list of services": (registry) => registry.listServices(),
};

describe.skipIf(missing !== undefined)("more nodes than fit into an answer", () => {
  beforeAll(async () => {
    url = await etcdUrl();
  });

  for (const [what, read] of Object.entries(reads)) {
    it(`${what} loses none that moves to where was read already`, async () => {
      await using at = place();
      const { registry, fill, swap } = at;
      const ids = names(10, 2_510);
      await fill(ids);
      const asked = between(async (page) => {
        if (page === 1) await swap("n02509", "n00001");
      });
      expect(idsOf(await read(registry))).toEqual(ids);
      expect(asked).toEqual([1_000, 1_000, 1_000]);
      expect(idsOf(await read(registry))).toEqual(["n00001", ...names(10, 2_509)]);
    });

    it(`${what} shows none twice that moves to where is read later`, async () => {
      await using at = place();
      const { registry, fill, swap } = at;
      const ids = names(10, 2_510);
      await fill(ids);
      between(async (page) => {
        if (page === 1) await swap("n00010", "n09999");
      });
      expect(idsOf(await read(registry))).toEqual(ids);
    });
  }

  it("are read anew, at one revision, where that of the first page is compacted meanwhile", async () => {
    await using at = place();
    const { registry, fill, swap } = at;
    await fill(names(10, 2_510));
    const asked = between(async (page) => {
      if (page === 1) await post("kv/compaction", { revision: await swap("n02509", "n00001") });
    });
    expect(idsOf(await registry.getService("greeter"))).toEqual(["n00001", ...names(10, 2_509)]);
    expect(asked.length).toBeGreaterThan(4);
  });

  // 80 MiB are written, and read twice: half a minute where others keep the machine busy.
  it(
    "are asked for in smaller pages where an answer is above 16 MiB, and no more are kept than the bound",
    { timeout: 120_000 },
    async () => {
      const told: { message: string; dropped: unknown }[] = [];
      const warn = (message: string, fields?: Readonly<Record<string, unknown>>): void =>
        void told.push({ message, dropped: fields?.["dropped"] });
      await using at = place({ logger: { ...silentLogger, warn } });
      const { registry, put } = at;
      const padding = "x".repeat(mebibyte);
      const ids = names(0, 80);
      for (const id of ids.slice(0, 20)) await post("kv/put", put(id, padding).request_put);
      const asked = between(async () => {});
      expect(idsOf(await registry.getService("greeter"))).toEqual(ids.slice(0, 20));
      expect(asked).toEqual([1_000, 100, 10, 10]);
      expect(told).toEqual([]);
      // Beyond what a list may take once it is read, the latest are left out; what is read at all is bounded, too.
      for (const id of ids.slice(20)) await post("kv/put", put(id, padding).request_put);
      for (let round = 0; round < 2; round++) {
        const found = idsOf(await registry.getService("greeter"));
        expect(found).toEqual(ids.slice(0, found.length));
        expect(found.length).toBeGreaterThanOrEqual(31);
        expect(found.length).toBeLessThanOrEqual(33);
        expect(told).toEqual([
          { message: expect.stringContaining("More records than are read") as string, dropped: 70 - found.length },
        ]);
      }
    },
  );
});
