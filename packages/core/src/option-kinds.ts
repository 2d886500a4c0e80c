/**
 * What the values of options must be. Beside the names in a table of options, so that a value of the wrong kind is told of
 * where it is passed, and not where it is first used: minutes later, or in a timer, which ends the process.
 *
 * Told by what a value can do, and not by its class: there may be several copies of a package, and of `AbortSignal` in a test.
 */

/** One kind of value, as `optionKinds` has them. */
export interface OptionKind {
  /** Follows "must be": `a function`. */
  readonly needed: string;
  is(value: unknown): boolean;
  /** What a wrong value is, where more can be said than for any kind: `a list with 5 in it`. */
  told?(value: unknown): string | undefined;
  /** The member of what people pass instead that is right: the `signal` of an AbortController, the `registry` of a service. */
  readonly member?: string | undefined;
}

type Members = Readonly<Record<string, unknown>>;

/** Functions may have members, too: the client of a service is one. */
function isHolder(value: unknown): value is Members {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}

function isFunction(value: unknown): boolean {
  return typeof value === "function";
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isAddress(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

function isPromise(value: unknown): boolean {
  return isHolder(value) && typeof value["then"] === "function";
}

// Looked up once: globals that Node makes on demand take longer to read than all else that is checked of a call.
const signalPrototype: unknown = AbortSignal.prototype;

/** What nearly every signal is; a few nanoseconds. */
export function isOwnSignal(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === signalPrototype;
}

function isSignal(value: unknown): boolean {
  if (isOwnSignal(value)) return true;
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as Partial<AbortSignal>).aborted === "boolean" &&
    typeof (value as Partial<AbortSignal>).addEventListener === "function" &&
    typeof (value as Partial<AbortSignal>).removeEventListener === "function"
  );
}

/** What is told by the methods it has. */
class Piece implements OptionKind {
  readonly needed: string;
  readonly member: string;
  readonly #methods: readonly string[];
  readonly #otherwise: string;

