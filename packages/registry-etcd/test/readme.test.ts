import { afterAll, beforeAll } from "vitest";
import { folderOf, readmeTest } from "../../core/test/support/readme.ts";
import { endEtcd, missing, etcdUrl, startShared } from "./support/etcd.ts";

beforeAll(startShared, 90_000);
afterAll(endEtcd);

readmeTest({ tests: folderOf(import.meta.url), missing, written: "127.0.0.1:2379", address: etcdUrl });
