/** Whether routes of `google.api.http` can be served: paths, the fields they name, and no route twice. */
import type { DescField, DescFile, DescMessage, DescMethod } from "@bufbuild/protobuf";
import { SourceNotes } from "./comments.ts";
import { httpRule, type HttpRule } from "./http.ts";
import { goCamelCase } from "./names.ts";
import { suggestion } from "./nearest.ts";
import { InputError } from "./options.ts";
import { isExpression, parseTemplate } from "./path-template.ts";
import { serviceName, type StubContext } from "./stub.ts";

/** Messages that are one text in a path. */
const texts = new Set(
  "Timestamp Duration FieldMask DoubleValue FloatValue Int64Value UInt64Value Int32Value UInt32Value BoolValue StringValue BytesValue"
    .split(" ")
    .map((name) => `google.protobuf.${name}`),
);

/** Number of the option `google.api.http`. */
const httpOption = 72295728;

/**
 * Check all routes of files. One that is there twice is a warning: Google's own files have some, and the first is served.
 * @throws {InputError} with every route that nobody could serve, file and line in each
 */
export function checkRoutes(files: readonly DescFile[], { options, registry, warn }: StubContext): void {
  const faults: string[] = [];
  /** Who has a route, by the micro service, the method and the path. */
  const taken = new Map<string, string>();
  for (const file of files) {
    const notes = new SourceNotes(file);
    for (const service of file.services)
      for (const method of service.methods) {
        const rule = httpRule(method, registry);
        if (rule === undefined) continue;
        const place = notes.placeOf(method, httpOption);
        const rpc = `${goCamelCase(service.name)}.${method.name}`;
        for (const { route, fault, doubt } of checkRule(method, rule)) {
          if (fault !== undefined) faults.push(`${place}: rpc ${rpc}: ${fault}`);
          if (doubt !== undefined) warn(`${place}: warning: rpc ${rpc}: ${doubt}`);
          if (route === undefined) continue;
          const key = JSON.stringify([serviceName(service, options), route]);
          const other = taken.get(key);
          if (other === undefined) taken.set(key, `rpc ${rpc} (${place})`);
          else warn(`${place}: warning: rpc ${rpc}: ${route} is a route of ${other} already, which comes first`);
        }
      }
  }
  if (faults.length > 0) throw new InputError(faults.join("\n"));
}

interface Checked {
  /** Method and pattern of a route that is right. */
  readonly route?: string;
  readonly fault?: string;
  /** What is wrong with a route that some have on purpose. */
  readonly doubt?: string;
}

function checkRule(method: DescMethod, rule: HttpRule): Checked[] {
  const nested = rule.additionalBindings.some((one) => one.additionalBindings.length > 0);
  const isMore = rule.pattern.case === undefined && rule.additionalBindings.length > 0;
  return [
    ...(nested ? [{ fault: "additional_bindings cannot have additional_bindings" }] : []),
    ...(isMore ? [] : [checkBinding(method, rule)]),
    ...rule.additionalBindings.map((one) => checkBinding(method, one)),
  ];
}

function checkBinding({ input, output }: DescMethod, { pattern, body, responseBody }: HttpRule): Checked {
  if (pattern.case === undefined) return { fault: 'google.api.http has no method and path, as in get: "/v1/shelves"' };
  const isCustom = pattern.case === "custom";
  const [verb, path] = isCustom
    ? [pattern.value.kind, pattern.value.path]
    : [pattern.case.toUpperCase(), pattern.value];
  if (isCustom && !/^[\w!#$%&'*+.^`|~-]+$/.test(verb)) return { fault: `${JSON.stringify(verb)} is no HTTP method` };
  const template = parseTemplate(path);
  if (typeof template === "string") {
    const text = `the path ${JSON.stringify(path)}: ${template}`;
    // What is wrong with a regular expression is for go-micro's gateway to say; its own tests have wrong ones.
    return isExpression(path) ? { doubt: `${text}; go-micro's gateway does not serve it` } : { fault: text };
  }
  for (const variable of template.variables) {
    const fault = checkVariable(input, variable);
    if (fault !== undefined) return { fault: `the path ${JSON.stringify(path)}: ${fault}` };
  }
  if (body !== "" && body !== "*" && fieldOf(input, body) === undefined)
    return { fault: `body: ${noField(input, body)}` };
  if (responseBody !== "" && fieldOf(output, responseBody) === undefined)
    return { fault: `response_body: ${noField(output, responseBody)}` };
  return { route: `${verb} ${template.pattern}` };
}

function checkVariable(request: DescMessage, variable: string): string | undefined {
  let message: DescMessage = request;
  const parts = variable.split(".");
  for (const [index, part] of parts.entries()) {
    const field = fieldOf(message, part);
    if (field === undefined) return noField(message, part);
    if (field.fieldKind === "list" || field.fieldKind === "map") return `{${variable}}: ${part} is a list or a map`;
    if (index === parts.length - 1)
      return field.message === undefined || texts.has(field.message.typeName)
        ? undefined
        : `{${variable}}: ${part} is a message, and no part of a path`;
    if (field.message === undefined) return `{${variable}}: ${part} is no message with fields`;
    message = field.message;
  }
  return undefined;
}

function fieldOf(message: DescMessage, name: string): DescField | undefined {
  return message.fields.find((field) => field.name === name);
}

function noField(message: DescMessage, name: string): string {
  const names = message.fields.map((field) => field.name);
  return `${JSON.stringify(name)} is no field of ${message.typeName}${suggestion(name, names)}`;
}
