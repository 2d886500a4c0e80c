/** Endpoints by name: who answers, and why nobody does. */
import type { Context } from "../context.ts";
import { MicroError, badRequest } from "../errors.ts";
import type { Next } from "../wrapper.ts";
import { composeHandler } from "./compose.ts";
import type { HandlerMethod, Registration } from "./handlers.ts";
import type { HandlerWrapper } from "./server.ts";

/** All that can be known of an endpoint before a call comes in. */
export interface Plan {
  readonly endpoint: string;
  readonly method: HandlerMethod;
  /** Wrappers and handler. */
  readonly invoke: Next<Context>;
}

/** The handlers of one server. */
export class Router {
  readonly #plans = new Map<string, Plan>();
  readonly #types = new Set<string>();
  readonly #wrappers: readonly HandlerWrapper[];

  constructor(wrappers: readonly HandlerWrapper[]) {
    this.#wrappers = [...wrappers];
  }

  /** @throws {TypeError} if the type, or the single endpoint, is taken. */
  add({ type, methods, whole }: Registration): void {
    if (whole && this.#types.has(type)) throw new TypeError(`handle(${type}): there is a handler of this name already`);
    const plans = methods.map((method): Plan => {
      const endpoint = `${type}.${method.name}`;
      if (this.#plans.has(endpoint))
        throw new TypeError(`handle(${endpoint}): there is a handler of this name already`);
      return { endpoint, method, invoke: composeHandler(this.#wrappers, method.kind, method.run) };
    });
    this.#types.add(type);
    for (const plan of plans) this.#plans.set(plan.endpoint, plan);
  }

  find(endpoint: string): Plan | undefined {
    return this.#plans.get(endpoint);
  }

  /**
   * Why `endpoint` has no handler. The texts are Go's (`server/rpc_router.go`), which sends them bare; with a code
   * and the service's name around them a Go caller's `errors.Parse` says 404, and the text is still in `err.Error()`.
   */
  refusal(endpoint: string, service: string): MicroError {
    const [type, method, ...rest] = endpoint.split(".");
    if (type === undefined || method === undefined || rest.length > 0)
      return badRequest(service, `rpc: service/endpoint request ill-formed: ${endpoint}`);
    const missing = this.#types.has(type) ? `method ${method}` : `service ${type}`;
    return new MicroError(`rpc: can't find ${missing}`, { id: service, code: "not_found" });
  }

  /** In Go's order: by type, then method. */
  sorted(): Plan[] {
    return [...this.#plans.values()].toSorted(
      (a, b) => compare(a.method.type, b.method.type) || compare(a.method.name, b.method.name),
    );
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
