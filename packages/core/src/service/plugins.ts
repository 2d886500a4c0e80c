/**
 * Plugins: descriptors, and loading them by name.
 *
 * A plugin package exports `plugins`, a list of descriptors. `--registry=etcd` imports `@micro/registry-etcd` from the
 * program's own dependencies and takes its descriptor of kind `registry` and name `etcd`.
 */
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { builtin } from "../builtins.ts";
import type { Broker } from "../broker/broker.ts";
import type { Client, ClientOptions, ProtocolClient } from "../client/client.ts";
import type { Logger } from "../logger/logger.ts";
import type { Registry } from "../registry/registry.ts";
import type { Selector } from "../selector/selector.ts";
import type { Server, ServerOptions } from "../server/server.ts";
import type { Transport } from "../transport/transport.ts";
import { nearest } from "../nearest.ts";
import { isModule, knownNames, pluginKinds, pluginModule, pluginName } from "./aliases.ts";
import type { PluginKind } from "./aliases.ts";
import { UsageError } from "./flags.ts";
import type { FlagDefinition, FlagValues } from "./flags.ts";
import type { TlsSettings } from "./options.ts";

/** What a plugin is made with. */
export interface PluginContext {
  /** Name of the service. */
  readonly service: string;
  readonly version: string;
  readonly logger: Logger;
  /** `--registry_address` and the like; empty = the plugin's default. */
  readonly addresses: readonly string[];
  /** Registry domain; undefined = none. */
  readonly domain: string | undefined;
  readonly tls: TlsSettings;
  /** Parsed flags, the plugin's own among them; undefined when the service was never initialised. */
  readonly flags: FlagValues | undefined;
}

/** What a selector plugin is made with. */
export interface SelectorPluginContext extends PluginContext {
  readonly registry: Registry;
}

/** What a broker plugin is made with. */
export interface BrokerPluginContext extends PluginContext {
  /** For brokers that find each other through it. */
  readonly registry: Registry;
}

/** What a client plugin is made with. */
export interface ClientPluginContext extends PluginContext {
  readonly client: ClientOptions;
}

/** What a server plugin is made with. */
export interface ServerPluginContext extends PluginContext {
  readonly server: ServerOptions;
}

interface Descriptor<Kind extends PluginKind, Piece, Init extends PluginContext = PluginContext> {
  readonly kind: Kind;
  /** What users write: `--registry=etcd` asks for kind `registry` and name `etcd`. */
  readonly name: string;
  /** Make one. Must not connect: pieces do so on first use. The service disposes of it. */
  create(context: Init): Piece;
  /** Further flags. `--help` lists them once the plugin is given in code, chosen by name, or loaded by `--plugin`. */
  readonly flags?: readonly FlagDefinition[] | undefined;
}

export type RegistryPlugin = Descriptor<"registry", Registry>;
export type BrokerPlugin = Descriptor<"broker", Broker, BrokerPluginContext>;
export type TransportPlugin = Descriptor<"transport", Transport>;
export type SelectorPlugin = Descriptor<"selector", Selector, SelectorPluginContext>;
/** `logger` of its context is the default one, at the level asked for. */
export type LoggerPlugin = Descriptor<"logger", Logger>;
export type ServerPlugin = Descriptor<"server", Server, ServerPluginContext>;

/** A client, and what carries single attempts to nodes whose `protocol` is the plugin's name. */
export interface ClientPlugin extends Descriptor<"client", Client, ClientPluginContext> {
  createProtocol?(context: PluginContext): ProtocolClient;
}

/** Kinds whose interface lies outside of this package, or is still to come. */
export type OtherPlugin = Descriptor<
  Exclude<PluginKind, "registry" | "broker" | "transport" | "selector" | "logger" | "server" | "client">,
  unknown
>;

/** An entry of a plugin package's `plugins`. */
export type PluginDescriptor =
  | RegistryPlugin
  | BrokerPlugin
  | TransportPlugin
  | SelectorPlugin
  | LoggerPlugin
  | ServerPlugin
  | ClientPlugin
  | OtherPlugin;

type PluginOf<Kind extends PluginKind> = Extract<PluginDescriptor, { readonly kind: Kind }>;

/** The descriptors a service knows: given in code, loaded for `--plugin`, or loaded by name. */
export class PluginTable {
  readonly #descriptors = new Map<string, PluginDescriptor>();

  /** @throws {TypeError} for something that is no descriptor, or a second one of the same kind and name. */
  add(descriptors: readonly PluginDescriptor[], origin: string): void {
    for (const descriptor of checkDescriptors(descriptors, origin)) {
      const key = `${descriptor.kind} ${descriptor.name}`;
      const known = this.#descriptors.get(key);
      if (known !== undefined && known !== descriptor)
        throw new TypeError(`${origin}: there is already a ${descriptor.kind} plugin called ${quote(descriptor.name)}`);
      this.#descriptors.set(key, descriptor);
    }
  }

  get<Kind extends PluginKind>(kind: Kind, name: string): PluginOf<Kind> | undefined {
    const found =
      this.#descriptors.get(`${kind} ${name}`) ?? this.#descriptors.get(`${kind} ${pluginName(kind, name)}`);
    return found as PluginOf<Kind> | undefined;
  }