  /** @param otherwise what helps who has something close to it. */
  constructor(name: string, methods: string, otherwise = "") {
    this.member = name;
    this.needed = `a ${name}`;
    this.#methods = methods.split(" ");
    this.#otherwise = otherwise;
  }
  is(value: unknown): boolean {
    return isHolder(value) && this.#missing(value).length === 0;
  }
  told(value: unknown): string | undefined {
    if (typeof value !== "object" || value === null || Array.isArray(value) || isPromise(value)) return undefined;
    const missing = this.#missing(value as Members);
    const close = missing.length < this.#methods.length ? this.#otherwise : "";
    const other = [...pieces].find((piece) => piece !== this && piece.is(value));
    if (other !== undefined && close === "") return other.needed;
    return `an object without ${missing.map((name) => `\`${name}\``).join(", ")}${close}`;
  }
  #missing(value: Members): string[] {
    return this.#methods.filter((name) => typeof value[name] !== "function");
  }
}

const logger = new Piece(
  "logger",
  "enabled log trace debug info warn error child",
  "; docs/logging.md shows how to hand in another library's",
);
const registry = new Piece("registry", "register deregister getService listServices watch");
const broker = new Piece("broker", "connect publish subscribe disconnect");
const registryCache = new Piece("registry cache", "get describe recheck onDrop");
const transport = new Piece("transport", "call open listen");
const selector = new Piece("selector", "pick pickAddress");
const client = new Piece("client", "call stream publish client");
const server = new Piece("server", "handle subscribe endpoints start admit refuse drain stop");
const pieces: readonly Piece[] = [logger, registry, broker, transport, selector, client, server];

function orName(piece: Piece, example: string): OptionKind {
  return {
    needed: `${piece.needed}, or the name of one such as "${example}"`,
    is: (value) => (typeof value === "string" && value !== "") || piece.is(value),
    told: (value) => piece.told(value),
    member: piece.member,
  };
}

function orFunction(piece: Piece): OptionKind {
  return {
    needed: `${piece.needed}, or a function that gives one`,
    is: (value) => isFunction(value) || piece.is(value),
    told: (value) => piece.told(value),
    member: piece.member,
  };
}

function orList(kind: OptionKind, several: string): OptionKind {
  const list = listOf(kind, several);
  return {
    needed: `${kind.needed}, or a list of ${several}`,
    is: (value) => kind.is(value) || list.is(value),
    told: (value) => (Array.isArray(value) ? list.told?.(value) : kind.told?.(value)),
  };
}

function listOf(kind: OptionKind, several: string): OptionKind {
  return {
    needed: `a list of ${several}`,
    is: (value) => Array.isArray(value) && value.every((each) => kind.is(each)),
    told(value) {
      if (Array.isArray(value)) {
        const index = value.findIndex((each) => !kind.is(each));
        return `a list with ${valueText(value[index], kind)} at [${index}]`;
      }
      return kind.is(value) ? `${valueName(value)}: put it into a list, [ … ]` : undefined;
    },
  };
}

const func: OptionKind = { needed: "a function", is: isFunction };
const text: OptionKind = { needed: "a text", is: isText };

const metadata: OptionKind = {
  needed: "metadata: an object of texts, a list of pairs, or a Metadata",
  is: (value) => typeof value === "object" && value !== null && !isPromise(value),
};

function isCodec(value: unknown): boolean {
  return isHolder(value) && isFunction(value["encode"]) && isFunction(value["decode"]);
}

const codecs: OptionKind = {
  needed: "codecs by content type, an object or a Map",
  is: (value) =>
    typeof value === "object" && value !== null && !Array.isArray(value) && wrongCodec(value) === undefined,
  told(value) {
    if (typeof value !== "object" || value === null || Array.isArray(value) || isPromise(value)) return undefined;
    if (isCodec(value)) return 'a codec: say of what, as in { "application/x": codec }';
    const [name, codec] = wrongCodec(value) ?? [];
    return `an object with ${valueText(codec, undefined)} for ${valueName(name)}`;
  },
};

/** The first entry that is no content type's codec. */
function wrongCodec(table: object): readonly [name: unknown, codec: unknown] | undefined {
  const entries: Iterable<readonly [unknown, unknown]> = table instanceof Map ? table : Object.entries(table);
  for (const entry of entries) if (!isText(entry[0]) || !isCodec(entry[1])) return entry;
  return undefined;
}

const definition: OptionKind = {
  needed: "a service definition, as defineService() or protoc-gen-micro makes it",
  is: isDefinition,
  told(value) {
    if (isText(value)) return `${valueName(value)}: by its name a service is called with \`call\``;
    if (typeof value !== "object" || value === null) return undefined;
    // All that a file of stubs exports.
    const name = Object.keys(value).find((key) => isDefinition((value as Members)[key]));
    return name === undefined ? undefined : `${valueName(value)}: pass its \`.${name}\``;
  },
};

function isDefinition(value: unknown): boolean {
  if (!isHolder(value)) return false;
  const { service, type, methods } = value;
  return isText(service) && isText(type) && typeof methods === "object" && methods !== null;
}

