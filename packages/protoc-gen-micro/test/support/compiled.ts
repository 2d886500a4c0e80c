/** Generated code outside of the workspace: type-checked as strictly as TypeScript can, and run on core's sources. */
import { readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { execute, workspace } from "./generator.ts";

const hooks = new URL("../conformance/hooks.mjs", import.meta.url).href;

/** Whatever a project may switch on besides what ours has: generated files must not be what it stumbles over. */
const strictest = {
  allowUnreachableCode: false,
  allowUnusedLabels: false,
  alwaysStrict: true,
  exactOptionalPropertyTypes: true,
  erasableSyntaxOnly: true,
  forceConsistentCasingInFileNames: true,
  isolatedDeclarations: true,
  isolatedModules: true,
  noFallthroughCasesInSwitch: true,
  noImplicitOverride: true,
  noImplicitReturns: true,
  noPropertyAccessFromIndexSignature: true,
  noUncheckedIndexedAccess: true,
  noUncheckedSideEffectImports: true,
  noUnusedLocals: true,
  noUnusedParameters: true,
  strict: true,
  strictBuiltinIteratorReturn: true,
  useUnknownInCatchVariables: true,
  verbatimModuleSyntax: true,
};

/** Type-check folders below `work` as strictly as TypeScript can, skipping nothing. @returns what TypeScript says */
export async function typeCheck(work: string, ...folders: string[]): Promise<string> {
  const text = await readFile(join(workspace, "tsconfig.base.json"), "utf8");
  const base = JSON.parse(text.replaceAll(/^\s*\/\/.*$/gm, "")) as { compilerOptions: object };
  const compilerOptions = {
    ...base.compilerOptions,
    ...strictest,
    composite: false,
    declaration: true,
    noEmit: true,
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
