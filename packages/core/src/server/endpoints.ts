/** Endpoints as the registry lists them. */
import type { HttpRoute, MessageType } from "../definition.ts";
import type { Endpoint, StringMap, Value } from "../registry/registry.ts";
import { streamRequestValue, streamResponseValue, valueOf } from "../registry/values.ts";
import type { HandlerMethod } from "./handlers.ts";
import type { Plan } from "./router.ts";

/** A handler without a definition takes and gives any JSON; an empty type is what Go's `interface{}` has. */
export const anyValue: Value = { name: "any", type: "", values: null };

/** The endpoints of these plans, internal ones left out. */
export function describeEndpoints(plans: readonly Plan[]): Endpoint[] {
  return plans
    .filter(({ method }) => !method.internal)
    .map(({ endpoint, method }) => {
      const streams = method.kind !== "unary";
      return {
        name: endpoint,
        request: streams ? streamRequestValue : describe(method.request),
        response: streams ? streamResponseValue : describe(method.response),
        metadata: endpointMetadata(endpoint, method),
      };
    });
}

function describe(type: MessageType | undefined): Value {
  return type === undefined ? anyValue : valueOf(type);
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
