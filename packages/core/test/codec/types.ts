import { HelloRequest, HelloResponse, Profile } from "./gen/greeter.ts";
import { protoMessage } from "../../src/proto.ts";

export const helloRequest = protoMessage(HelloRequest, { name: "HelloRequest" });
export const helloResponse = protoMessage(HelloResponse, { name: "HelloResponse" });
export const profile = protoMessage(Profile, { name: "Profile" });
