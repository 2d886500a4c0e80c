import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseTemplate } from "../src/path-template.ts";
import { command, filesBelow, folder } from "./support/generator.ts";

const file = (rules: readonly string[], more = "") => `syntax = "proto3";
package library;
import "google/api/annotations.proto";
import "google/protobuf/timestamp.proto";
message Shelf {
  string name = 1;
  Shelf shelf = 2;
  repeated string tags = 3;
  map<string, Shelf> by_name = 4;
  string user_id = 5;
  google.protobuf.Timestamp at = 6;
}
message Other { string text = 1; }
service Library {
${rules.map((rule, index) => `  rpc R${index}(Shelf) returns (Other) { option (google.api.http) = { ${rule} }; }`).join("\n")}
}
${more}`;

/** Generate a file. The first rule is in line 15. */
async function told(rules: readonly string[], more = "", ...args: string[]) {
  await using work = await folder({ "a.proto": file(rules, more) });
  const out = join(work.path, "gen");
  const { code, errors } = await command("-I", work.path, "a.proto", "--out", out, ...args);
  return { code, lines: errors.split("\n"), written: Object.keys(await filesBelow(out)) };
}

describe("paths", () => {
  it.each([
    "/",
    "/v1/shelves",
    "/v1/shelves/",
    "/v1/*/**",
    "/v1/{name}",
    "/v1/{name=shelves/*}/books/{shelf.name=**}:watch",
    "/v1/{parent=a/*/**}/{collection_id}",
    "/a.b-c_d~e!$&'()+,;=@%20",
    "^/greeter/[a-z]+$",
  ])("%s is one", (path) => expect(parseTemplate(path)).toBeTypeOf("object"));

  it.each([
    ["", "it is empty"],
    ["v1", "it does not begin with /"],
    ["/v1/{name", "its braces do not match, or are inside of others"],
    ["/v1/name}", "its braces do not match, or are inside of others"],
    ["/v1/{a={b}}", "its braces do not match, or are inside of others"],
    ["/v1/{}", "{} begins with no name of a field"],
    ["/v1/{1a}", "{1a} begins with no name of a field"],
    ["/v1/{a.}", "{a.} begins with no name of a field"],
    ["/v1/{a=}", "nothing follows the = of {a=}"],
    ["/v1//x", "two slashes follow each other"],
    ["/v1/{a}/{a}", "{a} is in it twice"],
    ["/v1/a*", "* and ** are whole parts between slashes"],
    ["/v1/***", "* and ** are whole parts between slashes"],
    ["/**/x/**", "** is in it twice"],
    ["/v1/x:", "nothing follows its last :"],
    ["/v1/x?a=b", `"?" cannot be in it`],
    ["/v1/a b", `" " cannot be in it`],
    ["/v1/ü", `"ü" cannot be in it`],
    ["/v1/%2", "two hexadecimal digits have to follow a %"],
    ["^/v1", "a regular expression begins with ^ and ends in $"],
    ["/v1$", "a regular expression begins with ^ and ends in $"],
    ["^/(v1$", expect.stringContaining("nvalid regular expression")],
  ])("%s is none: %s", (path, reason) => expect(parseTemplate(path)).toEqual(reason));
});

