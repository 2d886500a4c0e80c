/** The command: compile, generate, write. `protoc-gen-micro greeter.proto --out gen` */
import { create } from "@bufbuild/protobuf";
import { CodeGeneratorRequestSchema } from "@bufbuild/protobuf/wkt";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { compile } from "./compiler.ts";
import { generate } from "./generate.ts";
import { defaultOptions, InputError, optionRules, setOption } from "./options.ts";

/** Where the command writes: standard output and error, one line each. */
export interface CommandOutput {
  readonly out: (line: string) => void;
  readonly error: (line: string) => void;
}

const ownFlags = {
  out: { type: "string" },
  "proto-path": { type: "string", short: "I", multiple: true },
  protoc: { type: "string" },
  map: { type: "string", multiple: true },
  check: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

const flagName = (option: string): string => option.replaceAll("_", "-");

function line(flag: string, help: string): string {
  return `  ${flag.padEnd(44)}${help}`;
}

export function usage(): string {
  return [
    "Usage: protoc-gen-micro <file.proto>... --out <folder> [options]",
    "",
    "Writes messages (by ts-proto) and typed clients and handlers for @micro/core. Without arguments it is a plugin",
    "of protoc or buf, which takes the same options as a parameter (with _ for -) and writes stubs only.",
    "",
    line("--out <folder>", "where files go; folders inside are those of the .proto files"),
    line("-I, --proto-path <folder>", "where imports are found, repeatable (default: this folder)"),
    line("--map <file.proto>=<module>", "its messages are in this module already; repeatable"),
    line("--protoc <program>", "use this protoc instead of the bundled compiler"),
    line("--check", "write nothing; exit code 1 if a file would change"),
    ...[...optionRules].map(([name, { form, help }]) => line(`--${flagName(name)} ${form}`, help)),
  ].join("\n");
}

/** Run the command. @returns its exit code */
export async function runCommand(args: readonly string[], { out, error }: CommandOutput): Promise<number> {
  try {
    return await run(args, out, error);
  } catch (failure) {
    if (!(failure instanceof InputError)) throw failure;
    error(failure.message);
    return 1;
  }
}

async function run(args: readonly string[], out: CommandOutput["out"], error: CommandOutput["error"]): Promise<number> {
  const { values, positionals } = parse(args);
  if (values.help === true) {
    out(usage());
    return 0;
  }
  if (positionals.length === 0) throw new InputError("no .proto file is given; see --help");
  if (values.out === undefined) throw new InputError("--out <folder> is missing; see --help");
  const options = defaultOptions("all");
  for (const name of optionRules.keys())
    for (const value of values.options.get(flagName(name)) ?? [])
      setOption(options, name, value, `--${flagName(name)}`);
  for (const map of values.map ?? []) {
    const [file, module] = map.split("=", 2);
    if (!file?.endsWith(".proto") || !module)
      throw new InputError(`--map: ${JSON.stringify(map)} has not the form file.proto=module`);
    setOption(options, `M${file}`, module, "--map");
  }

  const {
    set,
    names,
    warnings: compilerWarnings,
  } = await compile({
    files: positionals,
    protoPaths: values["proto-path"] ?? [],
    protoc: values.protoc,
  });
  const request = create(CodeGeneratorRequestSchema, { fileToGenerate: [...new Set(names)], protoFile: set.file });
  const { files, warnings } = await generate(request, options);
  [...compilerWarnings, ...warnings].forEach(error);

  // Everything is known by now: what fails does so before the first file is written.
  const changed: string[] = [];
  for (const { name, content } of files) {
    const path = join(values.out, name);
    if ((await readFile(path, "utf8").catch(() => undefined)) === content) continue;
    changed.push(path);
    if (values.check === true) continue;
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
  }
  if (values.check !== true || changed.length === 0) return 0;
  error(`not current, generate again: ${changed.join(", ")}`);
  return 1;
}

/** Flags as Node parses them; those of the generator by name. */
function parse(args: readonly string[]) {
  const generator = [...optionRules.keys()].map(
    (name) => [flagName(name), { type: "string", multiple: true }] as const,
  );
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        ...ownFlags,
        ...(Object.fromEntries(generator) as Record<string, { type: "string"; multiple: true }>),
      },
    });
    const all = values as Record<string, unknown>;
    const options = new Map(generator.map(([name]) => [name, all[name] as string[] | undefined] as const));
    const own = values as { [Name in keyof typeof ownFlags]?: unknown };
    return {
      positionals,
      values: {
        options,
        out: own.out as string | undefined,
        "proto-path": own["proto-path"] as string[] | undefined,
        protoc: own.protoc as string | undefined,
        map: own.map as string[] | undefined,
        check: own.check as boolean | undefined,
        help: own.help as boolean | undefined,
      },
    };
  } catch (failure) {
    const { code, message } = failure as NodeJS.ErrnoException;
    if (code?.startsWith("ERR_PARSE_ARGS") !== true) throw failure;
    const valid = [...Object.keys(ownFlags), ...generator.map(([name]) => name)].map((name) => `--${name}`);
    throw new InputError(
      code === "ERR_PARSE_ARGS_UNKNOWN_OPTION"
        ? `unknown option ${/'([^']*)'/.exec(message)?.[1] ?? ""}; valid ones are ${valid.join(", ")}`
        : message,
    );
  }
}
