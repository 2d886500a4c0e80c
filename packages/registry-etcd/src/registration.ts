/** One node's record in etcd and the lease it hangs on. */
import { MicroError, decodeService } from "@micro/core";
import { isLeaseGone, source } from "./errors.ts";
import type { Bounds, EtcdClient } from "./etcd-client.ts";
import type { CallOptions, EtcdMember } from "./member.ts";

/** Keeps what is needed to refresh a node without writing it anew. Operations on a node run one after the other. */
export class NodeRegistration {
  readonly #client: EtcdClient;
  readonly #key: Buffer;
  readonly #what: string;
  #lease: { readonly id: string; readonly ttlSeconds: number } | undefined;
  #running: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(client: EtcdClient, key: Buffer, what: string) {
    this.#client = client;
    this.#key = key;
    this.#what = what;
  }

  /** Nothing is under way. */
  get idle(): boolean {
    return this.#waiting === 0;
  }

  /** Make the key hold `value` for another `ttlSeconds`, or for ever. Nothing is written if it does already. */
  put(value: Buffer, ttlSeconds: number | undefined, bounds: Bounds): Promise<void> {
    return this.#inTurn(() => this.#put(value, ttlSeconds, bounds));
  }

  /** Remove the key, and the lease with it. */
  remove(bounds: Bounds): Promise<void> {
    return this.#inTurn(async () => {
      await this.#client.call(`deregistration of ${this.#what}`, bounds, (client, options) =>
        client.deleteKey(this.#key, options),
      );
      this.#revoke(this.#lease?.id);
      this.#lease = undefined;
    });
  }

  #inTurn(run: () => Promise<void>): Promise<void> {
    this.#waiting++;
    const result = this.#running.then(run).finally(() => this.#waiting--);
    this.#running = result.catch(() => {});
    return result;
  }

  async #put(value: Buffer, ttlSeconds: number | undefined, bounds: Bounds): Promise<void> {
    const before = this.#lease;
    if (before !== undefined && before.ttlSeconds === ttlSeconds && (await this.#refresh(before.id, value, bounds)))
      return;
    const what = `registration of ${this.#what}`;
    let lease: string | undefined;
    if (ttlSeconds !== undefined) {
      lease = await this.#client.call(what, bounds, (client, options) => client.leaseGrant(ttlSeconds, options));
    }
    try {
      await this.#client.call(what, bounds, (client, options) =>
        putIfDifferent(client, this.#key, value, lease ?? "0", options),
      );
    } catch (error) {
      this.#revoke(lease);
      throw error;
    }
    this.#lease = lease === undefined || ttlSeconds === undefined ? undefined : { id: lease, ttlSeconds };
    // Attached to the new lease now, the key does not go with the old one.
    this.#revoke(before?.id);
  }

  /** Renew the lease and see that the key is still what it should be; false if the lease is gone. */
  async #refresh(lease: string, value: Buffer, bounds: Bounds): Promise<boolean> {
    const what = `refresh of ${this.#what}`;
    if (!(await this.#client.renew(what, lease, bounds))) {
      this.#lease = undefined;
      return false;
    }
    try {
      await this.#client.call(what, bounds, (client, options) =>
        putIfDifferent(client, this.#key, value, lease, options),
      );
      return true;
    } catch (error) {
      if (!isLeaseGone(error)) throw error;
      this.#lease = undefined;
      return false;
    }
  }

  /** In the background: a lease that is not revoked ends by itself. */
  #revoke(lease: string | undefined): void {
    if (lease === undefined || this.#client.closed.aborted) return;
    this.#client
      .call("revocation of a lease", {}, (client, options) => client.leaseRevoke(lease, options))
      .catch(() => {});
  }
}

/** The record of a node of another name; what cannot be read is nobody's. */
function isOfAnother(found: Buffer, value: Buffer): boolean {
  try {
    const [there, ours] = [decodeService(found), decodeService(value)];
    const [node] = there.nodes;
    return node !== undefined && (there.name !== ours.name || node.id !== ours.nodes[0]?.id);
  } catch {
    return false;
  }
}

/**
 * Deleted, changed or moved to another lease behind our back, the key is written again; else watchers see nothing. Looked
 * at first: a full etcd refuses whatever might write, and a record that stands needs no writing.
 */
async function putIfDifferent(
  client: EtcdMember,
  key: Buffer,
  value: Buffer,
  lease: string,
  options: CallOptions,
): Promise<void> {
  const [found] = (await client.range({ key }, options)).kvs;
  if (found !== undefined) {
    if (found.lease === lease && found.value.equals(value)) return;
    if (isOfAnother(found.value, value))
      throw new MicroError(
        `registry etcd: the key ${key.toString()} is another node's: in keys "/" is written as "-", so that two names may be one`,
        { id: source, code: "bad_request" },
      );
  }
  const same = { key, result: "EQUAL" } as const;
  await client.txn(
    {
      compare: [
        { ...same, target: "VALUE", value },
        { ...same, target: "LEASE", lease },
      ],
      success: [],
      failure: [{ request_put: { key, value, lease } }],
    },
    options,
  );
}
