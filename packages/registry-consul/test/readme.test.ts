import { afterAll, beforeAll } from "vitest";
import { folderOf, readmeTest } from "../../core/test/support/readme.ts";
import { endConsul, missing, consulUrl, startShared } from "./support/consul.ts";

beforeAll(startShared, 90_000);
afterAll(endConsul);

readmeTest({ tests: folderOf(import.meta.url), missing, written: "127.0.0.1:8500", address: consulUrl });