/** The kinds of values that options have. For authors of plugins: to be put beside names, see `OptionNames`. */
export const optionKinds = {
  text,
  /** One or several. */
  textOrTexts: orList(text, "texts"),
  texts: listOf(text, "texts"),
  listenAddress: { needed: 'a text such as ":8080"', is: isText },
  /** Of one node or several. */
  nodeAddresses: {
    needed: "`host:port`, or a list of at least one of them",
    is: (value) => isAddress(value) || (Array.isArray(value) && value.length > 0 && value.every(isAddress)),
  },
  flag: { needed: "true or false", is: (value) => typeof value === "boolean" },
  object: { needed: "an object", is: (value) => typeof value === "object" && value !== null && !isPromise(value) },
  signal: { needed: "an AbortSignal", is: isSignal, member: "signal" },
  function: func,
  functionOrFunctions: orList(func, "functions"),
  functions: listOf(func, "functions"),
  functionOrText: { needed: "a function, or the name of one", is: (value) => isFunction(value) || isText(value) },
  list: { needed: "a list", is: (value) => Array.isArray(value) },
  functionOrFlag: {
    needed: "a function, true or false",
    is: (value) => isFunction(value) || typeof value === "boolean",
  },
  logger,
  loggerOrName: orName(logger, "console"),
  registry,
  registries: listOf(registry, "registries"),
  registryOrCache: {
    needed: registry.needed,
    is: (value) => registry.is(value) || registryCache.is(value),
    told: (value) => registry.told(value),
    member: registry.member,
  },
  registryOrName: orName(registry, "mdns"),
  broker,
  brokerOrFunction: orFunction(broker),
  brokerOrName: orName(broker, "http"),
  transport,
  transportOrName: orName(transport, "http"),
  selector,
  selectorOrName: orName(selector, "registry"),
  client,
  clientOrName: orName(client, "mucp"),
  server,
  serverOrName: orName(server, "mucp"),
  metadata,
  codecs,
  definition,
} as const satisfies Readonly<Record<string, OptionKind>>;

/**
 * Refuse a value that is not of the kind. Undefined passes: the default counts.
 * @param what who takes it: begins the error's text.
 * @throws {TypeError} naming the option, what it must be, what it is, and what to do about it where that is plain.
 */
export function checkValue(what: { toString(): string }, name: string, value: unknown, kind: OptionKind): void {
  if (value === undefined || kind.is(value)) return;
  throw wrongValue(what, name, value, kind);
}

/** The error of {@link checkValue}. */
export function wrongValue(
  what: { toString(): string },
  name: string,
  value: unknown,
  kind: OptionKind | string,
): TypeError {
  const needed = typeof kind === "string" ? kind : kind.needed;
  const is = valueText(value, typeof kind === "string" ? undefined : kind);
  return new TypeError(`${what.toString()}: \`${name}\` must be ${needed}, not ${is}`);
}

/** As {@link wrongValue} for an argument: `client: the first argument must be …`. */
export function wrongArgument(what: string, which: string, value: unknown, kind: OptionKind): TypeError {
  return new TypeError(`${what}: the ${which} argument must be ${kind.needed}, not ${valueText(value, kind)}`);
}

/** What a value is, followed by what to do where it leads to one that is right. */
function valueText(value: unknown, kind: OptionKind | undefined): string {
  if (isPromise(value)) return "a promise: await it";
  if (kind?.member !== undefined && hasRight(value, kind, kind.member))
    return `${valueName(value)}: pass its \`.${kind.member}\``;
  const told = kind?.told?.(value);
  if (told !== undefined) return told;
  if (typeof value !== "function" || kind === undefined) return valueName(value);
  const { name } = value;
  if (/^class\b/.test(Function.prototype.toString.call(value)))
    return `a class: make one${name === "" ? "" : `, \`new ${name}()\``}`;
  return `a function: call it${name === "" ? "" : `, \`${name}()\``}`;
}

function hasRight(value: unknown, kind: OptionKind, member: string): boolean {
  if (typeof value !== "object" || value === null) return false;
  try {
    return !isText((value as Members)[member]) && kind.is((value as Members)[member]);
  } catch {
    return false; // Members may be getters that throw: those of a service whose plugins are not loaded.
  }
}

/** What a value is, for error texts; texts are quoted, and cut where they are long. */
export function valueName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "string") return JSON.stringify(shown(value));
  if (typeof value === "function") return "a function";
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "symbol") return "a symbol";
  if (typeof value === "number" || typeof value === "boolean" || value === undefined) return String(value);
  const { constructor } = value;
  const name = typeof constructor === "function" && constructor !== Object ? constructor.name : "";
  return name === "" ? "an object" : `${/^[aeio]/i.test(name) ? "an" : "a"} ${name}`;
}

/** A text that a stranger or a slip may have made long. */
export function shown(name: string): string {
  return name.length > 60 ? `${name.slice(0, 60)}…` : name;
}
