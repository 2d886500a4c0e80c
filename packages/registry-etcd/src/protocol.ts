/**
 * The part of etcd's API that a registry needs (etcd `api/etcdserverpb/rpc.proto`, `api/mvccpb/kv.proto`), as data: a
 * `.proto` file beside the program would be missing from a bundle.
 */

/** `type name = number` of each field; numbers and names are the wire's. */
const messages: Readonly<Record<string, string>> = {
  ResponseHeader: "uint64 cluster_id = 1; uint64 member_id = 2; int64 revision = 3; uint64 raft_term = 4",
  KeyValue:
    "bytes key = 1; int64 create_revision = 2; int64 mod_revision = 3; int64 version = 4; bytes value = 5; int64 lease = 6",
  RangeRequest:
    "bytes key = 1; bytes range_end = 2; int64 limit = 3; int64 revision = 4; bool serializable = 7; bool keys_only = 8",
  RangeResponse: "ResponseHeader header = 1; repeated KeyValue kvs = 2; bool more = 3; int64 count = 4",
  PutRequest: "bytes key = 1; bytes value = 2; int64 lease = 3",
  PutResponse: "ResponseHeader header = 1",
  DeleteRangeRequest: "bytes key = 1; bytes range_end = 2",
  DeleteRangeResponse: "ResponseHeader header = 1; int64 deleted = 2",
  Compare:
    "CompareResult result = 1; CompareTarget target = 2; bytes key = 3; int64 version = 4; int64 create_revision = 5; int64 mod_revision = 6; bytes value = 7; int64 lease = 8",
  RequestOp: "RangeRequest request_range = 1; PutRequest request_put = 2; DeleteRangeRequest request_delete_range = 3",
  ResponseOp:
    "RangeResponse response_range = 1; PutResponse response_put = 2; DeleteRangeResponse response_delete_range = 3",
  TxnRequest: "repeated Compare compare = 1; repeated RequestOp success = 2; repeated RequestOp failure = 3",
  TxnResponse: "ResponseHeader header = 1; bool succeeded = 2; repeated ResponseOp responses = 3",
  LeaseGrantRequest: "int64 TTL = 1; int64 ID = 2",
  LeaseGrantResponse: "ResponseHeader header = 1; int64 ID = 2; int64 TTL = 3; string error = 4",
  LeaseRevokeRequest: "int64 ID = 1",
  LeaseRevokeResponse: "ResponseHeader header = 1",
  LeaseKeepAliveRequest: "int64 ID = 1",
  LeaseKeepAliveResponse: "ResponseHeader header = 1; int64 ID = 2; int64 TTL = 3",
  WatchCreateRequest:
    "bytes key = 1; bytes range_end = 2; int64 start_revision = 3; bool progress_notify = 4; bool prev_kv = 6; int64 watch_id = 7; bool fragment = 8",
  WatchRequest: "WatchCreateRequest create_request = 1",
  WatchResponse:
    "ResponseHeader header = 1; int64 watch_id = 2; bool created = 3; bool canceled = 4; int64 compact_revision = 5; string cancel_reason = 6; bool fragment = 7; repeated Event events = 11",
  Event: "EventType type = 1; KeyValue kv = 2; KeyValue prev_kv = 3",
  AuthenticateRequest: "string name = 1; string password = 2",
  AuthenticateResponse: "ResponseHeader header = 1; string token = 2",
};

/** Fields of which one at most is set: telling so spares sending the others' defaults. */
const unions: Readonly<Record<string, readonly string[]>> = {
  Compare: ["version", "create_revision", "mod_revision", "value", "lease"],
  RequestOp: ["request_range", "request_put", "request_delete_range"],
  ResponseOp: ["response_range", "response_put", "response_delete_range"],
  WatchRequest: ["create_request"],
};

const enums: Readonly<Record<string, readonly string[]>> = {
  CompareResult: ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"],
  CompareTarget: ["VERSION", "CREATE", "MOD", "VALUE", "LEASE"],
  EventType: ["PUT", "DELETE"],
};

