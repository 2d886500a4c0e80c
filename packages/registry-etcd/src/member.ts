/** One member of the cluster: its connections, its session, and the calls of etcd's API that a registry makes. */
import {
  Client,
  connectivityState,
  credentials as grpcCredentials,
  Metadata,
  type CallOptions,
  type ChannelCredentials,
  type ClientDuplexStream,
  type ClientOptions,
  type MethodDefinition,
} from "@grpc/grpc-js";
import { fromJSON } from "@grpc/proto-loader";
import type { EtcdSettings } from "./options.ts";
import {
  definition,
  type RangeRequest,
  type RangeResponse,
  type ServiceName,
  type TxnRequest,
  type TxnResponse,
  type WatchRequest,
  type WatchResponse,
} from "./protocol.ts";

export type { CallOptions };

type Methods = Readonly<Record<string, MethodDefinition<object, object>>>;

let loaded: ReturnType<typeof fromJSON> | undefined;

function methodsOf(service: ServiceName): Methods {
  loaded ??= fromJSON(definition(), { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true });
  return loaded[`etcdserverpb.${service}`] as Methods;
}

/** A connection that is closed while it is being made stays open (grpc-node issue 1487): it is let in first. */
function closeClient(client: Client): void {
  if (client.getChannel().getConnectivityState(false) !== connectivityState.CONNECTING) return client.close();
  client.waitForReady(Date.now() + 1_000, () => setImmediate(() => client.close()));
}

/** See the head of this file. Connects on the first call. */
export class EtcdMember {
  readonly #address: string;
  readonly #settings: EtcdSettings;
  readonly #options: ClientOptions;
  readonly #credentials: ChannelCredentials;
  /** A connection for each service: a call that runs out of time may take its connection along, and no watch with it. */
  readonly #clients = new Map<ServiceName, Client>();
  #session: Promise<Metadata> | undefined;
  #closed = false;

  constructor(url: string, settings: EtcdSettings, options: ClientOptions) {
    this.#address = url.replace(/^https?:\/\//, "");
    this.#settings = settings;
    this.#options = options;
    const tls = settings.credentials;
    this.#credentials = url.startsWith("https:")
      ? grpcCredentials.createSsl(tls?.rootCertificate ?? null, tls?.privateKey ?? null, tls?.certChain ?? null)
      : grpcCredentials.createInsecure();
  }

  range(request: RangeRequest, options: CallOptions): Promise<RangeResponse> {
    return this.#call("KV", "Range", request, options);
  }

  txn(request: TxnRequest, options: CallOptions): Promise<TxnResponse> {
    return this.#call("KV", "Txn", request, options);
  }

  deleteKey(key: Buffer, options: CallOptions): Promise<object> {
    return this.#call("KV", "DeleteRange", { key }, options);
  }

  /** Gives the lease's id. */
  async leaseGrant(ttlSeconds: number, options: CallOptions): Promise<string> {
    return (await this.#call<{ readonly ID: string }>("Lease", "LeaseGrant", { TTL: ttlSeconds }, options)).ID;
  }

  leaseRevoke(id: string, options: CallOptions): Promise<object> {
    return this.#call("Lease", "LeaseRevoke", { ID: id }, options);
  }

  leaseKeepAlive(options: CallOptions): Promise<ClientDuplexStream<{ ID: string }, { readonly TTL: string }>> {
    return this.#stream("Lease", "LeaseKeepAlive", options);
  }

  watch(options: CallOptions): Promise<ClientDuplexStream<WatchRequest, WatchResponse>> {
    return this.#stream("Watch", "Watch", options);
  }

  close(): void {
    this.#closed = true;
    for (const client of this.#clients.values()) closeClient(client);
    this.#clients.clear();
  }

  async #call<Answer extends object>(
    service: ServiceName,
    name: string,
    request: object,
    options: CallOptions,
  ): Promise<Answer> {
    return this.#unary<Answer>(service, name, request, await this.#metadata(), options);
  }

  #unary<Answer extends object>(
    service: ServiceName,
    name: string,
    request: object,
    metadata: Metadata,
    options: CallOptions,
  ): Promise<Answer> {
    const { path, requestSerialize, responseDeserialize } = methodsOf(service)[name]!;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    this.#client(service).makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      options,
      (error, answer) => (error === null ? resolve(answer as Answer) : reject(error)),
    );
    return promise;
  }

  async #stream<Request extends object, Answer extends object>(
    service: ServiceName,
    name: string,
    options: CallOptions,
  ): Promise<ClientDuplexStream<Request, Answer>> {
    const metadata = await this.#metadata();
    const { path, requestSerialize, responseDeserialize } = methodsOf(service)[name]!;
    return this.#client(service).makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      metadata,
      options,
    ) as unknown as ClientDuplexStream<Request, Answer>;
  }

  #client(service: ServiceName): Client {
    if (this.#closed) throw new Error("the connection is closed");
    const known = this.#clients.get(service);
    if (known !== undefined) return known;
    const client = new Client(this.#address, this.#credentials, this.#options);
    this.#clients.set(service, client);
    return client;
  }

  /** With the session's token, where etcd wants one. One that cannot be had is asked for again by the next call. */
  #metadata(): Promise<Metadata> {
    const { auth } = this.#settings;
    if (auth === undefined) return Promise.resolve(new Metadata());
    this.#session ??= this.#authenticate(auth).catch((error: unknown) => {
      this.#session = undefined;
      throw error;
    });
    return this.#session;
  }

  async #authenticate({ username, password }: { username: string; password: string }): Promise<Metadata> {
    const request = { name: username, password };
    const options = { deadline: Date.now() + this.#settings.timeoutMs };
    const { token } = await this.#unary<{ token: string }>("Auth", "Authenticate", request, new Metadata(), options);
    const metadata = new Metadata();
    metadata.set("token", token);
    return metadata;
  }
}
