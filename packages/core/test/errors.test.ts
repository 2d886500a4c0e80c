import * as errors from "../src/errors.ts";
import { describe, expect, it } from "vitest";
import {
  badRequest,
  conflict,
  equal,
  forbidden,
  fromError,
  internalServerError,
  methodNotAllowed,
  MicroError,
  newError,
  notFound,
  parse,
  stringify,
  timeout,
  unauthorized,
  type ErrorCode,
} from "../src/errors.ts";

describe("constructors", () => {
  it.each([
    [badRequest, 400, "bad_request", "Bad Request"],
    [unauthorized, 401, "unauthorized", "Unauthorized"],
    [forbidden, 403, "forbidden", "Forbidden"],
    [notFound, 404, "not_found", "Not Found"],
    [methodNotAllowed, 405, "method_not_allowed", "Method Not Allowed"],
    [timeout, 408, "timeout", "Request Timeout"],
    [conflict, 409, "conflict", "Conflict"],
    [internalServerError, 500, "internal", "Internal Server Error"],
  ] as const)("%o is a %i", (make, statusCode, code, status) => {
    const error = make("com.example.srv.service", "invalid field 100%");
    expect(error).toMatchObject({
      id: "com.example.srv.service",
      detail: "invalid field 100%",
      statusCode,
      code,
      status,
    });
    expect(stringify(error)).toBe(
      `{"id":"com.example.srv.service","code":${statusCode},"detail":"invalid field 100%","status":"${status}"}`,
    );
  });

  it("newError takes any number; its status is the HTTP reason or empty", () => {
    expect(newError("x", "teapot", 418)).toMatchObject({ statusCode: 418, status: "I'm a teapot", code: "unknown" });
    expect(newError("x", "own", 7001)).toMatchObject({ statusCode: 7001, status: "" });
    expect(stringify(newError("x", "own", 7001))).toBe('{"id":"x","code":7001,"detail":"own"}');
  });

  it("new MicroError is a 500 unless told otherwise", () => {
    expect(new MicroError("broken")).toMatchObject({
      code: "internal",
      statusCode: 500,
      id: "",
      attempts: [],
      notRun: false,
    });
    expect(new MicroError("late", { code: "aborted" }).statusCode).toBe(499);
    expect(new MicroError("both", { code: "codec", statusCode: 400 })).toMatchObject({
      code: "codec",
      statusCode: 400,
    });
  });

  it("keeps cause and is an Error with a name and a stack", () => {
    const cause = new Error("inner");
    const error = new MicroError("outer", { cause });
    expect(error).toBeInstanceOf(Error);
    expect([error.name, error.message, error.cause]).toEqual(["MicroError", "outer", cause]);
    expect(error.stack).toMatch(/^MicroError: outer\n|^Error: outer\n/);
    expect("cause" in new MicroError("none")).toBe(false);
  });
});

describe("issues", () => {
  const issues = [
    { path: ["lines", 0, "street"], code: "too_small", message: "at least 1 <character>" },
    { path: [], code: "", message: "passwords differ" },
  ];

  it("travel beside the text, and come back as they were", () => {
    const sent = badRequest("shop", "lines[0].street: at least 1; passwords differ", issues);
    const text = stringify(sent);
    expect(text).toBe(
      '{"id":"shop","code":400,"detail":"lines[0].street: at least 1; passwords differ","status":"Bad Request",' +
        '"issues":[{"path":["lines",0,"street"],"code":"too_small","message":"at least 1 \\u003ccharacter\\u003e"},' +
        '{"path":[],"code":"","message":"passwords differ"}]}',
    );
    expect(parse(text)).toMatchObject({ code: "bad_request", detail: sent.detail, issues });
    expect(fromError(new Error(text)).issues).toEqual(issues);
  });

  it("are none where nobody named any, and nothing of them is sent then", () => {
    expect(badRequest("shop", "no").issues).toEqual([]);
    expect(stringify(badRequest("shop", "no", []))).not.toContain("issues");
    expect(parse('{"code":400}').issues).toEqual([]);
  });

  it.each([
    ["many", Array.from({ length: 1_000 }, (_, index) => ({ path: [index], code: "x", message: "wrong" })), 64],
    ["one that is large", [issues[0]!, { path: [], code: "", message: "x".repeat(5_000) }], 1],
    ["large when escaped", Array.from({ length: 3 }, () => ({ path: [], code: "", message: "<".repeat(300) })), 2],
    ["large in bytes", Array.from({ length: 3 }, () => ({ path: ["é".repeat(900)], code: "", message: "" })), 2],
  ])("are bounded on the wire: %s", (_title, all, kept) => {
    const error = badRequest("shop", "no", all);
    expect(error.issues).toBe(all);
    const text = stringify(error);
    expect(parse(text).issues).toHaveLength(kept);
    expect(Buffer.byteLength(text)).toBeLessThan(4_096 + 200);
  });

  it("that cannot be read leave the rest of the error as it is", () => {
    for (const strange of ["null", "7", '"x"', "{}", "[7, null, {}]"])
      expect(parse(`{"code":400,"detail":"no","issues":${strange}}`)).toMatchObject({ statusCode: 400, issues: [] });
    expect(parse('{"issues":[{"message":"m","path":[{},"a",1,null],"code":3}]}').issues).toEqual([
      { path: ["a", 1], code: "", message: "m" },
    ]);
    const many = JSON.stringify({ code: 400, issues: Array.from({ length: 500 }, () => ({ message: "m" })) });
    expect(parse(many).issues).toHaveLength(64);
  });
});

