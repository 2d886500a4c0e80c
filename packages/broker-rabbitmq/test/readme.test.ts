import { afterAll, beforeAll } from "vitest";
import { folderOf, readmeTest } from "../../core/test/support/readme.ts";
import { endRabbitmq, missing, rabbitmqUrl, startShared } from "./support/rabbitmq.ts";

beforeAll(startShared, 90_000);
afterAll(endRabbitmq);

readmeTest({ tests: folderOf(import.meta.url), missing, written: "127.0.0.1:5672", address: rabbitmqUrl });
