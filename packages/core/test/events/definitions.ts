import { type } from "arktype";
import * as v from "valibot";
import { z } from "zod";
import { frameType } from "../../src/codec/table.ts";
import { protoMessage } from "../../src/proto.ts";
import { jsonMessage } from "../../src/schema.ts";
import { defineTopic } from "../../src/topic.ts";
import { Profile } from "../codec/gen/greeter.ts";

export const UserCreated = defineTopic(
  "user.created",
  z.object({ id: z.number(), name: z.string().default("nobody"), at: z.string().optional() }),
);
export const ValibotTopic = defineTopic("valibot", v.object({ id: v.number() }));
export const ArktypeTopic = defineTopic("arktype", type({ id: "number" }));
export const AsyncTopic = defineTopic(
  "asynchronous",
  z.object({ id: z.number().refine(async (id) => id > 0, "must be above 0") }),
);
export const JsonTopic = defineTopic("json", jsonMessage<{ id: number }>("Json"));
export const ProfileSaved = defineTopic("profile.saved", protoMessage(Profile, { name: "Profile" }));
export const RawTopic = defineTopic("raw", frameType);
