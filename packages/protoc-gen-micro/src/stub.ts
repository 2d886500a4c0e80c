/** The stubs of one .proto file: definition, typed client, handler and its registration for each service. */
import type { DescFile, DescMessage, DescMethod, DescService, FileRegistry } from "@bufbuild/protobuf";
import { docComment, fileHead, SourceNotes } from "./comments.ts";
import { httpBinding, type Route } from "./http.ts";
import { messagesModule, tsMessageName } from "./messages.ts";
import { typeName as messageTypeName } from "./message-names.ts";
import { goCamelCase, methodKey, NameScope, uncapitalised } from "./names.ts";
import { InputError, type GenerateOptions } from "./options.ts";
import { type MessageTree, messageTree, oneofNames } from "./values.ts";

/** Width at which lists are broken into lines, as most formatters have it. */
const lineWidth = 120;

export interface StubContext {
  readonly options: GenerateOptions;
  readonly registry: FileRegistry;
  /** Tell the author of the .proto file something. */
  readonly warn: (message: string) => void;
}

/** The names one service has in its file. */
interface ServiceNames {
  readonly service: DescService;
  /** First part of the endpoints, and the definition. */
  readonly type: string;
  readonly definition: string;
  readonly methods: string;
  readonly client: string;
  readonly handler: string;
  readonly newClient: string;
  readonly register: string;
}

/** The micro service that has a service of a .proto file. */
export function serviceName({ file, name }: DescService, options: GenerateOptions): string {
  return options.service ?? (file.proto.package || name.toLowerCase());
}

/** Text of the stubs of a file that has services. @throws {InputError} for rpcs that cannot be told apart */
export function generateStubs(file: DescFile, context: StubContext): string {
  return new StubFile(file, context).text();
}

class StubFile {
  readonly #file: DescFile;
  readonly #context: StubContext;
  readonly #notes: SourceNotes;
  readonly #scope = new NameScope();
  /** Names of core in this file, by their names in core. */
  readonly #core = new Map<string, string>();
  /** Names of messages in this file, by module and name there. */
  readonly #imports = new Map<string, Map<string, string>>();
  /** Message types: the constant of each, in the order of their use. */
  readonly #messageTypes = new Map<DescMessage, string>();

  constructor(file: DescFile, context: StubContext) {
    this.#file = file;
    this.#context = context;
    this.#notes = new SourceNotes(file);
  }

