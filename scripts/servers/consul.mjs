/** Consul: one server, or one that keeps all in memory. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensureGoServer } from "./go.mjs";
import { ServerProcess } from "./process.mjs";
import { answers, freePorts, scratch, tcpOpen, withFreshPorts } from "./shared.mjs";

const recipe = {
  version: "1.22.7",
  package: "github.com/hashicorp/consul",
  check: ["version"],
  variable: "MICRO_TEST_CONSUL",
};

export const ensureConsul = (log = () => {}) => ensureGoServer("consul", recipe, log);

/**
 * One Consul server, or the members of a cluster.
 * @param options `members` (default 1): each is ready once it answers, with or without a leader; `dev`: in memory, fast; `config`: further lines of HCL; `token`: its management token, turns ACLs
 *   on; `tls: { cert, key, ca }` adds an HTTPS port with client certificates
 * @throws {Unavailable}
 */
export function startConsul(options = {}) {
  return withFreshPorts(() => startConsulOnce(options));
}

async function startConsulOnce({ members = 1, log, ...options }) {
  const program = await ensureConsul(log);
  const ports = await freePorts(members * 4);
  const addresses = Array.from({ length: members }, (_, index) => [
    "-retry-join",
    `127.0.0.1:${ports[index * 4 + 2]}`,
  ]).flat();
  const cluster = ["-retry-interval", "500ms", ...addresses];
  const servers = Array.from({ length: members }, (_, index) =>
    member(program, ports.slice(index * 4, index * 4 + 4), { ...options, members, index, cluster }),
  );
  try {
    await Promise.all(servers.map((server) => server.start()));
  } catch (error) {
    await Promise.all(servers.map((server) => server.dispose()));
    throw error;
  }
  return members === 1 ? servers[0] : servers;
}

function member(program, [http, rpc, serf, https], { members, index, cluster, dev = false, config = "", token, tls }) {
  const folder = scratch("consul");
  const lines = ["performance { raft_multiplier = 1 }", "disable_update_check = true", config];
  if (token !== undefined)
    lines.push(
      "acl {",
      "  enabled = true",
      '  default_policy = "deny"',
      "  tokens {",
      `    initial_management = "${token}"`,
      `    agent = "${token}"`,
      "  }",
      "}",
    );
  if (tls !== undefined)
    lines.push(
      `ports { https = ${https} }`,
      "tls {",
      "  https {",
      `    ca_file = "${tls.ca}"`,
      `    cert_file = "${tls.cert}"`,
      `    key_file = "${tls.key}"`,
      "    verify_incoming = true",
      "  }",
      "}",
    );
  writeFileSync(join(folder, "consul.hcl"), `${lines.join("\n")}\n`);
  const mode = dev ? ["-dev"] : ["-server", `-bootstrap-expect=${members}`, "-data-dir", join(folder, "data")];
  const others = members === 1 ? [] : cluster;
  const command = [
    program,
    "agent",
    ...mode,
    ...others,
    "-node",
    members === 1 ? "t" : `t${index}`,
    "-datacenter",
    "dc1",
    "-bind",
    "127.0.0.1",
    "-client",
    "127.0.0.1",
    "-http-port",
    http,
    "-server-port",
    rpc,
    "-serf-lan-port",
    serf,
    "-serf-wan-port",
    -1,
    "-dns-port",
    -1,
    "-grpc-port",
    -1,
    "-grpc-tls-port",
    -1,
    "-config-file",
    join(folder, "consul.hcl"),
    "-log-level",
    "warn",
  ].map(String);
  const url = `http://127.0.0.1:${http}`;
  const headers = token === undefined ? {} : { "X-Consul-Token": token };
  const alone = async () =>
    (await tcpOpen(http)) &&
    (await answers(`${url}/v1/status/leader`, { headers, expect: (text) => text !== '""' })) &&
    answers(`${url}/v1/kv/micro-test-ready`, { headers, method: "PUT", expect: (text) => text.trim() === "true" });
  // A member may have to wait for the others.
  const ready = members === 1 ? alone : () => answers(`${url}/v1/agent/self`, { headers });
  return new ServerProcess({
    name: "consul",
    folder,
    ports: { http, https },
    command,
    ready,
    url,
    address: `127.0.0.1:${http}`,
    httpsUrl: `https://127.0.0.1:${https}`,
  });
}
