/** Options: the same for the plugin's parameter and the command's flags. */

import { suggestion } from "./nearest.ts";

/** What goes wrong through input: told without a stack, with exit code 1. */
export class InputError extends Error {}

/** Settings of one run. */
export interface GenerateOptions {
  /** Whose messages: plain objects with all of protobuf, or those of ts-proto. Default: `micro`. */
  messages: "micro" | "ts-proto";
  /** What is written: messages, the stubs, or both. Default: `all`. */
  emit: "all" | "messages" | "stubs";
  /** Whether messages of imported files are written as well: compilers ask their plugins for every file. Default: true, false for the plugin. */
  imports: boolean;
  /** How generated files import each other: `.ts` (Node's type stripping), `.js` (compiled), empty (bundlers). Default: `.ts`. */
  importExtension: ".ts" | ".js" | "";
  /** Type of 64-bit integers. Default: `bigint`. */
  int64: "bigint" | "number" | "string" | "long";
  /** Names of fields in the JSON that is written; read are both. Default: `camel`. */
  jsonNames: "camel" | "proto";
  /** What follows the name of the .proto file in the name of the stubs' file. Default: `.micro.ts`. */
  outputSuffix: string;
  /** What follows it in the name of the messages' file, before `.ts`: ts-proto's `fileSuffix`. Default: nothing. */
  messageSuffix: string;
  /** The micro service name that clients call unless told otherwise. Default: the package, else the service in small letters. */
  service: string | undefined;
  /** The package that the stubs import. Default: `@micro/core`. */
  core: string;
  /** The package that messages import. Default: `@micro/core/proto`. */
  runtime: string;
  /** JSON with fields that are not known: refused, or passed over. Default: `refuse`. */
  jsonUnknown: "refuse" | "ignore";
  /** Modules that have the messages of a .proto file already, by the file's name. */
  modules: Map<string, string>;
  /** Further options for ts-proto, as `key=value`. */
  tsProto: string[];
}

export function defaultOptions(emit: GenerateOptions["emit"]): GenerateOptions {
  return {
    messages: "micro",
    emit,
    imports: true,
    importExtension: ".ts",
    int64: "bigint",
    jsonNames: "camel",
    outputSuffix: ".micro.ts",
    messageSuffix: "",
    service: undefined,
    core: "@micro/core",
    runtime: "@micro/core/proto",
    jsonUnknown: "refuse",
    modules: new Map(),
    tsProto: [],
  };
}

interface OptionRule {
  /** For the list of valid options. */
  readonly form: string;
  /** What it does, for `--help`. */
  readonly help: string;
  readonly set: (options: GenerateOptions, value: string) => void;
}

function oneOf<Key extends "emit" | "int64" | "jsonNames" | "jsonUnknown" | "messages">(
  key: Key,
  values: readonly GenerateOptions[Key][],
): OptionRule["set"] {
  return (options, value) => {
    if (!(values as readonly string[]).includes(value)) throw new InputError(`it is one of ${values.join(", ")}`);
    options[key] = value as GenerateOptions[Key];
  };
}

/** Options of ts-proto that the stubs depend on, or that have one of ours. */
const ownedTsProtoOptions = new Map([
  ["forceLong", "int64"],
  ["importSuffix", "import_extension"],
  ["fileSuffix", "message_suffix"],
  ["protoJsonFormat", "json_names"],
  ["snakeToCamel", "json_names"],
  ["emitImportedFiles", "emit"],
  ["onlyTypes", ""],
  ["outputEncodeMethods", ""],
  ["outputPartialMethods", ""],
  ["outputJsonMethods", ""],
  ["outputTypeAnnotations", ""],
  ["typePrefix", ""],
  ["typeSuffix", ""],
  ["messagePrefix", ""],
  ["messageSuffix", ""],
  ["useSnakeTypeName", ""],
  ["useMapType", ""],
]);

