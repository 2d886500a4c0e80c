// `npm run chaos -- --seed N --minutes M --backend etcd|consul|mdns`: see `chaos/main.ts`.
import { join } from "node:path";
import { installAndBuild, root, run, toolchain } from "./toolchain.mjs";

const tools = await toolchain();
await installAndBuild(tools);
const { code } = await run(
  tools.node,
  ["--import", join(root, "chaos", "resolve.mjs"), join(root, "chaos", "main.ts"), ...process.argv.slice(2)],
  { env: tools.env },
);
process.exit(code);