describe("codes and numbers", () => {
  it.each<[ErrorCode, number]>([
    ["bad_request", 400],
    ["unauthorized", 401],
    ["forbidden", 403],
    ["not_found", 404],
    ["method_not_allowed", 405],
    ["timeout", 408],
    ["conflict", 409],
    ["too_large", 413],
    ["too_many_requests", 429],
    ["aborted", 499],
    ["internal", 500],
    ["not_implemented", 501],
    ["unavailable", 503],
    ["unknown", 0],
  ])("agree on both ends: %s is %i", (code, statusCode) => {
    expect(new MicroError("x", { code })).toMatchObject({ code, statusCode });
    expect(new MicroError("x", { statusCode })).toMatchObject({ code, statusCode });
    expect(parse(stringify(new MicroError("x", { code })))).toMatchObject({ code, statusCode });
  });

  it.each(["closed", "codec", "protocol"] as const)("%s is a 500 elsewhere", (code) => {
    expect(new MicroError("x", { code }).statusCode).toBe(500);
    expect(parse(stringify(new MicroError("x", { code }))).code).toBe("internal");
  });
});

describe("stringify", () => {
  it("leaves out what is empty or zero, as Go does", () => {
    expect(stringify(new MicroError("", { statusCode: 0 }))).toBe("{}");
    expect(stringify(new MicroError("only text", { statusCode: 0 }))).toBe('{"detail":"only text"}');
  });

  it("escapes what Go escapes, and never breaks the line", () => {
    const text = stringify(badRequest("a&b", '<b>\u2028\u2029\n\r\t"\\\u0001é😀'));
    expect(text).toContain('"id":"a\\u0026b"');
    expect(text).toContain('"detail":"\\u003cb\\u003e\\u2028\\u2029\\n\\r\\t\\"\\\\\\u0001é😀"');
    expect(text).not.toMatch(/[\r\n]/);
    expect(parse(text).detail).toBe('<b>\u2028\u2029\n\r\t"\\\u0001é😀');
  });

  it("writes lone surrogates as escapes, so that the text is always UTF-8", () => {
    const text = stringify(badRequest("x", "\ud800"));
    expect(text.isWellFormed()).toBe(true);
    expect(parse(text).detail).toBe("\ud800");
  });
});

describe("parse", () => {
  it("reads what Go writes", () => {
    const text = '{"id":"greeter","code":404,"detail":"no bob","status":"Not Found"}';
    const error = parse(text);
    expect(error).toMatchObject({
      id: "greeter",
      code: "not_found",
      statusCode: 404,
      detail: "no bob",
      status: "Not Found",
    });
    expect(stringify(error)).toBe(text);
  });

  it("recognises every constructor's code, 401 among them", () => {
    expect(parse('{"code":401}').code).toBe("unauthorized");
    expect(parse('{"code":408,"detail":"<nil>"}').code).toBe("timeout");
    expect(parse('{"code":7001}').code).toBe("unknown");
  });

  it("matches keys in any case and ignores others and null", () => {
    expect(parse('{"Id":"a","CODE":400,"dEtail":"b","other":[1],"status":null}')).toMatchObject({
      id: "a",
      statusCode: 400,
      detail: "b",
      status: "",
    });
  });

  it.each([
    ["bare text", "rpc: can't find service X"],
    ["empty text", ""],
    ["a JSON string", '"text"'],
    ["a number", "404"],
    ["a list", '[{"code":404}]'],
    ["a code that is text", '{"code":"404"}'],
    ["a code that is no integer", '{"code":4.5}'],
    ["a code beyond int32", '{"code":4294967296}'],
    ["a detail that is an object", '{"detail":{}}'],
    ["a text cut short", '{"id":"greeter","code":4'],
    ["two values", '{"code":404}{"code":500}'],
  ])("keeps %s as the detail of an error without a code", (_, text) => {
    expect(parse(text)).toMatchObject({ detail: text, statusCode: 0, code: "unknown", id: "", status: "" });
  });

  it.each([
    ["a problem document", '{"type":"about:blank","title":"no stock"}', 0],
    ["an object with a message", '{"message":"no stock","level":3}', 0],
    ["an object with a code beside it", '{"code":409,"message":"no stock"}', 409],
  ])("keeps %s, which is nobody's error, as the detail", (_, text, statusCode) => {
    expect(parse(text)).toMatchObject({ detail: text, statusCode, id: "" });
  });

  it("gives an empty error for null and {}", () => {
    for (const text of ["null", "{}"]) expect(stringify(parse(text))).toBe("{}");
  });

  it("lets no key reach a prototype", () => {
    const error = parse('{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}},"code":400}');
    expect(error.statusCode).toBe(400);
    expect("polluted" in error || "polluted" in {}).toBe(false);
  });
});

