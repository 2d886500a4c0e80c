/** Generated code outside of the workspace: type-checked as strictly as TypeScript can, and run on core's sources. */
import { readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { execute, workspace } from "./generator.ts";

const hooks = new URL("../conformance/hooks.mjs", import.meta.url).href;

/** Type-check folders below `work` as the project does its own, skipping nothing. @returns what TypeScript says */
export async function typeCheck(work: string, ...folders: string[]): Promise<string> {
  const text = await readFile(join(workspace, "tsconfig.base.json"), "utf8");
  const base = JSON.parse(text.replaceAll(/^\s*\/\/.*$/gm, "")) as { compilerOptions: object };
  const compilerOptions = {
    ...base.compilerOptions,
    composite: false,
    declaration: true,
    isolatedDeclarations: false,
    noEmit: true,
    noUnusedLocals: true,
    typeRoots: [join(workspace, "node_modules/@types")],
  };
  await writeFile(join(work, "tsconfig.json"), JSON.stringify({ compilerOptions, include: folders }));
  await writeFile(join(work, "package.json"), `{ "type": "module" }`);
  const modules = fileURLToPath(new URL("../../node_modules", import.meta.url));
  await symlink(modules, join(work, "node_modules"), "junction").catch(() => {});
  return (await execute(join(workspace, "node_modules/.bin/tsc"), ["-p", "."], work)).out;
}

/** Run a module's text beside generated code. @returns what it prints, and its errors */
export async function runBeside(work: string, text: string): Promise<string> {
  await writeFile(join(work, "run.ts"), text);
  const { out, errors } = await execute(
    process.execPath,
    [`--import=${hooks}`, pathToFileURL(join(work, "run.ts")).href.replace("file://", "")],
    work,
  );
  return out + errors;
}