  /** Flags of all known plugins. */
  flags(): FlagDefinition[] {
    return [...new Set([...this.#descriptors.values()].flatMap((descriptor) => descriptor.flags ?? []))];
  }

  /**
   * Import the module behind a name, unless the plugin is known. Later look-ups by that name find it.
   * @param source what asked for it, e.g. `--registry`, for errors.
   * @throws {UsageError} when it is not installed or holds no such plugin.
   */
  async load(kind: PluginKind, name: string, source: string, builtIn: readonly string[]): Promise<void> {
    if (this.get(kind, name) !== undefined) return;
    if (!isModule(name) && !/^[A-Za-z0-9][\w.-]*$/.test(name))
      throw new UsageError(`${source}: ${quote(name)} is not the name of a ${kind}`);
    const module = pluginModule(kind, name);
    const known = knownNames(kind, builtIn);
    const missing = isModule(name)
      ? `${source}: ${kind} ${quote(name)} cannot be found`
      : `${source}: ${kind} ${quote(name)} is neither built in${builtIn.length > 0 ? ` (${builtIn.join(", ")})` : ""} nor installed`;
    const meant = isModule(name) || known.includes(name) ? undefined : nearest(name, known);
    const descriptors = await importPlugins(module, missing, meant && `did you mean ${quote(meant)}?`);
    const ofKind = descriptors.filter((descriptor) => descriptor.kind === kind);
    const wanted = pluginName(kind, name);
    const found = isModule(name) && ofKind.length === 1 ? ofKind[0] : ofKind.find((each) => each.name === wanted);
    if (found === undefined) {
      const has = descriptors.map((each) => `${each.kind} ${quote(each.name)}`).join(", ");
      throw new UsageError(
        `${source}: ${module} has no ${kind}${isModule(name) ? " to choose" : ` ${quote(wanted)}`}; its plugins are: ${has}`,
      );
    }
    this.#descriptors.set(`${kind} ${wanted}`, found);
  }
}

/**
 * Import a module and return its descriptors.
 * @param missing the error when it is not installed.
 * @param advice what to do then. Default: how to install it.
 * @throws {UsageError} one line that says what to do.
 */
export async function importPlugins(
  module: string,
  missing: string,
  advice?: string,
): Promise<readonly PluginDescriptor[]> {
  const url = resolveModule(module);
  if (url === undefined) {
    if (advice !== undefined) throw new UsageError(`${missing}; ${advice}`);
    throw new UsageError(isPath(module) ? missing : `${missing}: npm i ${packageName(module)}`);
  }
  let exports: { plugins?: unknown; default?: { plugins?: unknown } };
  try {
    exports = (await import(url)) as typeof exports;
  } catch (error) {
    throw new UsageError(`${module} cannot be imported: ${oneLine(error)}`, { cause: error });
  }
  const plugins = exports.plugins ?? exports.default?.plugins;
  if (!Array.isArray(plugins) || plugins.length === 0)
    throw new UsageError(`${module} is no plugin: it must export \`plugins\`, a list of descriptors`);
  try {
    return checkDescriptors(plugins as unknown[], module);
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}

function checkDescriptors(values: readonly unknown[], origin: string): readonly PluginDescriptor[] {
  for (const [index, value] of values.entries()) {
    const at = `${origin}: plugins[${index}]`;
    if (typeof value !== "object" || value === null) throw new TypeError(`${at} must be { kind, name, create }`);
    const { kind, name, create } = value as Partial<PluginDescriptor>;
    if (typeof kind !== "string" || !pluginKinds.has(kind))
      throw new TypeError(`${at}: \`kind\` must be one of ${[...pluginKinds].join(", ")}`);
    if (typeof name !== "string" || name === "") throw new TypeError(`${at}: \`name\` must be a text`);
    if (typeof create !== "function") throw new TypeError(`${at}: \`create\` must be a function`);
  }
  return values as readonly PluginDescriptor[];
}

/** The file of a module, seen from the program's entry, then from the working directory. */
function resolveModule(module: string): string | undefined {
  if (module.startsWith("file:")) return module;
  if (isPath(module)) {
    // As typed in a shell: relative to the working directory.
    try {
      return pathToFileURL(builtin.module().createRequire(join(process.cwd(), "_")).resolve(resolve(module))).href;
    } catch {
      return undefined;
    }
  }
  const entry = process.argv[1];
  for (const base of [...(entry === undefined ? [] : [resolve(entry)]), join(process.cwd(), "_")]) {
    const file = resolveFrom(module, base);
    if (file !== undefined) return pathToFileURL(file).href;
  }
  return undefined;
}

function resolveFrom(module: string, base: string): string | undefined {
  try {
    return builtin.module().createRequire(base).resolve(module);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") return undefined;
  }
  // Its `exports` are for `import` alone; Node's synchronous resolver only knows `require`.
  const manifest = builtin.module().findPackageJSON(module, base);
  if (manifest === undefined) return undefined;
  const { exports } = JSON.parse(builtin.fs().readFileSync(manifest, "utf8")) as { exports?: unknown };
  const target = exportTarget(exports);
  return target === undefined ? undefined : join(dirname(manifest), target);
}

/** The main entry of a package's `exports`, by the conditions of `import`. */
function exportTarget(exports: unknown): string | undefined {
  if (typeof exports === "string") return exports;
  if (typeof exports !== "object" || exports === null) return undefined;
  for (const [condition, target] of Object.entries(exports)) {
    if (condition !== "." && condition !== "node" && condition !== "import" && condition !== "default") continue;
    const found = exportTarget(target);
    if (found !== undefined) return found;
  }
  return undefined;
}

const isPath = (module: string): boolean => isModule(module) && !module.startsWith("@");
const packageName = (module: string): string =>
  module
    .split("/")
    .slice(0, module.startsWith("@") ? 2 : 1)
    .join("/");
const quote = (text: string): string => JSON.stringify(text);
const oneLine = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).split("\n")[0]!.trim();
