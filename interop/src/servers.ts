/** The servers of a run, inside its network namespace. */
import { startConsul, startEtcd } from "../../scripts/servers.mjs";

/** `host:port` by name; empty for what cannot be had here. */
export const servers: { etcd?: string; consul?: string; nats?: string; rabbitmq?: string; kafka?: string } = {};

const running: { dispose(): Promise<void> }[] = [];

export async function startServers(names: readonly string[]): Promise<void> {
  if (names.includes("etcd")) {
    const etcd = await startEtcd();
    running.push(etcd);
    servers.etcd = etcd.address;
  }
  if (names.includes("consul")) {
    const consul = await startConsul({ dev: true });
    running.push(consul);
    servers.consul = consul.address;
  }
}

export async function stopServers(): Promise<void> {
  await Promise.all(running.map((server) => server.dispose()));
}
