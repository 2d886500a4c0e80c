import dnsPacket from "dns-packet";
import { describe, expect, it } from "vitest";
import { EntryCollector, readEntry } from "../../src/registry/mdns/entries.ts";
import {
  nameLabels,
  decodeMessage,
  encodeMessage,
  PacketError,
  type Message,
  type Record,
} from "../../src/registry/mdns/packet.ts";
import { advertiseList, advertiseNode, answerPacket, question } from "../../src/registry/mdns/records.ts";
import { decodeTxt, encodeTxt } from "../../src/registry/mdns/txt.ts";
import { deflateSync, inflateSync } from "node:zlib";
import {
  bytes,
  goldenAnswer,
  goldenAnswerWith,
  goldenGoTxt,
  goldenListAnswer,
  goldenListQuery,
  goldenQuery,
  goldenTxt,
  greeter,
} from "./mdns-support.ts";
import { processorMs } from "../support/processor-time.ts";

const settings = { domain: "micro", host: "box", ttlSeconds: 120 };
const registered = greeter("greeter-1", "192.168.1.10:9090");
const node = advertiseNode(registered, registered.nodes[0]!, settings);

const types = (name: string, type: number): string[] =>
  node.answer({ name, type, class: 1 }).map((record) => record.type);

const header = (counts: string): string => `00 00 84 00 ${counts}`;

const zip = (text: string): string[] => [deflateSync(text).toString("hex")];

const refused = (service: ReturnType<typeof greeter>): unknown => {
  try {
    return advertiseNode(service, service.nodes[0]!, settings);
  } catch (error) {
    return error;
  }
};

function messageOf(answers: readonly Record[]): Message {
  return decodeMessage(encodeMessage({ flags: 0x8400, answers }, { compress: true }));
}