  text(): string {
    // What others import keeps its name, whatever the messages are called.
    const services = this.#exportedNames();
    const bodies = services.map((names) => this.#service(names));
    const messageTypes = [...this.#messageTypes].map(([message, name]) => this.#messageType(message, name));
    const head = [...fileHead(this.#file), ...this.#importLines()].join("\n");
    return `${[head, ...messageTypes, ...bodies].join("\n\n")}\n`;
  }

  #exportedNames(): ServiceNames[] {
    const types = new Map<string, DescService>();
    const services = this.#file.services.map((service) => {
      const type = goCamelCase(service.name);
      const other = types.get(type);
      if (other !== undefined)
        throw new InputError(
          `${this.#notes.placeOf(service)}: services ${other.name} and ${service.name} are both ${type} on the wire`,
        );
      types.set(type, service);
      return { service, type, definition: this.#scope.take(type) };
    });
    // Go's names: `Service` is not doubled. As a type it may be the definition's name, which is a value.
    const clients = new NameScope();
    return services.map((names) => {
      const { type } = names;
      const client = clients.take(type.endsWith("Service") ? type : `${type}Service`);
      if (client !== names.definition) this.#scope.take(client);
      return {
        ...names,
        client,
        methods: this.#scope.take(`${type}Methods`),
        handler: this.#scope.take(`${type}Handler`),
        newClient: this.#scope.take(`new${client}`),
        register: this.#scope.take(`register${type}Handler`),
      };
    });
  }

  #service(names: ServiceNames): string {
    const { service, definition, methods, client, handler, newClient, register } = names;
    const { options } = this.#context;
    const keys = new Set<string>();
    const described = service.methods.map((method) => this.#method(names, method, keys));
    this.#checkNames(service, described);
    const deprecated = isDeprecated(service) || isDeprecated(this.#file);
    const comment = this.#notes.commentOf(service);
    const doc = (lines: readonly string[]): string[] => docComment(deprecated ? [...lines, "@deprecated"] : lines);
    const name = serviceName(service, options);
    return [
      ...docComment([`Methods of {@link ${definition}}, by their names in code.`]),
      ...(described.length === 0
        ? [`export type ${methods} = {};`]
        : [`export type ${methods} = {`, ...described.flatMap(({ type }) => type), "};"]),
      "",
      ...doc(comment.length > 0 ? comment : [`The service ${service.typeName}.`]),
      `export const ${definition}: ${this.#fromCore("ServiceDefinition")}<${methods}> = {`,
      `  service: ${JSON.stringify(name)},`,
      `  type: ${JSON.stringify(names.type)},`,
      `  contentType: "application/protobuf",`,
      ...(described.length === 0
        ? ["  methods: {},"]
        : ["  methods: {", ...described.flatMap(({ value }) => value), "  },"]),
      "};",
      "",
      ...doc([`Typed client of {@link ${definition}}.`]),
      `export interface ${client} extends ${this.#fromCore("ServiceClient")}<${methods}> {}`,
      "",
      ...doc([
        `Make a typed client: \`${newClient}(${JSON.stringify(name)}, service.client)\`.`,
        "@param name micro name of the service to call",
        "@param client a client, or the service that has one",
      ]),
      `export function ${newClient}(name: string, client: { client: ${this.#fromCore("Client")}["client"] }): ${client} {`,
      `  return client.client(${definition}, { service: name });`,
      "}",
      "",
      ...doc([`What serves {@link ${definition}}: one function per method.`]),
      `export interface ${handler} extends ${this.#fromCore("ServiceHandlers")}<${methods}> {}`,
      "",
      ...doc([`Serve {@link ${definition}} on a service or a server.`]),
      `export function ${register}(`,
      `  server: ${this.#fromCore("HandlerRegistration")},`,
      `  handler: ${handler},`,
      `  options?: ${this.#fromCore("HandleOptions")},`,
      "): void {",
      `  server.handle(${definition}, handler, options);`,
      "}",
    ].join("\n");
  }

  #method(names: ServiceNames, method: DescMethod, keys: Set<string>): MethodText {
    const name = goCamelCase(method.name);
    if (name !== method.name)
      this.#context.warn(
        `${this.#notes.placeOf(method)}: warning: rpc ${method.name}: Go clients cannot call it, because they ask for ` +
          `${names.type}.${method.name} while Go services serve ${names.type}.${name}; name it ${name}`,
      );
    let key = methodKey(method.name);
    // `Then` and `Then_` would be the same.
    while (keys.has(key)) key += "_";
    keys.add(key);
    const kind = kinds[method.methodKind];
    const { routes, metadata } = httpBinding(method, `${names.type}.${name}`, this.#context.registry);
    const deprecated = isDeprecated(method);
    const comment = this.#notes.commentOf(method);
    const typeArguments = [this.#message(method.input), this.#message(method.output)];
    if (kind !== "unary") typeArguments.push(JSON.stringify(kind));
    const members = [
      `name: ${JSON.stringify(name)}`,
      `kind: ${JSON.stringify(kind)}`,
      `request: ${this.#messageTypeOf(method.input)}`,
      `response: ${this.#messageTypeOf(method.output)}`,
      ...(routes.length === 0 ? [] : [`http: ${list(routes.map(routeText), "      ")}`]),
      ...(metadata === undefined ? [] : [`metadata: ${object(metadata, "      ")}`]),
    ];
    return {
      key,
      name,
      type: [
        ...docComment(deprecated ? [...comment, "@deprecated"] : comment, "  "),
        `  readonly ${key}: ${this.#fromCore("ProtoMethod")}<${typeArguments.join(", ")}>;`,
      ],
      value: [`    ${key}: ${block("{", members, "}", "    ", 4 + key.length + 3)},`],
    };
  }

  #checkNames({ methods }: DescService, described: readonly MethodText[]): void {
    const seen = new Map<string, DescMethod>();
    for (const [position, { name, key }] of described.entries()) {
      const method = methods[position]!;
      const other = seen.get(name);
      if (other !== undefined)
        throw new InputError(
          `${this.#notes.placeOf(method)}: two rpcs of one service are both ${name} on the wire: ` +
            `${other.name} (${this.#notes.placeOf(other)}) and ${method.name} (here ${key})`,
        );
      seen.set(name, method);
    }
  }

  /** The constant that describes a message to codecs and registry. */
  #messageTypeOf(message: DescMessage): string {
    const known = this.#messageTypes.get(message);
    if (known !== undefined) return known;
    const name = this.#scope.take(uncapitalised(this.#messageName(message)));
    this.#messageTypes.set(message, name);
    return name;
  }

  #messageType(message: DescMessage, name: string): string {
    const tree = messageTree(message);
    const functions = this.#message(message);
    const members = [`name: ${JSON.stringify(tree.typeName)}`, `value: ${this.#tree(tree, "  ", 9)}`];
    const { options } = this.#context;
    if (options.messages === "micro") {
      if (options.jsonNames === "proto") members.push(`jsonNames: "proto"`);
      if (needsTypes(message)) members.push(`types: () => ${this.#protoTypes()}($types)`);
      if (options.jsonUnknown === "ignore") members.push("ignoreUnknownFields: true");
    }
    const oneofs = options.messages === "micro" ? [] : oneofNames(message);
    if (oneofs.length > 0)
      members.push(
        `oneofs: ${list(
          oneofs.map((one) => JSON.stringify(one)),
          "  ",
        )}`,
      );
    // What is not used of a file can be left out by bundlers.
    const start = `const ${name} = /* @__PURE__ */ ${this.#fromCore("protoMessage")}(${functions}, `;
    return `${start}${block("{", members, "}", "", start.length)});`;
  }

