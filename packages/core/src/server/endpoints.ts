/** Endpoints as the registry lists them. */
import type { HttpRoute, MessageType } from "../definition.ts";
import type { Endpoint, StringMap, Value } from "../registry/registry.ts";
import type { HandlerMethod } from "./handlers.ts";
import type { Plan } from "./router.ts";

/** A handler without a definition takes and gives any JSON. */
const anyValue: Value = { name: "any", type: "any", values: null };
// What Go registers for streams: the types of the method's two parameters (`server/extractor.go`).
const contextValue: Value = { name: "Context", type: "Context", values: null };
const streamValue: Value = { name: "Stream", type: "Stream", values: null };

/** The endpoints of these plans, internal ones left out. */
export function describeEndpoints(plans: readonly Plan[]): Endpoint[] {
  return plans
    .filter(({ method }) => !method.internal)
    .map(({ endpoint, method }) => {
      const streams = method.kind !== "unary";
      return {
        name: endpoint,
        request: streams ? contextValue : valueOf(method.request),
        response: streams ? streamValue : valueOf(method.response),
        metadata: endpointMetadata(endpoint, method),
      };
    });
}

function valueOf(type: MessageType | undefined): Value {
  if (type === undefined) return anyValue;
  return type.value ?? { name: type.name, type: type.name, values: null };
}

function endpointMetadata(endpoint: string, method: HandlerMethod): StringMap {
  return {
    ...routeMetadata(endpoint, method.http),
    ...method.metadata,
    ...(method.kind === "unary" ? {} : { stream: "true" }),
  };
}

/**
 * Keys of Go's API gateway (`api/api.go`). It matches every listed method with every listed path, so of several
 * routes those are told that share the first one's method: none is let in that was not declared.
 */
function routeMetadata(endpoint: string, routes: readonly HttpRoute[]): StringMap {
  const [first] = routes;
  if (first === undefined) return {};
  const paths = routes.filter(({ method }) => method === first.method).map(({ path }) => path);
  return { endpoint, handler: "rpc", method: first.method, path: [...new Set(paths)].join(",") };
}
