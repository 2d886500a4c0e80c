/** Programs that come as Debian packages: installed by apt, or unpacked into a folder of their own. */
import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Unavailable, runQuietly, takeLock } from "./shared.mjs";

const environment = { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };

async function must(program, args) {
  const { code, output } = await runQuietly(program, args, { env: environment }).catch((error) => ({
    code: 1,
    output: error.message,
  }));
  if (code !== 0) throw new Unavailable(`${program} ${args.join(" ")} failed:\n${output.slice(-4_000)}`);
  return output;
}

/** True if packages can be installed: as root, where apt is. */
export const canInstall = () => process.getuid?.() === 0 && existsSync("/usr/bin/apt-get");

/** Install the first of these packages that this release has, without starting any service. @throws {Unavailable} */
export async function aptInstall(packages, log) {
  const unlock = await takeLock("apt");
  // Nothing else keeps packages from starting the services they bring. A policy that is there already stays.
  const policy = "/usr/sbin/policy-rc.d";
  const ours = !existsSync(policy);
  try {
    if (ours) writeFileSync(policy, "#!/bin/sh\nexit 101\n", { mode: 0o755 });
    const apt = (...args) => must("apt-get", ["-qq", "-o", "DPkg::Lock::Timeout=300", ...args]);
    await apt("update");
    const known = spawnSync("apt-cache", ["policy", ...packages], { encoding: "utf8", env: environment }).stdout;
    const chosen = packages.find((name) => new RegExp(`^${name}:\n.*\n +Candidate: \\d`, "m").test(known));
    if (chosen === undefined) throw new Unavailable(`apt has none of ${packages.join(", ")}`);
    log(`installing ${chosen} by apt`);
    await apt("install", "-y", "--no-install-recommends", chosen);
  } finally {
    if (ours) rmSync(policy, { force: true });
    unlock();
  }
}

// Names of Debian 13's libraries by machine.
const machines = {
  x64: { libraries: "x86_64-linux-gnu", loader: "ld-linux-x86-64.so.2" },
  arm64: { libraries: "aarch64-linux-gnu", loader: "ld-linux-aarch64.so.1" },
};

// Wanted by scripts of other packages, not by the programs.
const unneeded = /^(adduser|debconf|dpkg|libpython3|login|passwd|python3|tzdata)/;

/**
 * Packages of Debian 13 with all their libraries in `folder/root`, for machines whose own release is older. Changes
 * nothing else and needs no root: the programs are pointed at the libraries beside them, so the folder must stay where
 * it is.
 * @param programs folders below the root that hold programs, `*` at the end for any ending
 * @throws {Unavailable}
 */
export async function unpackDebian13(folder, packages, programs) {
  const machine = machines[process.arch];
  if (process.platform !== "linux" || machine === undefined)
    throw new Unavailable(`Debian's packages do not run on ${process.platform} ${process.arch}`);
  const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
  if (!existsSync(keyring)) throw new Unavailable(`${keyring} is missing (package debian-archive-keyring)`);
  rmSync(folder, { recursive: true, force: true });
  for (const name of ["lists/partial", "archives/partial", "root"]) mkdirSync(join(folder, name), { recursive: true });
  // An empty status file: nothing counts as installed, so every library is fetched.
  writeFileSync(join(folder, "status"), "");
  const sources = debianMirrors().map(([uri, suite]) => `deb [signed-by=${keyring}] ${uri} ${suite} main\n`);
  writeFileSync(join(folder, "sources.list"), sources.join(""));
  const settings = {
    "Dir::Etc::sourcelist": join(folder, "sources.list"),
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "Dir::State": folder,
    "Dir::State::lists": join(folder, "lists"),
    "Dir::State::status": join(folder, "status"),
    "Dir::Cache": folder,
    "Dir::Cache::archives": join(folder, "archives"),
    "Dir::Log": folder,
    "Debug::NoLocking": "1",
    "APT::Sandbox::User": "",
    "Acquire::Languages": "none",
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  await must("apt-get", ["-qq", ...options, "update"]);
  const fetching = ["install", "-y", "--no-install-recommends", "--download-only", "patchelf", ...packages];
  await must("apt-get", ["-qq", ...options, ...fetching]);
  const root = join(folder, "root");
  const archives = readdirSync(join(folder, "archives")).filter((name) => name.endsWith(".deb"));
  for (const archive of archives.filter((name) => !unneeded.test(name)))
    await must("dpkg-deb", ["--extract", join(folder, "archives", archive), root]);
  const libraries = join(root, "usr", "lib", machine.libraries);
  const loader = join(libraries, machine.loader);
  // Debian 13's patchelf, run by the loader and with the libraries unpacked beside it.
  const patchelf = (...args) => [loader, ["--library-path", libraries, join(root, "usr/bin/patchelf"), ...args]];
  const patched = join(root, "usr", "bin", "patchelf");
  for (const program of programs.flatMap((path) => executables(root, path))) {
    if (program === patched || spawnSync(...patchelf("--print-interpreter", program)).status !== 0) continue;
    const search = ["--force-rpath", "--set-rpath", libraries];
    await must(...patchelf("--set-interpreter", loader, ...search, program));
  }
  for (const name of ["archives", "lists", "root/usr/share/doc", "root/usr/share/man", "root/usr/share/locale"])
    rmSync(join(folder, name), { recursive: true, force: true });
  return root;
}

/** Address and suite of Debian 13 on the mirror this machine uses. */
function debianMirrors() {
  const codename = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
  const format = ["indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"];
  const lines = (spawnSync("apt-get", format, { encoding: "utf8" }).stdout ?? "").split("\n");
  const mirrorOf = (suite) => lines.map((line) => line.split(" ")).find(([, name]) => name === suite)?.[0];
  const isDebian = /^ID=debian$/m.test(readFileSync("/etc/os-release", "utf8"));
  return [
    [(isDebian && mirrorOf(codename)) || "http://deb.debian.org/debian/", "trixie"],
    [(isDebian && mirrorOf(`${codename}-security`)) || "http://deb.debian.org/debian-security/", "trixie-security"],
  ];
}

function executables(root, path) {
  const parent = join(root, path.slice(0, path.lastIndexOf("/")));
  const last = path.slice(path.lastIndexOf("/") + 1);
  const matches = (name) => (last.endsWith("*") ? name.startsWith(last.slice(0, -1)) : name === last);
  const folders = existsSync(parent) ? readdirSync(parent).filter(matches) : [];
  return folders
    .flatMap((name) => readdirSync(join(parent, name), { recursive: true }).map((file) => join(parent, name, file)))
    .filter(
      (file) => existsSync(file) && !isLink(file) && statSync(file).isFile() && (statSync(file).mode & 0o100) > 0,
    );
}

const isLink = (file) => lstatSync(file).isSymbolicLink();