describe("fromError", () => {
  it("gives a MicroError back unchanged", () => {
    const error = notFound("x", "y");
    expect(fromError(error)).toBe(error);
  });

  it("parses the text of another error and keeps it as the cause", () => {
    const cause = new Error('{"id":"a","code":409,"detail":"d","status":"Conflict"}');
    expect(fromError(cause)).toMatchObject({ id: "a", code: "conflict", detail: "d", cause });
    expect(fromError(new TypeError("plain"))).toMatchObject({ statusCode: 0, detail: "plain" });
  });

  it.each([
    ["a text", "text", "text"],
    ["a number", 5, "5"],
    ["nothing", undefined, "undefined"],
    ["a symbol", Symbol("s"), "Symbol(s)"],
    ["an object without a prototype", Object.create(null), "[object Object]"],
    ["an object that cannot be text", { toString: null, [Symbol.toPrimitive]: null, valueOf: null }, "[object Object]"],
  ])("takes %s", (_, thrown, detail) => {
    expect(fromError(thrown)).toMatchObject({ statusCode: 0, detail });
  });

  it("takes an error whose message is no text", () => {
    expect(fromError(Object.assign(new Error("x"), { message: { a: 1 } })).detail).toBe("[object Object]");
  });
});

describe("equal", () => {
  it("compares the numbers of two errors, as Go does", () => {
    expect(equal(notFound("a", "b"), newError("c", "d", 404))).toBe(true);
    expect(equal(notFound("a", "b"), badRequest("a", "b"))).toBe(false);
  });

  it("compares anything else by identity", () => {
    const error = new Error("x");
    expect(equal(error, error)).toBe(true);
    expect(equal(error, new Error("x"))).toBe(false);
    expect(equal(notFound("a", "b"), error)).toBe(false);
    expect(equal(undefined, undefined)).toBe(true);
  });
});

describe("MicroError.is", () => {
  it("knows the errors of another installed copy", async () => {
    const copyUrl = new URL("../src/errors.ts?copy", import.meta.url).href;
    const copy = (await import(/* @vite-ignore */ copyUrl)) as typeof import("../src/errors.ts");
    const foreign = copy.notFound("x", "y");
    expect(copy.MicroError).not.toBe(MicroError);
    expect(foreign).not.toBeInstanceOf(MicroError);
    expect(MicroError.is(foreign)).toBe(true);
    expect(copy.MicroError.is(badRequest("a", "b"))).toBe(true);
    expect(equal(foreign, notFound("a", "b"))).toBe(true);
    expect(stringify(foreign)).toBe('{"id":"x","code":404,"detail":"y","status":"Not Found"}');
  });

  it("is not fooled by what looks alike", () => {
    for (const value of [null, undefined, 5, "x", {}, new Error("x"), { name: "MicroError", code: "internal" }])
      expect(MicroError.is(value)).toBe(false);
  });
});

describe("errors made of the wrong arguments", () => {
  const makers = Object.entries(errors).filter(
    ([name]) => !["parse", "fromError", "equal", "stringify", "MicroError"].includes(name),
  ) as [string, (...given: unknown[]) => MicroError][];

  it.each(makers)("%s says what it takes", (name, make) => {
    const rest = name === "newError" ? [404] : [];
    const call = `errors.${name}(id, detail${name === "newError" ? ", statusCode" : ""})`;
    expect(() => make("no such user", undefined, ...rest)).toThrow(
      new TypeError(`${call}: what happened must be a text, not undefined; with "" as id it is the service's own`),
    );
    expect(() => make(undefined, "no such user", ...rest)).toThrow(
      new TypeError(`${call}: the id of who failed must be a text, not undefined`),
    );
    expect(() => make("users", new Error("no"), ...rest)).toThrow("must be a text, not an Error");
    expect(make("users", "", ...rest)).toMatchObject({ id: "users", detail: "" });
  });

  it("a MicroError says so, too", () => {
    expect(() => new MicroError(undefined as never)).toThrow(
      "MicroError: the first argument must be a text, not undefined",
    );
    expect(() => new MicroError("x", { statuscode: 404 } as never)).toThrow(
      "MicroError: there is no option `statuscode`; did you mean `statusCode`?",
    );
    expect(() => new MicroError("x", "not_found" as never)).toThrow("MicroError: options are an object");
    expect(() => new MicroError("x", { code: "notfound" as never })).toThrow(
      "MicroError: `code` must be one of bad_request, ",
    );
    expect(() => errors.newError("users", "x", "404" as never)).toThrow('the code must be a whole number, not "404"');
  });
});
