/**
 * The registry: which services exist, at which addresses, offering which endpoints.
 *
 * A plugin author implements {@link Registry}: register, deregister, getService, listServices, watch and disposal.
 * The data model is go-micro's (`registry/registry.go`); {@link encodeService} and {@link decodeService} in
 * `record.ts` write and read its JSON.
 */

export type StringMap = Readonly<Record<string, string>>;

/** The description of a message type: a tree, at most three levels deep. */
export interface Value {
  /** Field name; at the root the type's name. */
  readonly name: string;
  /** Go's type name, e.g. `string`, `int64`, `[]string`, `Request`; empty for maps. */
  readonly type: string;
  /** Fields; null for a leaf. */
  readonly values: readonly Value[] | null;
}

export interface Endpoint {
  /** `Type.Method`. */
  readonly name: string;
  readonly request: Value | null;
  readonly response: Value | null;
  /** E.g. `stream: "true"`. */
  readonly metadata: StringMap;
}

export interface Node {
  /** Unique among all nodes: `<service>-<uuid>`. */
  readonly id: string;
  /** `host:port`; IPv6 in brackets. */
  readonly address: string;
  /** E.g. `protocol: "mucp"`, plus what the user set. */
  readonly metadata: StringMap;
}

/** One version of a service. A look-up returns one of these per version. */
export interface Service {
  readonly name: string;
  readonly version: string;
  readonly metadata: StringMap;
  readonly endpoints: readonly Endpoint[];
  readonly nodes: readonly Node[];
}

/** Options of every operation that waits. */
export interface RegistryCallOptions {
  /** Cancels the operation: it rejects with code `aborted`. */
  signal?: AbortSignal | undefined;
  /** Limit in milliseconds; passing it rejects with code `timeout`. Default: the registry's own. */
  timeoutMs?: number | undefined;
  /**
   * Registry domain. Default: none, the layout of go-micro v2 and v4. `*` looks up and watches in all of them.
   * Registries that cannot carry domains refuse one with `not_implemented`.
   */
  domain?: string | undefined;
}

export interface RegisterOptions extends RegistryCallOptions {
  /** How long the record lives unless registered again, in milliseconds. Default: it does not expire. mdns ignores it, as Go's does. */
  ttlMs?: number | undefined;
}

export interface WatchOptions {
  /** Only this service. Default: all. */
  service?: string | undefined;
  /** As in {@link RegistryCallOptions}. */
  domain?: string | undefined;
  /** Ends the watch: the iteration finishes without an error. */
  signal?: AbortSignal | undefined;
  /** The watch alone does not keep the process alive, for those who watch on behalf of others. Default: false. */
  background?: boolean | undefined;
}

/**
 * A change. `service` carries the nodes concerned (all of them new or changed for `create` and `update`; the removed
 * ones for `delete`, with what is known of them). A `delete` without nodes removes that version of the service.
 */
export interface RegistryEvent {
  readonly action: "create" | "update" | "delete";
  readonly service: Service;
}

/**
 * A running watch. Iterate once. Events may repeat; what must not happen is that one is missed: when the connection
 * is lost in a way that may have lost events, the iteration throws `unavailable`, and the consumer watches anew and
 * lists again. A slow reader that lets more than the registry's bound of events queue up gets the same error.
 * Leaving the loop, aborting the signal, or disposing releases everything.
 */
export interface Watcher extends AsyncIterable<RegistryEvent>, AsyncDisposable {
  /** Resolves once every later change will be seen; rejects if the watch cannot be established. */
  readonly ready: Promise<void>;
}

/** What a registry plugin implements. All methods may be called concurrently. Making one connects nothing. */
export interface Registry extends AsyncDisposable {
  /** E.g. `mdns`; becomes node metadata `registry` and appears in logs and errors. */
  readonly name: string;
  /**
   * Make the service's nodes visible, or refresh them: a node registered again with other metadata, endpoints or
   * address replaces the old record.
   * @throws {MicroError} `bad_request` for a record the backend cannot hold, `unavailable` if it cannot be reached.
   */
  register(service: Service, options?: RegisterOptions): Promise<void>;
  /** Remove the service's nodes by id. Unknown ones are ignored. */
  deregister(service: Service, options?: RegistryCallOptions): Promise<void>;
  /** All versions of a service with at least one node; empty if there is none. */
  getService(name: string, options?: RegistryCallOptions): Promise<Service[]>;
  /** All services; backends that list names only (mdns) leave version, nodes and endpoints empty. */
  listServices(options?: RegistryCallOptions): Promise<Service[]>;
  watch(options?: WatchOptions): Watcher;
  /**
   * Resolves if the registry is there, so that `service` can be registered: asked before a service starts. Left out where
   * a look-up tells; one of several registries may be away, which a look-up that finds nothing has to say.
   * @throws {MicroError} As a look-up.
   */
  reach?(service: string, options?: RegistryCallOptions): Promise<void>;
  /**
   * No service uses it any more, for now: called at the end of the last service's stop, where the program made the
   * registry and keeps it. Connections and timers that no watch or call waits on must not keep the process alive from
   * here on; the next use connects anew, records stay as they are. Left out by registries whose idle connections hold
   * nothing. Must not throw; may be called again.
   */
  release?(): void | Promise<void>;
  /** Stop watching and close connections. What was registered stays until its TTL, or (memory, mdns) goes at once. May be called twice. */
  [Symbol.asyncDispose](): Promise<void>;
}
