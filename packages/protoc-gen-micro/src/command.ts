/** The command: compile, generate, write. `protoc-gen-micro greeter.proto --out gen` */
import { create } from "@bufbuild/protobuf";
import { CodeGeneratorRequestSchema } from "@bufbuild/protobuf/wkt";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { compile, knownPaths } from "./compiler.ts";
import { generate } from "./generate.ts";
import { suggestion } from "./nearest.ts";
import { defaultOptions, InputError, optionRules, setOption } from "./options.ts";
import { writeOutputs } from "./outputs.ts";
import { printable } from "./printable.ts";
import { anyChanges } from "./watch.ts";

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
  clean: { type: "boolean" },
  lock: { type: "string" },
  watch: { type: "boolean" },
  version: { type: "boolean" },
  help: { type: "boolean", short: "h" },
} as const;

const flagName = (option: string): string => option.replaceAll("_", "-");

function line(flag: string, help: string): string {
  return `  ${flag.padEnd(44)}${help}`;
}

export function usage(): string {
  return [
    "Usage: protoc-gen-micro <file.proto or folder>... --out <folder> [options]",
    "",
    "Writes messages, and typed clients and handlers for @micro/core. Without arguments it is a plugin",
    "of protoc or buf, which takes the same options as a parameter (with _ for -) and writes what it is asked for.",
    "",
    line("--out <folder>", "where files go; folders inside are those of the .proto files"),
    line("-I, --proto-path <folder>", "where imports are found, repeatable (default: this folder)"),
    line("--map <file.proto>=<module>", "its messages are in this module already; repeatable"),
    line("--protoc <program>", "use this protoc instead of the bundled compiler"),
    line("--check", "write nothing; exit code 1 if a file would change"),
    line(
      "--clean",
      "remove what earlier runs generated in the folder from these .proto files, or from ones that are gone",
    ),
    line("--lock <file>", "keep hashes of all inputs and outputs there, which --check compares as well"),
    line("--watch", "go on, and generate again when a .proto file changes"),
    line("--version", "the version of this program"),
    ...[...optionRules].map(([name, { form, help }]) => line(`--${flagName(name)} ${form}`, help)),
  ].join("\n");
}

/**
 * Run the command.
 * @param signal ends `--watch`
 * @returns its exit code
 */
export async function runCommand(
  args: readonly string[],
  output: CommandOutput,
  signal: AbortSignal = new AbortController().signal,
): Promise<number> {
  // Names of files and what is in them come from anywhere.
  const out = (text: string): void => output.out(printable(text));
  const error = (text: string): void => output.error(printable(text));
  /** What to wait for: all that was ever read. */
  let paths: readonly string[] = [];
  const once = async (): Promise<number> => {
    try {
      // A file that is wrong may be one that was imported before.
      return await run(args, out, error, (read) => (paths = [...new Set([...paths, ...read])]));
    } catch (failure) {
      if (!(failure instanceof InputError) && !isOfSystem(failure)) throw failure;
      error(failure.message);
      return 1;
    }
  };
  let started = Date.now();
  let code = await once();
  if (args.includes("--watch") && paths.length > 0) out(`watching ${watched(paths)}`);
  // Without files there is nothing to wait for: the arguments are wrong.
  while (args.includes("--watch") && paths.length > 0 && (await anyChanges(paths, started, signal))) {
    started = Date.now();
    code = await once();
    if (code === 0) out(`generated again at ${new Date().toLocaleTimeString("en-GB")}`);
  }
  return code;
}

/** What the system refuses (a full disk, a missing right) says so itself; a stack would say nothing more. */
function isOfSystem(failure: unknown): failure is NodeJS.ErrnoException {
  return failure instanceof Error && "syscall" in failure;
}

/** What is waited for, for a person. */
function watched(paths: readonly string[]): string {
  if (paths.length === 1) return paths[0]!;
  const folders = [...new Set(paths.map((path) => dirname(path)))];
  const more = folders.length - 5;
  return `${paths.length} files and folders in ${folders.slice(0, 5).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}

async function run(
  args: readonly string[],
  out: CommandOutput["out"],
  error: CommandOutput["error"],
  reads: (paths: readonly string[]) => void,
): Promise<number> {
  const { values, positionals } = parse(args);
  if (values.help === true) {
    out(usage());
    return 0;
  }
  if (values.version === true) {
    const { version } = JSON.parse(await readFile(new URL("../package.json", import.meta.url), "utf8")) as {
      version: string;
    };
    out(`protoc-gen-micro ${version}`);
    return 0;
  }
  if (positionals.length === 0) throw new InputError("no .proto file is given; see --help");
  if (!values.out) throw new InputError("--out <folder> is missing; see --help");
  if (values.watch === true && values.check === true) throw new InputError("--watch and --check exclude each other");
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

  const protoPaths = values["proto-path"] ?? [];
  reads(knownPaths(positionals, protoPaths));
  const compiled = await compile({ files: positionals, protoPaths, protoc: values.protoc });
  const { set, names, paths } = compiled;
  reads([...paths.values()]);
  const unread = [...options.modules.keys()].find((name) => !set.file.some((file) => file.name === name));
  if (unread !== undefined) {
    const near = suggestion(
      unread,
      set.file.map(({ name }) => name),
    );
    throw new InputError(`--map: ${unread} is neither generated nor imported${near}`);
  }
  const request = create(CodeGeneratorRequestSchema, { fileToGenerate: [...new Set(names)], protoFile: set.file });
  const { files, others, warnings } = await generate(request, options);
  [...compiled.warnings, ...warnings].forEach(error);

  // Everything is known by now: what fails does so before the first file is written.
  const check = values.check === true;
  const inputs = {
    options: JSON.stringify({ ...options, modules: [...options.modules] }),
    files: await textsOf(paths),
  };
  const read = new Set(set.file.map(({ name }) => name));
  const changed = await writeOutputs(
    { files, others, inputs, sources: { read: (name) => read.has(name), exists: compiled.exists } },
    { folder: values.out, check, clean: values.clean === true, lock: values.lock },
  );
  if (!check || changed.length === 0) return 0;
  error(`generated files are not current, generate again: ${changed.join(", ")}`);
  return 1;
}

async function textsOf(paths: ReadonlyMap<string, string>): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for (const [name, path] of paths) texts.set(name, await readFile(path, "utf8"));
  return texts;
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
        clean: own.clean as boolean | undefined,
        lock: own.lock as string | undefined,
        watch: own.watch as boolean | undefined,
        version: own.version as boolean | undefined,
        help: own.help as boolean | undefined,
      },
    };
  } catch (failure) {
    const { code, message } = failure as NodeJS.ErrnoException;
    if (code?.startsWith("ERR_PARSE_ARGS") !== true) throw failure;
    const valid = [...Object.keys(ownFlags), ...generator.map(([name]) => name)].map((name) => `--${name}`);
    if (code !== "ERR_PARSE_ARGS_UNKNOWN_OPTION") throw new InputError(message);
    const unknown = /'([^']*)'/.exec(message)?.[1] ?? "";
    throw new InputError(`unknown option ${unknown}${suggestion(unknown, valid)}; valid ones are ${valid.join(", ")}`);
  }
}