describe("mdns packets", () => {
  it("asks as Go asks", () => {
    expect(encodeMessage({ id: 0x1234, questions: [question("greeter.micro.")] }, { compress: false })).toEqual(
      goldenQuery,
    );
  });

  it("answers a look-up with the bytes Go answers", () => {
    const [txt, ...rest] = encodeTxt({
      service: "greeter",
      version: "latest",
      endpoints: [],
      metadata: { protocol: "mucp" },
    });
    expect(rest).toEqual([]);
    expect(answerPacket(node, decodeMessage(goldenQuery))?.toString("hex")).toBe(
      goldenAnswerWith(txt!).toString("hex"),
    );
  });

  it("answers the list with the bytes Go answers", () => {
    const answer = answerPacket(advertiseList("greeter", settings), decodeMessage(goldenListQuery));
    expect(answer?.toString("hex")).toBe(goldenListAnswer.toString("hex"));
  });

  it("reads Go's answer", () => {
    const entries = new EntryCollector().add(decodeMessage(goldenAnswer));
    expect(entries).toHaveLength(1);
    expect(readEntry(entries[0]!, "micro")).toEqual(registered);
  });

  it("announces and says goodbye without question, compression or PTR", () => {
    for (const [packet, ttl] of [
      [node.announcement, 120],
      [node.goodbye, 0],
    ] as const) {
      const message = dnsPacket.decode(packet);
      expect(packet.readUInt16BE(0)).toBe(0);
      expect(packet.readUInt16BE(2)).toBe(0x8000);
      expect(message.questions).toEqual([]);
      expect(message.answers?.map((record) => record.type)).toEqual(["SRV", "A", "TXT"]);
      expect(message.answers?.map((record) => "ttl" in record && record.ttl)).toEqual([ttl, ttl, ttl]);
      // Uncompressed: the instance name stands there in full, twice.
      expect(packet.toString("latin1").split("\x09greeter-1\x07greeter\x05micro\x00")).toHaveLength(3);
    }
  });

  it("probes with the proposed records, without weight, in the authority section", () => {
    const message = dnsPacket.decode(node.probe);
    expect(node.probe.readUInt16BE(2)).toBe(0);
    expect(message.questions).toEqual([{ name: "greeter-1.greeter.micro", type: "PTR", class: "IN" }]);
    expect(message.authorities?.map((record) => record.type)).toEqual(["SRV", "TXT"]);
    expect(message.authorities?.[0]).toMatchObject({ data: { priority: 0, weight: 0, port: 9090, target: "box" } });
  });

  it("answers each question of Go's table, and no other", () => {
    const [A, PTR, TXT, AAAA, SRV, ANY] = [1, 12, 16, 28, 33, 255];
    const instance = "greeter-1.greeter.micro.";
    expect(types("greeter.micro.", PTR)).toEqual(["PTR", "SRV", "A", "TXT"]);
    expect(types("greeter.micro.", ANY)).toEqual(["PTR", "SRV", "A", "TXT"]);
    expect(types("greeter.micro.", A)).toEqual([]);
    expect(types("Greeter.micro.", PTR)).toEqual([]);
    expect(types(instance, SRV)).toEqual(["SRV", "A"]);
    expect(types(instance, TXT)).toEqual(["TXT"]);
    expect(types(instance, ANY)).toEqual(["SRV", "A", "TXT"]);
    expect(types(instance, A)).toEqual(["A"]);
    expect(types(instance, AAAA)).toEqual([]);
    expect(types(instance, PTR)).toEqual([]);
    expect(types("box.", A)).toEqual(["A"]);
    expect(types("_services._dns-sd._udp.micro.", PTR)).toEqual(["PTR"]);
    expect(types("_services.micro.", PTR)).toEqual([]);
    expect(types("other.micro.", PTR)).toEqual([]);
  });

  it("uses the id of a query that wants a unicast answer", () => {
    const query = decodeMessage(goldenQuery);
    const unicast = { ...query, questions: [{ ...query.questions[0]!, class: 0x8001 }] };
    const answer = answerPacket(node, unicast)!;
    expect(answer.readUInt16BE(0)).toBe(0x1234);
    expect(decodeMessage(answer).questions).toEqual(unicast.questions);
  });

  it("is read by another library as it was meant", () => {
    const many = { ...registered, nodes: [{ ...registered.nodes[0]!, address: "[fd00::1]:8080" }] };
    const advertised = advertiseNode(many, many.nodes[0]!, settings);
    for (const compress of [true, false]) {
      const records = advertised.answer(question("greeter.micro."));
      const decoded = dnsPacket.decode(encodeMessage({ flags: 0x8400, answers: records }, { compress }));
      expect(decoded.answers).toMatchObject([
        { type: "PTR", name: "greeter.micro", ttl: 120, data: "greeter-1.greeter.micro" },
        { type: "SRV", name: "greeter-1.greeter.micro", data: { priority: 10, weight: 1, port: 8080, target: "box" } },
        { type: "AAAA", name: "box", data: "fd00::1" },
        { type: "TXT", name: "greeter-1.greeter.micro" },
      ]);
    }
  });

  it("reads what another library writes, unknown records skipped", () => {
    const packet = dnsPacket.encode({
      type: "response",
      questions: [],
      answers: [
        { type: "HINFO", name: "box", data: { cpu: "x", os: "y" } },
        {
          type: "SRV",
          name: "a.greeter.micro",
          ttl: 9,
          data: { port: 1, target: "box.micro", priority: 10, weight: 1 },
        },
      ],
      additionals: [
        { type: "TXT", name: "a.greeter.micro", ttl: 9, data: [goldenTxt.slice(0, 3), goldenTxt.slice(3)] },
        { type: "A", name: "box.micro", ttl: 9, data: "10.0.0.1" },
        {
          type: "OPT",
          name: ".",
          udpPayloadSize: 1200,
          extendedRcode: 0,
          ednsVersion: 0,
          flags: 0,
          flag_do: false,
          options: [],
        },
      ],
    });
    const [entry] = new EntryCollector().add(decodeMessage(packet));
    expect(readEntry(entry!, "micro")?.nodes[0]).toEqual({
      id: "a",
      address: "10.0.0.1:1",
      metadata: { protocol: "mucp" },
    });
  });

  it("accepts the cache-flush bit", () => {
    const flushed = Buffer.from(goldenAnswer);
    flushed.writeUInt16BE(0x8001, 0x3b);
    expect(new EntryCollector().add(decodeMessage(flushed))).toHaveLength(1);
  });

  it("keeps every byte of a name, in the escapes of Go's library", () => {
    const odd = bytes("00 00 80 00 00 01 00 00 00 00 00 00 05 61 2e 20 ff 5c 00 00 0c 00 01");
    const { questions } = decodeMessage(odd);
    expect(questions[0]?.name).toBe("a\\.\\ \\255\\\\.");
    expect(encodeMessage({ flags: 0x8000, questions }, { compress: false })).toEqual(odd);
  });

  it("refuses names DNS cannot carry", () => {
    expect(() => nameLabels(`${"a".repeat(64)}.micro.`)).toThrow(/at most 63/);
    expect(() => nameLabels(`${"a.".repeat(128)}micro.`)).toThrow(/255/);
    expect(() => nameLabels("a..micro.")).toThrow(/empty/);
    expect(nameLabels(".")).toEqual([]);
  });
});

