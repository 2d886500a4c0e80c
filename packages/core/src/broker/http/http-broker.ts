/**
 * go-micro's http broker: subscriptions are nodes in the registry, publishers post each message to them (`broker/http.go`).
 *
 * On the wire the same as Go's. Behind it: every subscription is a node of its own, a publish resolves once the
 * subscribers have the message, what they do not take is tried again, and what cannot be delivered is an error.
 */
import { sleep } from "../../clock.ts";
import { detach } from "../../context.ts";
import { fromError, MicroError } from "../../errors.ts";
import { silentLogger } from "../../logger/console-logger.ts";
import type { Metadata } from "../../metadata.ts";
import { advertiseAddress, joinAddress, reachableHost, splitAddress } from "../../registry/address.ts";
import { registryCache } from "../../registry/cache.ts";
import type { CacheSnapshot, RegistryCache } from "../../registry/cache.ts";
import { portLimits } from "../../net/port-limits.ts";
import { registrar } from "../../registry/registrar.ts";
import { checkOptionNames } from "../../option-check.ts";
import { supervise } from "../../supervisor.ts";
import type { Supervisor } from "../../supervisor.ts";
import { parseListenAddress } from "../../net/address.ts";
import { checkTlsOptions, clientTls } from "../../net/tls.ts";
import type {
  Broker,
  BrokerHandler,
  OutgoingBrokerMessage,
  PublishOptions,
  SubscribeOptions,
  Subscriber,
} from "../broker.ts";
import { publishTimeout } from "../connection-gate.ts";
import { checkSubscription } from "../consumer.ts";
import { encodeEnvelope } from "../envelope.ts";
import { IdleRelease } from "../idle-release.ts";
import { checkPublishOptions } from "../option-names.ts";
import { outgoingHeader } from "../outgoing.ts";
import { Subscription } from "../subscription.ts";
import { LocalSubscription } from "./local.ts";
import { unlessInside } from "../../work.ts";
import { routesOf, serviceName, subscriptionId, subscriptionRecord } from "./node.ts";
import type { Route } from "./node.ts";
import { id, optionNames, wireBytes } from "./options.ts";
import type { HttpBrokerOptions, HttpBrokerSettings } from "./options.ts";
import { gone } from "./outcome.ts";
import type { Outcome } from "./outcome.ts";
import { Peers } from "./peers.ts";
import { abortedBy, PublishRun } from "./publish-run.ts";
import { deliverToAll } from "./publishing.ts";
import type { Publication, Recipients } from "./publishing.ts";
import type { Deliver } from "./receiver-connection.ts";
import { Receiver } from "./receiver.ts";

/**
 * Create the http broker: no server, messages go from process to process, which find each other through the registry.
 * Delivery is at most once; see the delivery table in `docs/brokers.md`.
 * @throws {TypeError} without a registry, for an option that does not exist, or for a limit that is not a positive number.
 * @throws {MicroError} `bad_request` for an address that is none.
 */
export function httpBroker(options: HttpBrokerOptions): Broker {
  if (options?.registry === undefined)
    throw new TypeError("httpBroker: `registry` is missing; it finds subscribers there, e.g. mdnsRegistry()");
  checkOptionNames("httpBroker", options, optionNames);
  const { address = ":0", tls, maxMessageBytes = 4 * 1024 * 1024 } = options;
  const { maxPublishes = 10_000, spreadMs = options.registry.name === "memory" ? 0 : 100 } = options;
  for (const [name, value] of Object.entries({ maxMessageBytes, maxPublishes }))
    if (!(value > 0)) throw new TypeError(`httpBroker: \`${name}\` must be greater than 0, not ${value}`);
  if (!(spreadMs >= 0)) throw new TypeError("httpBroker: `spreadMs` must be a number of milliseconds, 0 or more");
  checkTlsOptions("httpBroker: tls", tls);
  if ((tls?.cert === undefined) !== (tls?.key === undefined))
    throw new TypeError("httpBroker: `tls.cert` and `tls.key` go together");
  parseListenAddress(address);
  return new HttpBroker({
    registry: options.registry,
    logger: options.logger ?? silentLogger,
    address,
    advertise: options.advertise,
    secure: options.secure ?? tls?.cert !== undefined,
    tls,
    insecureSkipVerify: options.insecureSkipVerify ?? false,
    maxMessageBytes,
    portLimits: portLimits(options, wireBytes(maxMessageBytes)),
    maxPublishes,
    domain: options.domain,
    spreadMs,
  });
}