export const optionRules: ReadonlyMap<string, OptionRule> = new Map<string, OptionRule>([
  [
    "emit",
    {
      form: "all|messages|stubs",
      help: "what is written: messages, stubs, or both",
      set: oneOf("emit", ["all", "messages", "stubs"]),
    },
  ],
  [
    "messages",
    {
      form: "micro|ts-proto",
      help: "whose messages are written, or are there already (default micro)",
      set: oneOf("messages", ["micro", "ts-proto"]),
    },
  ],
  [
    "import_extension",
    {
      form: ".ts|.js|none",
      help: "how generated files import each other (default .ts)",
      set: (options, value) => {
        if (value !== ".ts" && value !== ".js" && value !== "none") throw new InputError("it is .ts, .js or none");
        options.importExtension = value === "none" ? "" : value;
      },
    },
  ],
  [
    "int64",
    {
      form: "bigint|number|string|long",
      help: "type of 64-bit integers (default bigint; long: ts-proto only)",
      set: oneOf("int64", ["bigint", "number", "string", "long"]),
    },
  ],
  [
    "json_names",
    {
      form: "camel|proto",
      help: "names of fields in JSON that is written (default camel)",
      set: oneOf("jsonNames", ["camel", "proto"]),
    },
  ],
  [
    "json_unknown",
    {
      form: "refuse|ignore",
      help: "JSON with fields that are not known (default refuse, as Go does)",
      set: oneOf("jsonUnknown", ["refuse", "ignore"]),
    },
  ],
  [
    "output_suffix",
    {
      form: "<suffix>",
      help: "ending of the stubs' files (default .micro.ts)",
      set: (options, value) => {
        if (!/^[\w.-]+\.[mc]?ts$/.test(value)) throw new InputError("it ends in .ts, .mts or .cts, as in _micro.ts");
        options.outputSuffix = value;
      },
    },
  ],
  [
    "message_suffix",
    {
      form: "<suffix>",
      help: "ending of the messages' files before .ts (default none)",
      set: (options, value) => {
        if (!/^[\w.-]*$/.test(value)) throw new InputError("it is part of a file name, as in _pb");
        options.messageSuffix = value;
      },
    },
  ],
  [
    "service",
    {
      form: "<name>",
      help: "micro service name (default: the package, else the service's name in small letters)",
      set: (options, value) => {
        if (value === "" || /\s/.test(value)) throw new InputError("it is a service name, as in go.micro.srv.greeter");
        options.service = value;
      },
    },
  ],
  [
    "core",
    {
      form: "<module>",
      help: "module that stands for @micro/core in the stubs",
      set: (options, value) => {
        if (value === "") throw new InputError("it is the name of a module");
        options.core = value;
      },
    },
  ],
  [
    "runtime",
    {
      form: "<module>",
      help: "module that stands for @micro/core/proto in messages",
      set: (options, value) => {
        if (value === "") throw new InputError("it is the name of a module");
        options.runtime = value;
      },
    },
  ],
  [
    "ts_proto_opt",
    {
      form: "<key>=<value>",
      help: "further option for ts-proto; repeatable",
      set: (options, value) => {
        const key = value.split("=", 1)[0]!;
        if (!/^\w+=[^,]*$/.test(value)) throw new InputError("it has the form key=value, as in useDate=false");
        const ours = ownedTsProtoOptions.get(key);
        if (ours === "") throw new InputError(`the stubs need ts-proto's ${key} as it is`);
        if (ours !== undefined) throw new InputError(`use ${ours} instead of ts-proto's ${key}`);
        options.tsProto.push(value);
      },
    },
  ],
]);

const fileOption = "M<file.proto>=<module>";

/**
 * Set one option by its name in the parameter.
 * @throws {InputError} for an unknown name, with the valid ones, or a wrong value
 */
export function setOption(options: GenerateOptions, name: string, value: string, shown = name): void {
  if (/^M.+\.proto$/.test(name)) {
    if (value === "") throw new InputError(`option ${shown}: it names the module that has the messages`);
    options.modules.set(name.slice(1), value);
    return;
  }
  const rule = optionRules.get(name);
  if (rule === undefined) {
    const valid = [...optionRules].map(([known, { form }]) => `${known}=${form}`);
    throw new InputError(
      `unknown option ${JSON.stringify(shown)}${suggestion(shown, optionRules.keys())}; valid ones are ${[...valid, fileOption].join(", ")}`,
    );
  }
  try {
    rule.set(options, value);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError(`option ${shown}: ${JSON.stringify(value)} is not possible: ${error.message}`);
  }
}

/** Read a plugin's parameter, `key=value` with commas between. @throws {InputError} as {@link setOption} */
export function parseParameter(parameter: string): GenerateOptions {
  const options = defaultOptions("all");
  options.imports = false;
  for (const part of parameter.split(",")) {
    if (part.trim() === "") continue;
    const separator = part.indexOf("=");
    const name = (separator === -1 ? part : part.slice(0, separator)).trim();
    setOption(options, name, separator === -1 ? "" : part.slice(separator + 1).trim());
  }
  return options;
}
