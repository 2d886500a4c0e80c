/**
 * Repairs what the Kafka client (2.2.4) does for each connection once its first request is answered: it sets a timer
 * of less than nothing, and another one when that is over, a thousand a second for as long as the connection lives;
 * Node 24 warns of the negative time as well. The timer is of use only while requests are held back.
 */
import type { Kafka } from "kafkajs";

interface RequestQueue {
  readonly pending: readonly unknown[];
  scheduleCheckPendingRequests?: () => void;
}

/** As far as it is looked into, none of which the client promises. */
interface ClusterInside {
  readonly brokerPool?: {
    readonly connectionPoolBuilder?: {
      build(address: { host: string; port: number }): Promise<{ pool?: { requestQueue?: RequestQueue }[] }>;
    };
  };
}

const repaired = new WeakSet<object>();

/** Once for each copy of the client. Another version of it, built otherwise, is left as it is. */
export async function repairRequestQueue(kafka: Kafka, clusterOf: (kafka: Kafka) => unknown): Promise<void> {
  if (repaired.has(kafka.constructor)) return;
  repaired.add(kafka.constructor);
  const { brokerPool } = clusterOf(kafka) as ClusterInside;
  // Connects nothing.
  const connections = await brokerPool?.connectionPoolBuilder?.build({ host: "127.0.0.1", port: 9092 });
  const queue = connections?.pool?.[0]?.requestQueue;
  const prototype = queue === undefined ? undefined : (Object.getPrototypeOf(queue) as RequestQueue);
  const schedule = prototype?.scheduleCheckPendingRequests;
  if (prototype === undefined || schedule === undefined) return;
  prototype.scheduleCheckPendingRequests = function (this: RequestQueue) {
    if (this.pending.length > 0) schedule.call(this);
  };
}