describe("routes", () => {
  it("that can be served are generated", async () => {
    const { code, lines } = await told([
      `get: "/v1/{name=shelves/*}"`,
      `post: "/v1/{shelf.shelf.name}" body: "shelf" response_body: "text"`,
      `get: "/v1/at/{at}" additional_bindings { put: "/v2/{user_id}" body: "*" } additional_bindings { custom { kind: "*" path: "/x" } }`,
      `additional_bindings { get: "/only" }`,
      `custom { kind: "HEAD" path: "^/v1/[a-z]+$" }`,
    ]);
    expect({ code, lines }).toEqual({ code: 0, lines: [""] });
  });

  it("that cannot be served are refused, each with its place and reason, and nothing is written", async () => {
    const faults = [
      [`get: "/v1/{nam}"`, `the path "/v1/{nam}": "nam" is no field of library.Shelf (did you mean name?)`],
      [`get: "/v1/{userId}"`, `the path "/v1/{userId}": "userId" is no field of library.Shelf (did you mean user_id?)`],
      [`get: "/v1/{shelf.text}"`, `the path "/v1/{shelf.text}": "text" is no field of library.Shelf`],
      [`get: "/v1/{name.x}"`, `the path "/v1/{name.x}": {name.x}: name is no message with fields`],
      [`get: "/v1/{tags}"`, `the path "/v1/{tags}": {tags}: tags is a list or a map`],
      [`get: "/v1/{by_name.name}"`, `the path "/v1/{by_name.name}": {by_name.name}: by_name is a list or a map`],
      [`get: "/v1/{shelf}"`, `the path "/v1/{shelf}": {shelf}: shelf is a message, and no part of a path`],
      [`get: "/v1/{name"`, `the path "/v1/{name": its braces do not match, or are inside of others`],
      [`get: ""`, `the path "": it is empty`],
      [`put: "/v1/b" body: "shelve"`, `body: "shelve" is no field of library.Shelf (did you mean shelf?)`],
      [`put: "/v1/c" body: "shelf.name"`, `body: "shelf.name" is no field of library.Shelf`],
      [`get: "/v1/d" response_body: "name"`, `response_body: "name" is no field of library.Other`],
      [`custom { kind: "" path: "/v1/e" }`, `"" is no HTTP method`],
      [`custom { kind: "A B" path: "/v1/f" }`, `"A B" is no HTTP method`],
      [`body: "*"`, `google.api.http has no method and path, as in get: "/v1/shelves"`],
      [`get: "/v1/g" additional_bindings { get: "/v1/{h}" }`, `the path "/v1/{h}": "h" is no field of library.Shelf`],
      [
        `get: "/v1/i" additional_bindings { get: "/v1/j" additional_bindings { get: "/v1/k" } }`,
        "additional_bindings cannot have additional_bindings",
      ],
    ] as const;
    const rules = faults.map(([rule]) => rule);
    const { code, lines, written } = await told(rules);
    expect(lines).toEqual(
      faults.map(
        ([, reason], index) => `a.proto:${index + 15}:${41 + String(index).length}: rpc Library.R${index}: ${reason}`,
      ),
    );
    expect(code).toBe(1);
    expect(written).toEqual([]);
    // Nobody asks for routes of messages.
    expect(await told(rules, "", "--emit", "messages")).toMatchObject({ code: 0, lines: [""] });
  });

  it("of go-micro's kind, by regular expressions, are generated, and told of where its gateway does not take them", async () => {
    const { code, lines } = await told([`get: "^/v1/[a-z]+$"`, `get: "^/v1/x/?"`, `get: "^/(v1$"`]);
    expect(code).toBe(0);
    expect(lines).toEqual([
      `a.proto:16:42: warning: rpc Library.R1: the path "^/v1/x/?": a regular expression begins with ^ and ends in $; go-micro's gateway does not serve it`,
      expect.stringMatching(
        /^a\.proto:17:42: warning: rpc Library\.R2: the path ".*": .*nvalid regular expression.*; go-micro's gateway does not serve it$/,
      ),
    ]);
  });

  it("that are there twice are told of, of one micro service", async () => {
    const more = `service Second {
  rpc Get(Shelf) returns (Other) { option (google.api.http) = { get: "/v1/shelves/{user_id}" }; }
}`;
    const rules = [
      `get: "/v1/{name=shelves/*}"`,
      `put: "/v1/{name=shelves/*}" body: "*"`,
      `delete: "/a" additional_bindings { delete: "/a" }`,
    ];
    const { code, lines } = await told(rules, more);
    expect(code).toBe(0);
    expect(lines).toEqual([
      "a.proto:17:42: warning: rpc Library.R2: DELETE /a is a route of rpc Library.R2 (a.proto:17:42) already, which comes first",
      "a.proto:20:43: warning: rpc Second.Get: GET /v1/shelves/* is a route of rpc Library.R0 (a.proto:15:42) already, which comes first",
    ]);
  });
});
