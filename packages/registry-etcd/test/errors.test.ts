import { describe, expect, it } from "vitest";
import { fromEtcd } from "../src/errors.ts";

describe("what grpc says is told without what it says nothing by", () => {
  it.each([
    [
      "14 UNAVAILABLE: No connection established. Last error: Error: read ECONNRESET. Resolution note: ",
      "read ECONNRESET",
    ],
    ["14 UNAVAILABLE: No connection established. Last error: null. Resolution note: ", "null"],
    ["14 UNAVAILABLE: No addresses resolved. Resolution note: ", "No addresses resolved"],
    [
      "14 UNAVAILABLE: No addresses resolved. Resolution note: empty list",
      "No addresses resolved. Resolution note: empty list",
    ],
  ])("%s", (message, told) => {
    const error = fromEtcd(Object.assign(new Error(message), { code: 14 }), "look-up of greeter");
    expect(error).toMatchObject({ code: "unavailable", detail: `registry etcd: look-up of greeter: ${told}` });
  });
});