describe("hostile mdns packets", () => {
  const hostile: { [what: string]: Buffer } = {
    "an empty datagram": bytes(""),
    "a header cut short": bytes("00 00 84"),
    "a compression pointer to itself": bytes(`${header("00 01 00 00 00 00 00 00")} c0 0c 00 0c 00 01`),
    "two compression pointers to each other": bytes(`${header("00 01 00 00 00 00 00 00")} c0 0e c0 0c 00 0c 00 01`),
    "a pointer loop with a label": bytes(`${header("00 01 00 00 00 00 00 00")} 01 61 c0 0c 00 0c 00 01`),
    "a pointer beyond the end": bytes(`${header("00 01 00 00 00 00 00 00")} ff ff 00 0c 00 01`),
    "a label beyond the end": bytes(`${header("00 01 00 00 00 00 00 00")} 3f 61`),
    "a label of a reserved kind": bytes(`${header("00 01 00 00 00 00 00 00")} 40 61 00 00 0c 00 01`),
    "a name of more than 255 bytes": Buffer.concat([
      bytes(header("00 01 00 00 00 00 00 00")),
      ...Array.from({ length: 5 }, () => Buffer.concat([Buffer.from([63]), Buffer.alloc(63, 0x61)])),
      bytes("00 00 0c 00 01"),
    ]),
    "65535 promised answers": bytes(`${header("00 00 ff ff 00 00 00 00")} 00 00 01 00 01 00 00 00 00 00 00`),
    "65535 promised questions": bytes(`${header("ff ff 00 00 00 00 00 00")} 00 00 0c 00 01`),
    "a record beyond the end": bytes(`${header("00 00 00 01 00 00 00 00")} 00 00 10 00 01 00 00 00 78 ff ff 00`),
    "a TXT string beyond its record": bytes(
      `${header("00 00 00 01 00 00 00 00")} 00 00 10 00 01 00 00 00 78 00 02 05 61`,
    ),
    "an address of 3 bytes": bytes(`${header("00 00 00 01 00 00 00 00")} 00 00 01 00 01 00 00 00 78 00 03 01 02 03 04`),
    "an SRV record that ends early": bytes(
      `${header("00 00 00 01 00 00 00 00")} 00 00 21 00 01 00 00 00 78 00 02 00 01`,
    ),
  };
  for (const [what, packet] of Object.entries(hostile))
    it(`refuses ${what}`, () => {
      expect(() => decodeMessage(packet)).toThrow(PacketError);
    });

  it("reads names of one label after another in linear time", () => {
    // 500 records whose names are the longest there are, each by a pointer.
    const label = Buffer.concat([Buffer.from([61]), Buffer.alloc(61, 0x61)]);
    const name = Buffer.concat([label, label, label, label, Buffer.from([0])]);
    const record = bytes("c0 0c 00 0c 00 01 00 00 00 78 00 02 c0 0c");
    const packet = Buffer.concat([
      bytes("00 00 84 00 00 01 01 f4 00 00 00 00"),
      name,
      bytes("00 0c 00 01"),
      ...Array.from({ length: 500 }, () => record),
    ]);
    const started = processorMs();
    expect(decodeMessage(packet).answers).toHaveLength(500);
    expect(processorMs() - started).toBeLessThan(1_000);
  });
});

