/** etcd, alone or as a cluster. */
import { join } from "node:path";
import { ensureGoServer } from "./go.mjs";
import { ServerProcess } from "./process.mjs";
import { answers, freePorts, scratch } from "./shared.mjs";

const recipe = {
  version: "3.7.3",
  package: "go.etcd.io/etcd/server/v3",
  check: ["--version"],
  variable: "MICRO_TEST_ETCD",
};

export const ensureEtcd = (log = () => {}) => ensureGoServer("etcd", recipe, log);

/**
 * One etcd, or the members of a cluster.
 * @param options `members` (default 1), `args` for each, `tls: { cert, key, ca, clientAuth }` with file names
 * @throws {Unavailable}
 */
export async function startEtcd({ members = 1, args = [], tls, log } = {}) {
  const program = await ensureEtcd(log);
  const ports = await freePorts(members * 3);
  const scheme = tls === undefined ? "http" : "https";
  const cluster = Array.from({ length: members }, (_, index) => `n${index}=http://127.0.0.1:${ports[index * 3 + 1]}`);
  const servers = cluster.map((member, index) => {
    const [client, , metrics] = ports.slice(index * 3);
    const [name, peer] = member.split("=");
    const url = `${scheme}://127.0.0.1:${client}`;
    const folder = scratch("etcd");
    const command = [
      program,
      "--name",
      name,
      "--data-dir",
      join(folder, "data"),
      "--log-level",
      "warn",
      "--unsafe-no-fsync",
      "--listen-client-urls",
      url,
      "--advertise-client-urls",
      url,
      "--listen-peer-urls",
      peer,
      "--initial-advertise-peer-urls",
      peer,
      "--initial-cluster",
      cluster.join(","),
      "--initial-cluster-token",
      `t${ports[0]}`,
      "--listen-metrics-urls",
      `http://127.0.0.1:${metrics}`,
      ...(tls === undefined ? [] : ["--cert-file", tls.cert, "--key-file", tls.key]),
      ...(tls?.clientAuth === true ? ["--client-cert-auth", "--trusted-ca-file", tls.ca] : []),
      ...args,
    ];
    // The metrics port answers without certificates; without a leader it does not say 200.
    const ready = () => answers(`http://127.0.0.1:${metrics}/readyz`);
    return new ServerProcess({
      name: "etcd",
      folder,
      ports: { client, metrics },
      command,
      ready,
      url,
      address: `127.0.0.1:${client}`,
    });
  });
  try {
    await Promise.all(servers.map((server) => server.start()));
  } catch (error) {
    await Promise.all(servers.map((server) => server.dispose()));
    throw error;
  }
  return members === 1 ? servers[0] : servers;
}
