// Before a package is packed: what would be published broken is refused.
//
// npm leaves `workspace:^` in the manifest, which nobody can install; pnpm writes the version in its place.
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const manifest = JSON.parse(readFileSync(join(process.cwd(), "package.json"), "utf8"));
const refuse = (reason) => {
  console.error(`${manifest.name} is not packed: ${reason}`);
  process.exit(1);
};
if (!(process.env["npm_config_user_agent"] ?? "").startsWith("pnpm/"))
  refuse("use `pnpm pack` or `pnpm publish`; other package managers leave `workspace:^` in the manifest");
for (const target of Object.values(manifest.exports).flatMap((each) =>
  typeof each === "string" ? [each] : Object.values(each),
))
  if (!existsSync(join(process.cwd(), target)))
    refuse(`${target} is missing; run \`npm start\` or \`pnpm build\` first`);
if (!existsSync(join(process.cwd(), "LICENSE"))) refuse("LICENSE is missing");