const methods = {
  KV: { Range: "Range", DeleteRange: "DeleteRange", Txn: "Txn" },
  Lease: { LeaseGrant: "LeaseGrant", LeaseRevoke: "LeaseRevoke", LeaseKeepAlive: "LeaseKeepAlive" },
  Watch: { Watch: "Watch" },
  Auth: { Authenticate: "Authenticate" },
} as const;
const streaming = new Set<string>(["LeaseKeepAlive", "Watch"]);

/** A service of etcd's. */
export type ServiceName = keyof typeof methods;

/** The JSON descriptor that `@grpc/proto-loader` reads. */
export function definition(): object {
  const types = Object.entries(messages).map(([name, text]) => [name, { fields: fieldsOf(text), ...unionOf(name) }]);
  const values = Object.entries(enums).map(([name, list]) => [
    name,
    { values: Object.fromEntries(list.map((value, number) => [value, number])) },
  ]);
  const services = Object.entries(methods).map(([name, list]) => [name, { methods: methodsOf(Object.keys(list)) }]);
  return { nested: { etcdserverpb: { nested: Object.fromEntries([...types, ...values, ...services]) } } };
}

function fieldsOf(text: string): object {
  const fields = text.split("; ").map((field) => {
    const [, repeated, type, name, id] = /^(repeated )?(\w+) (\w+) = (\d+)$/.exec(field)!;
    return [name, { type, id: Number(id), ...(repeated === undefined ? {} : { rule: "repeated" }) }];
  });
  return Object.fromEntries(fields);
}

function unionOf(message: string): object {
  const oneof = unions[message];
  return oneof === undefined ? {} : { oneofs: { union: { oneof } } };
}

function methodsOf(names: readonly string[]): object {
  return Object.fromEntries(
    names.map((name) => {
      const stream = streaming.has(name) ? { requestStream: true, responseStream: true } : {};
      return [name, { requestType: `${name}Request`, responseType: `${name}Response`, ...stream }];
    }),
  );
}

// Messages as they arrive: 64-bit numbers are texts, what was not sent has its default.

export interface Header {
  readonly cluster_id: string;
  readonly revision: string;
}

export interface KeyValue {
  readonly key: Buffer;
  readonly create_revision: string;
  readonly mod_revision: string;
  readonly version: string;
  readonly value: Buffer;
  readonly lease: string;
}

export interface RangeRequest {
  readonly key: Buffer;
  readonly range_end?: Buffer;
  readonly limit?: number;
  readonly revision?: string;
  readonly serializable?: boolean;
}

export interface RangeResponse {
  readonly header: Header;
  readonly kvs: readonly KeyValue[];
  readonly more: boolean;
}

export interface TxnRequest {
  readonly compare: readonly {
    readonly key: Buffer;
    readonly result: "EQUAL";
    readonly target: "VALUE" | "LEASE";
    readonly value?: Buffer;
    readonly lease?: string;
  }[];
  readonly success: readonly RequestOp[];
  readonly failure: readonly RequestOp[];
}

export interface RequestOp {
  readonly request_range?: RangeRequest;
  readonly request_put?: { readonly key: Buffer; readonly value: Buffer; readonly lease: string };
}

export interface TxnResponse {
  readonly succeeded: boolean;
  readonly responses: readonly { readonly response_range?: RangeResponse }[];
}

export interface WatchEvent {
  readonly type: "PUT" | "DELETE";
  readonly kv: KeyValue;
  readonly prev_kv: KeyValue | null;
}

export interface WatchResponse {
  readonly header: Header;
  readonly created: boolean;
  readonly canceled: boolean;
  readonly compact_revision: string;
  readonly cancel_reason: string;
  readonly fragment: boolean;
  readonly events: readonly WatchEvent[];
}

export interface WatchRequest {
  readonly create_request: {
    readonly key: Buffer;
    readonly range_end: Buffer;
    readonly prev_kv: boolean;
    readonly progress_notify: boolean;
    readonly fragment: boolean;
    readonly start_revision?: number;
  };
}