describe("mdns TXT records", () => {
  const description = { service: "greeter", version: "latest", endpoints: [], metadata: { protocol: "mucp" } };

  it("are written as Go writes them, but for the compressor's choices", () => {
    const [text] = encodeTxt(description);
    expect(text).toMatch(/^789c[0-9a-f]+$/);
    expect(inflateSync(Buffer.from(text!, "hex")).toString()).toBe(
      '{"Service":"greeter","Version":"latest","Endpoints":null,"Metadata":{"protocol":"mucp"}}',
    );
  });

  it("are read as Go writes them, in either case", () => {
    for (const text of [goldenTxt, goldenGoTxt, goldenTxt.toUpperCase()])
      expect(decodeTxt([text])).toEqual(description);
  });

  it("are cut into strings of 255 characters, wherever the cut falls", () => {
    const metadata = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`key${index}`, `${index ** 5}`]));
    const strings = encodeTxt({ ...description, metadata });
    expect(strings.length).toBeGreaterThan(2);
    expect(strings.slice(0, -1).every((part) => part.length === 255)).toBe(true);
    expect(decodeTxt(strings).metadata).toEqual(metadata);
    expect(decodeTxt(strings.join("").match(/.{1,7}/g)!).metadata).toEqual(metadata);
  });

  it("are read with keys in any case and null for what is empty", () => {
    const json = JSON.stringify({ METADATA: null, endpoints: null, service: "s", vErsion: "1", other: [1] });
    expect(decodeTxt([deflateSync(json).toString("hex")])).toEqual({
      service: "s",
      version: "1",
      endpoints: [],
      metadata: {},
    });
  });

  const broken: { [what: string]: string[] } = {
    "no text": [],
    "an odd number of digits": ["789"],
    "letters that are no digits": ["zz"],
    "no zlib stream": ["00112233"],
    "a zlib stream cut short": [goldenTxt.slice(0, 40)],
    "a bomb": [deflateSync(Buffer.alloc(20_000_000)).toString("hex")],
    "no JSON": zip("{"),
    "a list": zip("[]"),
    "a number for a name": zip('{"Service":1}'),
    "a number in the metadata": zip('{"Service":"s","Metadata":{"a":1}}'),
    "a deep value tree": zip(
      `{"Service":"s","Endpoints":[{"request":${'{"values":['.repeat(1_000)}${"]}".repeat(1_000)}}]}`,
    ),
  };
  for (const [what, strings] of Object.entries(broken))
    it(`refuse ${what} with code codec`, () => {
      expect(() => decodeTxt(strings)).toThrow(expect.objectContaining({ code: "codec" }));
    });

  it("keep keys that are dangerous elsewhere as plain text", () => {
    const { metadata } = decodeTxt(zip('{"Service":"s","Metadata":{"__proto__":"x","constructor":"y"}}'));
    expect(Object.entries(metadata)).toEqual([
      ["__proto__", "x"],
      ["constructor", "y"],
    ]);
    expect(({} as { x?: string }).x).toBeUndefined();
  });
});

