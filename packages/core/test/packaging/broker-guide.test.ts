import { guideTests } from "../support/guide.ts";

guideTests("writing-a-broker.md", ["package.json", "hub.ts", "hub-broker.ts", "index.ts", "hub-broker.test.ts"], 70);