// broker/http.go: registerTTL, registerInterval.
const ttlMs = 60_000;
const intervalMs = 30_000;
const defaultTimeoutMs = 5_000;
/** How long a publisher is kept waiting for a subscription to have room before it is told to come again. */
const receivePatienceMs = 1_000;
/** The same for publishers that would not come again, as Go's. */
const lastPatienceMs = 30_000;
/** How long `ready` waits to see the registration itself. */
const visibleMs = 2_000;
const further = { http: true } as const;
const tooLargeHere: Outcome = { kind: "impossible", code: "too_large", reason: "the body is too large" };
const noRoute: Route = { broadcast: [], queues: new Map() };

class HttpBroker implements Broker {
  readonly name = "http";
  readonly #settings: HttpBrokerSettings;
  readonly #locals = new Map<string, LocalSubscription>();
  readonly #localsByTopic = new Map<string, Set<LocalSubscription>>();
  readonly #runs = new Set<PublishRun>();
  readonly #peers: Peers;
  #cache: RegistryCache | undefined;
  #routes = new Map<string, Route>();
  #routesVersion = -1;
  #receiver: Promise<Receiver> | undefined;
  #address = "";
  /** Of the hosts that may be advertised, one at which the port takes connections. */
  #reachable: Promise<string | undefined> | undefined;
  #closing: Promise<void> | undefined;
  #idle: PromiseWithResolvers<void> | undefined;
  /** Everything is over, the publishes of dead letters included. */
  #closed = false;
  /** What is open is being closed, for now. */
  #resting: Promise<void> | undefined;
  readonly #idleRelease = new IdleRelease({
    isIdle: () => this.#locals.size === 0 && this.#ending === 0 && this.#runs.size === 0,
    close: () => (this.#resting = this.#rest()),
  });
  /** Subscriptions that take nothing more, and whose handlers may still run. */
  #ending = 0;

  constructor(settings: HttpBrokerSettings) {
    this.#settings = settings;
    const { tls, insecureSkipVerify, secure } = settings;
    // A record may ask for TLS, and cannot talk us out of it: anybody who reaches the registry writes records.
    const always = secure || tls !== undefined;
    this.#peers = new Peers((node) => (always || node.secure ? clientTls(tls, insecureSkipVerify) : undefined));
  }

  get address(): string {
    return this.#address;
  }

  async connect(options: { signal?: AbortSignal | undefined; timeoutMs?: number | undefined } = {}): Promise<void> {
    this.#throwIfClosed();
    const { signal, timeoutMs = defaultTimeoutMs } = options;
    if (signal?.aborted === true) throw abortedBy(signal);
    this.#idleRelease.keep();
    using run = new PublishRun(timeoutMs, signal);
    try {
      await this.#lookUp(run);
    } catch (error) {
      const failure = fromError(error);
      if (failure.code !== "timeout") throw failure;
      throw new MicroError(failure.detail, { id, code: "unavailable", cause: error });
    }
  }

  async listen(): Promise<void> {
    this.#throwIfClosed();
    await this.#listen();
  }

  async publish(topic: string, message: OutgoingBrokerMessage, options: PublishOptions = {}): Promise<void> {
    this.#throwIfClosed();
    checkPublishOptions(options, further);
    await this.#publish(topic, message, options);
  }

  subscribe(topic: string, handler: BrokerHandler, options: SubscribeOptions = {}): Subscriber {
    this.#throwIfClosed();
    checkSubscription(topic, handler, options, further);
    let supervisor: Supervisor | undefined;
    const subscription = new Subscription({
      broker: this.name,
      owner: this,
      topic,
      handler,
      options: { ...options, maxMessageBytes: options.maxMessageBytes ?? this.#settings.maxMessageBytes },
      logger: this.#settings.logger,
      lastResort: "drop",
      publish: (to, dead) => this.#publish(to, dead, {}),
      stop: async () => {
        this.#ending++;
        this.#leave(local);
        await local.registrar?.stop({ timeoutMs: 2_000 });
        await supervisor?.stop();
      },
      close: () => {
        this.#ending--;
        this.#idleRelease.settled();
      },
    });
    const local = new LocalSubscription(subscriptionId(topic), subscription);
    if (options.signal?.aborted === true) return subscription;
    this.#locals.set(local.id, local);
    const group = this.#localsByTopic.get(topic) ?? new Set();
    this.#localsByTopic.set(topic, group.add(local));
    supervisor = supervise({
      run: ({ signal, up }) => this.#keepRegistered(local, signal, up),
      onChange: (state) => {
        if (state.status === "down") subscription.consumer.report(state.reason);
      },
    });
    return subscription;
  }

  async release(): Promise<void> {
    if (this.#closing === undefined) await this.#idleRelease.release();
  }

  /** Close the port, the connections, the look-ups: the next use opens what it needs. */
  async #rest(): Promise<void> {
    const receiver = this.#receiver;
    const cache = this.#cache;
    this.#receiver = undefined;
    this.#reachable = undefined;
    this.#cache = undefined;
    this.#routesVersion = -1;
    this.#address = "";
    this.#peers.close();
    await Promise.all([receiver?.then((bound) => bound.close()), cache?.[Symbol.asyncDispose]()].map(noMatterHow));
  }

  disconnect(options: { timeoutMs?: number | undefined } = {}): Promise<void> {
    return unlessInside(this, (this.#closing ??= detach(() => this.#disconnect(options.timeoutMs ?? 30_000))));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.disconnect();
  }

  async #disconnect(timeoutMs: number): Promise<void> {
    this.#idleRelease.end();
    const late = setTimeout(
      () => {
        for (const run of this.#runs) run.end(closed());
      },
      Math.min(timeoutMs, 0x7fff_ffff),
    );
    const subscriptions = [...this.#locals.values()].map(({ subscription }) => subscription.unsubscribe({ timeoutMs }));
    await Promise.all(subscriptions);
    if (this.#runs.size > 0) await (this.#idle = Promise.withResolvers()).promise;
    this.#closed = true;
    clearTimeout(late);
    this.#peers.close();
    const receiver = await this.#receiver?.catch(() => undefined);
    await Promise.all([receiver?.close(), this.#cache?.[Symbol.asyncDispose](), this.#resting]);
  }

  /** Listen, register, and stay so until `signal` aborts. */
  async #keepRegistered(local: LocalSubscription, signal: AbortSignal, up: () => void): Promise<void> {
    const { registry, logger, secure, domain } = this.#settings;
    const { subscription } = local;
    const address = await this.#listen();
    if (signal.aborted) return;
    const over = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => over.resolve(), { once: true });
    const registering = registrar({
      registry,
      logger,
      service: () => subscriptionRecord(local.id, local.topic, local.queue, address, secure),
      ttlMs,
      intervalMs,
      domain,
      // A program that starts says which service it is, not which of its subscriptions.
      quiet: true,
      onChange: (state) => {
        if (state.status === "registered") void this.#becomeReady(local, signal);
        else if (state.status === "lost" && state.reason.code === "bad_request") {
          subscription.refused(state.reason);
          void registering.stop();
        } else if (state.status === "lost") subscription.consumer.report(state.reason);
      },
    });
    local.registrar = registering;
    // Rejects if it is stopped meanwhile.
    await registering.start().catch(() => {});
    up();
    await over.promise;
  }

  /** The subscription holds once the registry shows it, here and, a moment later, elsewhere. */
  async #becomeReady({ id: nodeId, subscription }: LocalSubscription, signal: AbortSignal): Promise<void> {
    const until = performance.now() + visibleMs;
    const cache = this.#registryCache();
    while (!signal.aborted && !this.#closed && performance.now() < until) {
      try {
        const { nodes } = await cache.get(serviceName, { signal, deadline: until });
        if (nodes.some(({ node }) => node.id === nodeId)) break;
        cache.recheck(serviceName);
      } catch {
        // The registry took the registration; that it cannot be asked at this moment is the cache's to report.
      }
      await sleep(10, { signal });
    }
    await sleep(this.#settings.spreadMs, { signal });
    subscription.holds();
  }

  #leave(local: LocalSubscription): void {
    this.#locals.delete(local.id);
    const group = this.#localsByTopic.get(local.topic);
    group?.delete(local);
    if (group?.size === 0) this.#localsByTopic.delete(local.topic);
    local.end();
  }

  async #publish(topic: string, message: OutgoingBrokerMessage, options: PublishOptions): Promise<void> {
    const header = outgoingHeader(topic, message);
    const timeoutMs = publishTimeout(options);
    const { signal } = options;
    if (signal?.aborted === true) throw abortedBy(signal);
    if (this.#closed) throw closed();
    if (this.#runs.size >= this.#settings.maxPublishes)
      throw new MicroError(`${this.#runs.size} messages are on their way already: this one was not sent`, {
        id,
        code: "unavailable",
      });
    header.set("Micro-Topic", topic);
    const publication = this.#publication(topic, header, message.body);
    using run = new PublishRun(timeoutMs, signal);
    this.#runs.add(run);
    try {
      await this.#lookUp(run);
      await deliverToAll(publication, run, this.#recipients(topic), this.#peers, this.#settings.logger);
    } finally {
      this.#runs.delete(run);
      if (this.#runs.size === 0) {
        this.#idle?.resolve();
        this.#idleRelease.settled();
      }
    }
  }

  /** The message in both forms; each is made once, when it is first wanted. */
  #publication(topic: string, header: Metadata, body: Uint8Array): Publication {
    const { maxMessageBytes } = this.#settings;
    let bytes: Buffer | undefined;
    let copy: Uint8Array | undefined;
    if (body.byteLength > maxMessageBytes) throw tooLarge(topic, body.byteLength, maxMessageBytes);
    return {
      topic,
      get wire() {
        if (bytes === undefined) {
          bytes = encodeEnvelope(header, copy ?? body);
          const most = wireBytes(maxMessageBytes);
          if (bytes.byteLength > most) throw tooLarge(topic, bytes.byteLength, most);
        }
        return bytes;
      },
      get local() {
        copy ??= new Uint8Array(body);
        return { topic, header, body: copy };
      },
    };
  }

  #recipients(topic: string): Recipients {
    const routes = () => this.#routes.get(topic) ?? noRoute;
    return {
      routes,
      locals: () => this.#localsByTopic.get(topic) ?? [],
      refresh: () => {
        this.#cache?.recheck(serviceName);
        const snapshot = this.#cache?.get(serviceName);
        // One that has to be waited for changes nothing now.
        if (snapshot instanceof Promise) snapshot.catch(() => {});
        else if (snapshot !== undefined) this.#follow(snapshot);
      },
    };
  }

  /** Know who there is. Waits while the registry cannot be asked, up to the end of the run. */
  async #lookUp(run: PublishRun): Promise<void> {
    const cache = this.#registryCache();
    for (let failures = 0; ; failures++) {
      try {
        const known = cache.get(serviceName);
        if (!(known instanceof Promise)) return this.#follow(known);
        this.#follow(await untilEnd(known, run));
        return;
      } catch (error) {
        if (run.ended || this.#closed) throw run.reason ?? this.#lookUpTimeout(run, error);
        await run.pause(Math.min(20 * 2 ** failures, 500));
        if (run.ended) throw run.reason ?? this.#lookUpTimeout(run, error);
      }
    }
  }

  #lookUpTimeout(run: PublishRun, cause: unknown): MicroError {
    const { registry } = this.#settings;
    const text = MicroError.is(cause) ? ` (${cause.detail})` : "";
    return new MicroError(
      `the registry ${registry.name} did not say within ${Math.ceil(run.timeoutMs)} ms who subscribes${text}: the message was not sent`,
      { id, code: "timeout", cause },
    );
  }

  #follow(snapshot: CacheSnapshot): void {
    if (snapshot.version === this.#routesVersion) return;
    this.#routesVersion = snapshot.version;
    this.#routes = routesOf(snapshot.services, (nodeId) => this.#locals.has(nodeId));
    const listed = new Set(snapshot.nodes.map(({ node }) => node.id));
    this.#peers.retain((nodeId) => listed.has(nodeId));
  }

  #registryCache(): RegistryCache {
    const { registry, logger, domain } = this.#settings;
    return (this.#cache ??= registryCache({ registry, logger, domain }));
  }

  /** Bind, once; resolves with the address to register. */
  async #listen(): Promise<string> {
    // An address that is named is free again then.
    await this.#resting;
    const { address, secure, tls, maxMessageBytes, portLimits: limits, advertise } = this.#settings;
    if (this.#closed) throw closed();
    const deliver: Deliver = (...delivery) => this.#receive(...delivery);
    const binding = (this.#receiver ??= Receiver.listen({
      address,
      secure,
      tls,
      maxWireBytes: wireBytes(maxMessageBytes),
      limits,
      deliver,
    }));
    let receiver: Receiver;
    try {
      receiver = await binding;
    } catch (error) {
      // The port may be free another time.
      if (this.#receiver === binding) this.#receiver = undefined;
      throw error;
    }
    this.#address = receiver.address;
    // Once for each port: every subscription says the same of it.
    if (this.#receiver === binding) this.#reachable ??= reachableHost(advertise ?? receiver.address, receiver.address);
    return advertised(receiver.address, advertise, await this.#reachable);
  }

  #receive(...[nodeId, message, bytes, looksAtAnswers, onWait]: Parameters<Deliver>): Outcome | Promise<Outcome> {
    const local = this.#locals.get(nodeId);
    if (local === undefined) return gone;
    const { topic, subscription } = local;
    if (MicroError.is(message)) {
      const unread = { header: new Map<string, string>(), body: bytes };
      subscription.consumer.unreadable(message, {
        topic,
        message: { header: outgoingHeader(topic, unread), body: bytes },
        ack() {},
      });
      return gone;
    }
    if (message.header.get("Micro-Topic") !== topic) {
      const sent = message.header.get("Micro-Topic") ?? "";
      const error = new MicroError(`a message of topic ${JSON.stringify(sent)} was delivered here`, {
        id,
        code: "bad_request",
      });
      subscription.consumer.unreadable(error, { topic, message, ack() {} });
      return gone;
    }
    const { header, body } = message;
    if (body.byteLength > this.#settings.maxMessageBytes) return tooLargeHere;
    if (looksAtAnswers) return local.take({ topic, header, body }, receivePatienceMs, onWait);
    const outcome = local.take({ topic, header, body }, lastPatienceMs, onWait);
    return outcome instanceof Promise ? lostIfRefused(outcome, subscription) : outcome;
  }

  #throwIfClosed(): void {
    if (this.#closing !== undefined) throw closed();
  }
}

async function noMatterHow(work: Promise<unknown> | undefined): Promise<void> {
  await work?.catch(() => {});
}

/** `promise`, unless the run ends before. */
async function untilEnd<T>(promise: Promise<T>, run: PublishRun): Promise<T> {
  const ended = Promise.withResolvers<never>();
  const wait = { cancel: () => ended.reject(run.reason ?? new MicroError("no answer", { code: "timeout" })) };
  run.wait(wait);
  try {
    return await Promise.race([promise, ended.promise]);
  } finally {
    run.forget(wait);
  }
}

/** What Go's publishers are refused is lost. */
async function lostIfRefused(taking: Promise<Outcome>, { topic, consumer }: Subscription): Promise<Outcome> {
  const outcome = await taking;
  if (outcome.kind === "busy") {
    const text = `a message of ${topic} was lost: no room for it within ${lastPatienceMs / 1_000} s`;
    consumer.lost(1, new MicroError(text, { id, code: "unavailable" }));
  }
  return outcome;
}

/** A host, or an address, as the one to register; the port is the bound one unless it says another. */
function advertised(bound: string, advertise: string | undefined, preferred: string | undefined): string {
  if (advertise === undefined || bound.startsWith("unix:")) return advertiseAddress(bound, undefined, { preferred });
  const { host, port } = splitAddress(advertise);
  const own = port === undefined || port === "" || port === "0" ? splitAddress(bound).port : port;
  return advertiseAddress(host === "" ? `:${own}` : joinAddress(host, own), undefined, { bound, preferred });
}

function tooLarge(topic: string, bytes: number, limit: number): MicroError {
  return new MicroError(`a message to ${topic} has ${bytes} bytes, more than the ${limit} that are allowed`, {
    id,
    code: "too_large",
  });
}

function closed(): MicroError {
  return new MicroError("the http broker is disconnected", { id, code: "closed" });
}
