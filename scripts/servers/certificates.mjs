/** Certificates for servers that speak TLS. */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Unavailable } from "./shared.mjs";

/**
 * A CA with a server and a client certificate for 127.0.0.1, and a CA nobody trusts.
 * @returns file names
 * @throws {Unavailable} without openssl
 */
export function makeCertificates(folder) {
  const openssl = (...args) => {
    const { status, stderr, error } = spawnSync("openssl", args, { cwd: folder, encoding: "utf8" });
    if (error !== undefined) throw new Unavailable(`openssl is needed for certificates: ${error.message}`);
    if (status !== 0) throw new Error(`openssl ${args.join(" ")}: ${stderr}`);
  };
  const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
  for (const ca of ["ca", "other-ca"])
    openssl(
      "req",
      "-x509",
      ...curve,
      "-days",
      "30",
      "-subj",
      `/CN=${ca}`,
      "-keyout",
      `${ca}.key`,
      "-out",
      `${ca}.crt`,
      ...usage,
    );
  writeFileSync(
    join(folder, "ext"),
    "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=CA:FALSE\n",
  );
  /** @type {readonly (readonly [string, readonly string[]])[]} */
  const pairs = [
    ["server", ["-days", "30"]],
    ["client", ["-days", "30"]],
    ["expired", ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"]],
  ];
  for (const [name, dates] of pairs) {
    openssl("req", ...curve, "-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`);
    const sign = ["x509", "-req", "-in", `${name}.csr`, "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    try {
      openssl(...sign, ...dates, "-extfile", "ext", "-out", `${name}.crt`);
    } catch (error) {
      // Before version 3.4 openssl signs with a start date only as a CA.
      if (name !== "expired") throw error;
      writeFileSync(join(folder, "index.txt"), "");
      writeFileSync(
        join(folder, "ca.cnf"),
        "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nserial=serial.txt\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nrand_serial=yes\n[p]\ncommonName=supplied\n",
      );
      openssl(
        "ca",
        "-batch",
        "-config",
        "ca.cnf",
        "-cert",
        "ca.crt",
        "-keyfile",
        "ca.key",
        "-in",
        `${name}.csr`,
        "-startdate",
        "20200101000000Z",
        "-enddate",
        "20200102000000Z",
        "-extfile",
        "ext",
        "-out",
        `${name}.crt`,
      );
    }
  }
  const file = (name) => join(folder, name);
  const pair = (name) => ({ cert: file(`${name}.crt`), key: file(`${name}.key`) });
  return {
    ca: file("ca.crt"),
    otherCa: file("other-ca.crt"),
    server: pair("server"),
    client: pair("client"),
    expired: pair("expired"),
  };
}
