/** NATS with JetStream, one node. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensureGoServer } from "./go.mjs";
import { ServerProcess, startOnFreePorts } from "./process.mjs";
import { answers, scratch } from "./shared.mjs";

const recipe = {
  version: "2.15.2",
  package: "github.com/nats-io/nats-server/v2",
  check: ["--version"],
  variable: "MICRO_TEST_NATS",
};

export const ensureNats = (log = () => {}) => ensureGoServer("nats", recipe, log);

/**
 * One NATS server with JetStream.
 * @param options `user` and `password`, or `token`; `tls: { cert, key, ca, clientAuth }` with file names; `config`:
 *   lines of its configuration file; `args`
 * @throws {Unavailable}
 */
export async function startNats({ user, password, token, tls, config, args = [], log } = {}) {
  const program = await ensureNats(log);
  return startOnFreePorts(2, ([client, monitor]) => {
    const folder = scratch("nats");
    const command = [
      program,
      ...`-a 127.0.0.1 -p ${client} -m ${monitor} -js`.split(" "),
      "-sd",
      join(folder, "data"),
      ...(user === undefined ? [] : ["--user", user, "--pass", password]),
      ...(token === undefined ? [] : ["--auth", token]),
      ...(tls === undefined ? [] : ["--tls", "--tlscert", tls.cert, "--tlskey", tls.key]),
      ...(tls?.clientAuth === true ? ["--tlsverify", "--tlscacert", tls.ca] : []),
      ...args,
    ];
    if (config !== undefined) {
      writeFileSync(join(folder, "nats.conf"), `${config}\n`);
      command.push("-c", join(folder, "nats.conf"));
    }
    // The monitor answers over plain http whatever the clients need.
    const monitorUrl = `http://127.0.0.1:${monitor}`;
    return new ServerProcess({
      name: "nats",
      folder,
      ports: { client, monitor },
      command,
      ready: () => answers(`${monitorUrl}/healthz`),
      url: `${tls === undefined ? "nats" : "tls"}://127.0.0.1:${client}`,
      address: `127.0.0.1:${client}`,
      monitorUrl,
    });
  });
}
