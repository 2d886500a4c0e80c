/** Endpoints by name: who answers, and why nobody does. */
import type { Context } from "../context.ts";
import { MicroError, badRequest } from "../errors.ts";
import { nearest } from "../nearest.ts";
import type { Next } from "../wrapper.ts";
import { composeHandler } from "./compose.ts";
import type { HandlerMethod, Registration } from "./handlers.ts";
import type { HandlerWrapper } from "./server.ts";

const maxComparedLetters = 48;
const maxComparedNames = 48;
// A comparison takes as long as tens of calls: a stranger must not make many of them happen.
const maxHintsPerSecond = 20;

/** All that can be known of an endpoint before a call comes in. */
export interface Plan {
  readonly endpoint: string;
  readonly method: HandlerMethod;
  /** Wrappers and handler. */
  readonly invoke: Next<Context>;
  /** There are wrappers. */
  readonly wrapped: boolean;
}

const kindNames = { server: "server stream", client: "client stream", bidi: "bidirectional stream" } as const;
const byHand =
  "; over HTTP by hand, send the header Micro-Stream with an id of your own in a request without a body, then each message in a request with the same headers, on the same connection";

/** The handlers of one server. */
export class Router {
  readonly #plans = new Map<string, Plan>();
  readonly #types = new Set<string>();
  /** Methods by type, internal ones left out. */
  readonly #listed = new Map<string, string[]>();
  readonly #wrappers: readonly HandlerWrapper[];
  /** Hints given since then. */
  #hints = 0;
  #hintsSince = Number.NEGATIVE_INFINITY;

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
      const invoke = composeHandler(this.#wrappers, method.kind, method.run);
      return { endpoint, method, invoke, wrapped: this.#wrappers.length > 0 };
    });
    this.#types.add(type);
    for (const plan of plans) this.#plans.set(plan.endpoint, plan);
    const listed = methods.filter(({ internal }) => !internal).map(({ name }) => name);
    if (listed.length > 0) this.#listed.set(type, [...(this.#listed.get(type) ?? []), ...listed]);
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
    const meant = this.#nearest(type, method);
    const hint = meant === undefined ? "" : `; did you mean ${meant}?`;
    return new MicroError(`rpc: can't find ${missing}${hint}`, { id: service, code: "not_found" });
  }

  /** The endpoint that was meant, where one is close. Whoever asks decides neither how many nor how long names are compared. */
  #nearest(type: string, method: string): string | undefined {
    if (type.length + method.length > maxComparedLetters) return undefined;
    const now = performance.now();
    if (now - this.#hintsSince >= 1000) {
      this.#hintsSince = now;
      this.#hints = 0;
    }
    if (++this.#hints > maxHintsPerSecond) return undefined;
    const meantType = this.#listed.has(type)
      ? type
      : nearest(type, [...this.#listed.keys()].slice(0, maxComparedNames));
    const methods = meantType === undefined ? [] : this.#listed.get(meantType)!;
    const meant = methods.includes(method) ? method : nearest(method, methods.slice(0, maxComparedNames));
    return meant === undefined ? undefined : `${meantType}.${meant}`;
  }

  /**
   * Why a plan cannot run an exchange that was opened as another kind; undefined if it can.
   * @param id of the exchange: only who speaks HTTP by hand has none.
   */
  static mismatch(
    { endpoint, method }: Plan,
    opened: "call" | "stream",
    id: string,
    service: string,
  ): MicroError | undefined {
    if (opened === (method.kind === "unary" ? "call" : "stream")) return undefined;
    if (method.kind === "unary") return badRequest(service, `${endpoint} is a unary call, no stream: use service.call`);
    const text = `${endpoint} is a ${kindNames[method.kind]}: use service.stream`;
    return badRequest(service, id === "" ? text + byHand : text);
  }

  /** The largest message that any endpoint takes beyond the server's own limit. */
  largest(limit: number): number {
    return [...this.#plans.values()].reduce((most, { method }) => Math.max(most, method.maxMessageBytes ?? 0), limit);
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