  #tree({ typeName, fields }: MessageTree, indent: string, column: number): string {
    const start = `/* @__PURE__ */ ${this.#fromCore("message")}(${JSON.stringify(typeName)}`;
    if (fields.length === 0) return `${start})`;
    const members = fields.map(([name, field]) => {
      // A literal with such a key would set the prototype.
      const key = name === "__proto__" ? `["__proto__"]` : name;
      const text = typeof field === "string" ? JSON.stringify(field) : this.#tree(field, `${indent}  `, key.length + 2);
      return `${key}: ${text}`;
    });
    return `${start}, ${block("{", members, "}", indent, indent.length + column + start.length)})`;
  }

  /** The function of core's that makes types known to an `Any`. */
  #protoTypes(): string {
    const { options } = this.#context;
    const module = messagesModule(this.#file, this.#file, options);
    this.#importOf(module).set("$types", "$types");
    const names = this.#importOf(options.runtime);
    let local = names.get("protoTypes");
    if (local === undefined) names.set("protoTypes", (local = this.#scope.take("protoTypes")));
    return local;
  }

  #importOf(module: string): Map<string, string> {
    let names = this.#imports.get(module);
    if (names === undefined) this.#imports.set(module, (names = new Map()));
    return names;
  }

  #messageName(message: DescMessage): string {
    return this.#context.options.messages === "micro" ? messageTypeName(message) : tsMessageName(message);
  }

  /** The name of a message in this file. */
  #message(message: DescMessage): string {
    const module = messagesModule(this.#file, message.file, this.#context.options);
    const names = this.#importOf(module);
    const exported = this.#messageName(message);
    let local = names.get(exported);
    if (local === undefined) names.set(exported, (local = this.#scope.take(exported)));
    return local;
  }

  #fromCore(name: string): string {
    let local = this.#core.get(name);
    if (local === undefined) this.#core.set(name, (local = this.#scope.take(name)));
    return local;
  }

  #importLines(): string[] {
    const values = new Set(["message", "protoMessage"]);
    const core = [...this.#core]
      .toSorted(([a], [b]) => Number(values.has(b)) - Number(values.has(a)) || compare(a, b))
      .map(([name, local]) => `${values.has(name) ? "" : "type "}${renamed(name, local)}`);
    const modules = [...this.#imports].toSorted(([a], [b]) => compare(a, b));
    return [
      importLine(core, this.#context.options.core),
      ...modules.map(([module, names]) => {
        const sorted = [...names].toSorted(([a], [b]) => compare(a, b));
        return importLine(
          sorted.map(([name, local]) => renamed(name, local)),
          module,
        );
      }),
    ];
  }
}

/** True if an `Any`, or a message that may have extensions, is in a message. */
function needsTypes(message: DescMessage): boolean {
  const seen = new Set<DescMessage>([message]);
  // A set's iteration goes on with what is added meanwhile.
  for (const next of seen) {
    if (next.typeName === "google.protobuf.Any" || next.proto.extensionRange.length > 0) return true;
    for (const field of next.fields) if (field.message !== undefined) seen.add(field.message);
  }
  return false;
}

interface MethodText {
  readonly key: string;
  readonly name: string;
  /** Lines of the type, and of the definition. */
  readonly type: readonly string[];
  readonly value: readonly string[];
}

const kinds = {
  unary: "unary",
  server_streaming: "server",
  client_streaming: "client",
  bidi_streaming: "bidi",
} as const;

function isDeprecated(described: DescMethod | DescService | DescFile): boolean {
  return described.proto.options?.deprecated === true;
}

function routeText(route: Route): string {
  return object(route, "        ");
}

function object(members: object, indent: string): string {
  if (Object.keys(members).length === 0) return "{}";
  const texts = Object.entries(members).map(([key, value]) => `${key}: ${JSON.stringify(value)}`);
  return block("{", texts, "}", indent, indent.length + 12);
}

function list(texts: readonly string[], indent: string): string {
  const line = `[${texts.join(", ")}]`;
  if (indent.length + 6 + line.length < lineWidth && !line.includes("\n")) return line;
  return ["[", ...texts.map((text) => `${indent}  ${text},`), `${indent}]`].join("\n");
}

/** Members in one line, if they fit behind `column`, or one each. */
function block(open: string, members: readonly string[], close: string, indent: string, column: number): string {
  const line = `${open} ${members.join(", ")} ${close}`;
  if (column + line.length < lineWidth - 2 && !line.includes("\n")) return line;
  return [open, ...members.map((member) => `${indent}  ${member},`), `${indent}${close}`].join("\n");
}

function renamed(name: string, local: string): string {
  return name === local ? name : `${name} as ${local}`;
}

function importLine(names: readonly string[], module: string): string {
  const line = `import { ${names.join(", ")} } from ${JSON.stringify(module)};`;
  if (line.length <= lineWidth) return line;
  return ["import {", ...names.map((name) => `  ${name},`), `} from ${JSON.stringify(module)};`].join("\n");
}

/** By code units: the same on every machine. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
