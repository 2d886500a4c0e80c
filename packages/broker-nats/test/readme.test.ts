import { afterAll, beforeAll } from "vitest";
import { folderOf, readmeTest } from "../../core/test/support/readme.ts";
import { endNats, missing, natsAddress, startShared } from "./support/nats.ts";

beforeAll(startShared, 90_000);
afterAll(endNats);

readmeTest({ tests: folderOf(import.meta.url), missing, written: "127.0.0.1:4222", address: natsAddress });
