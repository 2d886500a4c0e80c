import { guideTests } from "../support/guide.ts";

guideTests("writing-a-registry.md", ["package.json", "folder-registry.ts", "index.ts", "folder-registry.test.ts"], 40);
