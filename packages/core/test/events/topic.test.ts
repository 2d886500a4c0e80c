import { describe, expect, it } from "vitest";
import { z } from "zod";
import { jsonMessage } from "../../src/schema.ts";
import { defineTopic } from "../../src/topic.ts";
import { ArktypeTopic, JsonTopic, ProfileSaved, RawTopic, UserCreated, ValibotTopic } from "./definitions.ts";

describe("defineTopic", () => {
  it("names the message after the topic, unless it has a name", () => {
    expect(UserCreated.message.name).toBe("UserCreated");
    expect(ValibotTopic.message.name).toBe("Valibot");
    expect(ArktypeTopic.message.name).toBe("Arktype");
    expect(JsonTopic.message.name).toBe("Json");
    expect(defineTopic("..", z.object({})).message.name).toBe("Event");
  });

  it("describes the message for the registry", () => {
    expect(UserCreated.message.value?.values).toEqual([
      { name: "id", type: "float64", values: null },
      { name: "name", type: "string", values: null },
      { name: "at", type: "string", values: null },
    ]);
    const value = { name: "V", type: "V", values: null };
    expect(defineTopic("v", z.object({ id: z.number() }), { value }).message.value).toEqual(value);
  });

  it("is JSON, but protobuf for proto messages and bytes for frames, unless told otherwise", () => {
    expect([UserCreated, ValibotTopic, JsonTopic].map(({ contentType }) => contentType)).toEqual(
      Array(3).fill("application/json"),
    );
    expect(ProfileSaved.contentType).toBe("application/protobuf");
    expect(RawTopic.contentType).toBe("application/octet-stream");
    const contentType = "application/json";
    expect(defineTopic("profile.saved", ProfileSaved.message, { contentType }).contentType).toBe(contentType);
  });

  it("refuses what is no topic or no type", () => {
    expect(() => defineTopic("", jsonMessage("X"))).toThrow(new TypeError("defineTopic: the topic is empty"));
    expect(() => defineTopic("x", { type: "string" } as never)).toThrow(
      'defineTopic("x"): pass a Standard Schema validator (zod, valibot, arktype, …) or a message type',
    );
    expect(() => defineTopic(7 as never, jsonMessage("X"))).toThrow(TypeError);
  });
});