describe("what mdns can carry", () => {
  const bad = { code: "bad_request" };

  it("refuses names that Go would register and never find", () => {
    const long = "a".repeat(27);
    const id = `${long}-0b41bd3d-90ff-4c4f-9f5a-6a8f4cc0c9a1`;
    expect(refused(greeter(id, "10.0.0.1:1", { name: long }))).toMatchObject(bad);
    expect(refused(greeter(id.slice(1), "10.0.0.1:1", { name: long.slice(1) }))).not.toMatchObject(bad);
    for (const name of ["a b", "a\\b", "a..b", ".a", "a.", "ä", "a\u0000", "a".repeat(64), "abcdefg.".repeat(31) + "a"])
      expect(refused(greeter("x", "10.0.0.1:1", { name })), name).toMatchObject(bad);
    for (const odd of ["a b", "a(b)", "ä", "a..b", "x".repeat(64)])
      expect(refused(greeter(odd, "10.0.0.1:1")), odd).toMatchObject(bad);
  });

  it("refuses addresses without a numeric host and a port", () => {
    for (const address of [
      "localhost:1",
      "10.0.0.1",
      "10.0.0.1:0",
      "10.0.0.1:",
      "10.0.0.1:65536",
      "",
      ":80",
      "0.0.0.0:80",
      "[::]:80",
      "fd00::1",
      "[fe80::1%eth0]:80",
      "unix:/x",
    ])
      expect(refused(greeter("x", address)), address).toMatchObject(bad);
  });

  it("refuses a node that no datagram holds", () => {
    const metadata = Object.fromEntries(
      Array.from({ length: 3_000 }, (_, index) => [`${Math.sin(index)}`, `${Math.cos(index)}`]),
    );
    const service = greeter("x", "10.0.0.1:1");
    expect(refused({ ...service, nodes: [{ ...service.nodes[0]!, metadata }] })).toMatchObject(bad);
  });

  it("carries every spelling of an address", () => {
    const spellings = {
      "10.1.2.3:80": "10.1.2.3:80",
      "[fd00::1]:80": "[fd00::1]:80",
      "[FD00:0:0:0:0:0:0:1]:80": "[fd00::1]:80",
      "[1:2:3:4:5:6:7:8]:80": "[1:2:3:4:5:6:7:8]:80",
      "[::1]:80": "[::1]:80",
      "[::ffff:10.0.0.1]:80": "10.0.0.1:80",
      "[64:ff9b::10.0.0.1]:80": "[64:ff9b::a00:1]:80",
    };
    for (const [written, read] of Object.entries(spellings)) {
      const service = greeter("x", written);
      const answer = answerPacket(advertiseNode(service, service.nodes[0]!, settings), decodeMessage(goldenQuery))!;
      expect(new EntryCollector().add(decodeMessage(answer))[0]?.address).toBe(read);
    }
  });
});

describe("putting nodes together from packets", () => {
  const parts = node.answer(question("greeter.micro."));

  it("works in any order and over several packets", () => {
    for (const order of [
      [0, 1, 2, 3],
      [3, 2, 1, 0],
      [2, 3, 0, 1],
    ]) {
      const collector = new EntryCollector();
      const entries = order.flatMap((index) => collector.add(messageOf([parts[index]!])));
      expect(entries).toHaveLength(1);
      expect(entries[0]).toMatchObject({
        instance: "greeter-1.greeter.micro.",
        address: "192.168.1.10:9090",
        ttl: 120,
      });
    }
  });

  it("keeps the addresses of nodes on one host apart", () => {
    const collector = new EntryCollector();
    const other = greeter("greeter-2", "10.0.0.9:1");
    const second = advertiseNode(other, other.nodes[0]!, settings).answer(question("greeter.micro."));
    expect(collector.add(messageOf(parts))[0]?.address).toBe("192.168.1.10:9090");
    expect(collector.add(messageOf(second))[0]?.address).toBe("10.0.0.9:1");
  });

  it("reads two nodes of one packet", () => {
    const other = greeter("greeter-2", "192.168.1.10:1");
    const second = advertiseNode(other, other.nodes[0]!, settings).answer(question("greeter.micro."));
    expect(new EntryCollector().add(messageOf([...parts, ...second])).map((entry) => entry.address)).toEqual([
      "192.168.1.10:9090",
      "192.168.1.10:1",
    ]);
  });

  it("does not take a node for one of another service or domain", () => {
    const [entry] = new EntryCollector().add(messageOf(parts));
    expect(readEntry(entry!, "other")).toBeUndefined();
    expect(readEntry({ ...entry!, instance: "greeter-1.mailer.micro." }, "micro")).toBeUndefined();
    expect(readEntry({ ...entry!, instance: "greeter.micro." }, "micro")).toBeUndefined();
  });
});
