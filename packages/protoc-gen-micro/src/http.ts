/** Routes of `google.api.http`, and the endpoint metadata that go-micro's generator makes of them. */
import { getExtension, hasExtension, type DescMethod, type FileRegistry } from "@bufbuild/protobuf";

/** One route; the same members as core's `HttpRoute`. */
export interface Route {
  readonly method: string;
  readonly path: string;
  readonly body?: string;
  readonly responseBody?: string;
}

/** The option as it is written: one binding, and more of them. */
export interface HttpRule {
  readonly pattern:
    | { readonly case: "get" | "put" | "post" | "delete" | "patch"; readonly value: string }
    | { readonly case: "custom"; readonly value: { readonly kind: string; readonly path: string } }
    | { readonly case: undefined };
  readonly body: string;
  readonly responseBody: string;
  readonly additionalBindings: readonly HttpRule[];
}

export interface HttpBinding {
  /** All bindings, the main one first. */
  readonly routes: readonly Route[];
  /**
   * Metadata of the endpoint as Go registers it: of the main binding, none for a custom verb
   * (`protoc-gen-micro` of micro v2, `generateEndpoint`; `api.Encode`). Undefined without the option.
   */
  readonly metadata: Readonly<Record<string, string>> | undefined;
}

/** The option of an rpc. The annotation is found in the files of the request, so its own file has to be among them. */
export function httpRule(method: DescMethod, registry: FileRegistry): HttpRule | undefined {
  const extension = registry.getExtension("google.api.http");
  const { options } = method.proto;
  if (extension === undefined || options === undefined || !hasExtension(options, extension)) return undefined;
  // The message of an extension that is known only at run time.
  const rule: unknown = getExtension(options, extension);
  return rule as HttpRule;
}

/** The routes of an rpc. */
export function httpBinding(method: DescMethod, endpoint: string, registry: FileRegistry): HttpBinding {
  const rule = httpRule(method, registry);
  return rule === undefined ? { routes: [], metadata: undefined } : bindingOf(rule, endpoint);
}

function bindingOf(rule: HttpRule, endpoint: string): HttpBinding {
  const routes = [rule, ...rule.additionalBindings].map(route).filter((one) => one !== undefined);
  const { pattern } = rule;
  const known = pattern.case !== undefined && pattern.case !== "custom" && pattern.value !== "";
  return {
    routes,
    metadata: known ? { endpoint, handler: "rpc", method: pattern.case.toUpperCase(), path: pattern.value } : {},
  };
}

function route({ pattern, body, responseBody }: HttpRule): Route | undefined {
  if (pattern.case === undefined) return undefined;
  const [method, path] =
    pattern.case === "custom" ? [pattern.value.kind, pattern.value.path] : [pattern.case.toUpperCase(), pattern.value];
  if (method === "" || path === "") return undefined;
  return { method, path, ...(body === "" ? {} : { body }), ...(responseBody === "" ? {} : { responseBody }) };
}
