import { mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { processorMs } from "../../core/test/support/processor-time.ts";
import { runCommand } from "../src/command.ts";
import { importsOf } from "../src/imports.ts";
import { printable } from "../src/printable.ts";
import { command, execute, filesBelow, folder, main } from "./support/generator.ts";

const empty = (name: string) => `syntax = "proto3"; message ${name} {}\n`;

describe("imports", () => {
  it("are found as the compiler finds them", () => {
    const source = `\uFEFF// import "comment1";
/* import "comment2"; */ syntax = "proto3";
import "plain"; import 'single'; import public "public"; import weak "weak"; import option "option";
import/**/"no space"; import // comment
  "next line"
; import "a" /* and */ 'b'
"c";
import "\\x67\\147\\u00fc\\U0001F600\\xc3\\xbc\\"\\\\\\n\\101Z\\0x";
option (a) = "import \\"text\\";"; option (b) = { import: "field" };
message import { string import = 1; optional string x = 2 [default = "import 'x';"]; }
ü /* é */ ; import "last";`;
    expect(importsOf(source).map(({ name }) => name)).toEqual([
      "plain",
      "single",
      "public",
      "weak",
      "option",
      "no space",
      "next line",
      "abc",
      `gg\u00fc\u{1F600}\u00fc"\\\nAZ\0x`,
      "last",
    ]);
    // Columns in bytes.
    expect(importsOf(source).at(-1)).toEqual({ name: "last", line: 11, column: 15 });
  });

  it("of what is no .proto file are found or not, in time that grows with its size", () => {
    for (const text of [`import "`, `import "\\`, "/*", "import", `import ;"x"`, `"`.repeat(9), "import/"])
      expect(importsOf(text), text).toEqual([]);
    const started = processorMs();
    for (const part of [`"`, "/*", "\\", `import "`, "import ", "import/**/", `'\\"`, "\n"])
      importsOf(part.repeat(50_000));
    expect(processorMs() - started).toBeLessThan(5_000);
  });

  it("are found however they are written, and are what is compiled", async () => {
    await using work = await folder({
      "a.proto": `syntax = "proto3";
import/**/"g1.proto"; import "g2" /* and */ '.proto'; import "\\x673.proto"; import "ü.proto"; import "\\303\\274\\u00fc.proto";
message A { G1 a = 1; G2 b = 2; G3 c = 3; U d = 4; V e = 5; }`,
      "g1.proto": empty("G1"),
      "g2.proto": empty("G2"),
      "g3.proto": empty("G3"),
      "ü.proto": empty("U"),
      "üü.proto": empty("V"),
    });
    const out = join(work.path, "gen");
    expect(await command("-I", work.path, "a.proto", "--out", out)).toEqual({ code: 0, out: "", errors: "" });
    expect(Object.keys(await filesBelow(out))).toEqual(["a.ts", "g1.ts", "g2.ts", "g3.ts", "ü.ts", "üü.ts"]);
  });

  it.skipIf(process.platform === "win32")(
    "that are folders, pipes or devices are told as missing, or are nothing in a comment",
    async () => {
      await using work = await folder({
        "a.proto": `syntax = "proto3"; // import "pipe.proto"; import "sub";\n/* import "sub.proto"; import "dev.proto"; */ message A {}`,
        "b.proto": `syntax = "proto3";\nimport "sub";\nimport "sub.proto";\nimport "pipe.proto";\nimport "dev.proto";`,
        "sub/x.proto": empty("X"),
        "sub.proto/x.proto": empty("Y"),
      });
      expect((await execute("mkfifo", ["pipe.proto"], work.path)).code).toBe(0);
      await symlink("/dev/zero", join(work.path, "dev.proto"));
      const run = (file: string, ...more: string[]) =>
        command("-I", work.path, file, "--out", join(work.path, "gen"), ...more);
      expect(await run("a.proto", "--lock", join(work.path, "lock"))).toEqual({ code: 0, out: "", errors: "" });
      const { code, errors } = await run("b.proto");
      expect(code).toBe(1);
      expect(
        errors.split("\n").map((line) => /b\.proto:(\d:\d+:imported file does not exist: [\w.]+)/.exec(line)?.[1]),
      ).toEqual(
        ["sub", "sub.proto", "pipe.proto", "dev.proto"].map(
          (name, index) => `${index + 2}:1:imported file does not exist: ${name}`,
        ),
      );
      for (const name of ["pipe.proto", "dev.proto"])
        expect(await run(name)).toMatchObject({
          code: 1,
          errors: `${name}: no such file, neither here nor in ${work.path}`,
        });
      expect(await run(join(work.path, "pipe.proto"))).toMatchObject({
        code: 1,
        errors: `${join(work.path, "pipe.proto")}: neither a file nor a folder`,
      });
    },
  );

  it("that are missing: each with its place, where it was looked for, and what to do", async () => {
    await using work = await folder({
      "protos/a.proto": `syntax = "proto3"; import "b.proto"; import "nowhere/c.proto";\nimport "deep/d.proto";`,
      "protos/b.proto": empty("B"),
      "protos/deep/d.proto": `syntax = "proto3";\n/* é */\timport "no\\x1b\\n\u202epe.proto";`,
      "inc/x.proto": empty("X"),
    });
    const run = (...args: string[]) => execute(process.execPath, [main, ...args, "--out", "gen"], work.path);
    expect(await run("protos/a.proto", "-I", ".", "-I", "inc")).toEqual({
      code: 1,
      out: "",
      errors:
        `protos/a.proto:1:20:imported file does not exist: b.proto, looked for in ., inc; it is below protos: add -I protos
protos/a.proto:1:38:imported file does not exist: nowhere/c.proto, looked for in ., inc; name the folder that it is below with -I
protos/a.proto:2:1:imported file does not exist: deep/d.proto, looked for in ., inc; it is below protos: add -I protos
`.replaceAll("protos/a.proto:", `${join("protos", "a.proto")}:`),
    });
    const { errors } = await run("protos/a.proto", "-I", "protos");
    expect(errors.split("\n").toSorted()).toEqual([
      "",
      `${join("protos", "a.proto")}:1:38:imported file does not exist: nowhere/c.proto, looked for in protos; name the folder that it is below with -I`,
      `${join("protos", "deep", "d.proto")}:2:10:imported file does not exist: "no\\u001b\\n\\u202epe.proto", looked for in protos; name the folder that it is below with -I`,
    ]);
  });
});

describe("what is asked for", () => {
  it("a folder stands for every .proto file in it and below; twice is once", async () => {
    await using work = await folder({
      "protos/a.proto": `syntax = "proto3"; import "deep/b.proto"; message A { B b = 1; }`,
      "protos/deep/b.proto": empty("B"),
      "protos/deep/deeper/c.proto": empty("C"),
      "protos/notes.txt": "",
      "protos/node_modules/x/x.proto": empty("X"),
      "protos/.hidden/y.proto": empty("Y"),
      "protos/z.proto/inner.proto": empty("Z"),
      "other/d.proto": empty("D"),
      "none/x.txt": "",
    });
    const run = async (...args: string[]) => {
      await rm(join(work.path, "gen"), { recursive: true, force: true });
      const { code, errors } = await execute(process.execPath, [main, ...args, "--out", "gen"], work.path);
      return code === 0
        ? Object.keys(await filesBelow(join(work.path, "gen"))).map((name) => name.replaceAll("\\", "/"))
        : errors;
    };
    const all = ["a.ts", "deep/b.ts", "deep/deeper/c.ts", "z.proto/inner.ts"];
    expect(await run("protos", "-I", "protos")).toEqual(all);
    expect(await run("protos/", "./protos", "protos/a.proto", "a.proto", "-I", "protos")).toEqual(all);
    expect(await run("deep", "-I", "protos")).toEqual(["deep/b.ts", "deep/deeper/c.ts"]);
    expect(await run("protos/deep", join(work.path, "other"), "-I", "protos")).toEqual([
      "d.ts",
      "deep/b.ts",
      "deep/deeper/c.ts",
    ]);
    // As with a file, names are below this folder unless another is named.
    expect(await run("other")).toEqual(["other/d.ts"]);
    expect(await run("protos")).toMatch(
      /^protos[/\\]a\.proto:1:20:imported file does not exist: deep\/b\.proto, looked for in \.; it is below protos: add -I protos\n/,
    );
    expect(await run("none")).toBe("none: no .proto file is in this folder or below it\n");
    expect(await run("other/d.proto", "other/../other/d.proto", join(work.path, "other/d.proto"))).toEqual([
      "other/d.ts",
    ]);
    expect(await run("none/x.txt")).toMatch(/^none[/\\]x\.txt: names of \.proto files end in \.proto\n$/);
    expect(await run("a.proto", "-I", "protos/a.proto")).toMatch(/^protos\/a\.proto \(--proto-path\) is no folder: /);
  });

  it("names that begin as flags and argument files do", async () => {
    await using work = await folder({ "-x.proto": empty("X"), "@y.proto": empty("Y") });
    const ended = await execute(process.execPath, [main, "--out", "gen", "--", "-x.proto", "@y.proto"], work.path);
    expect(ended).toEqual({ code: 0, out: "", errors: "" });
    expect(Object.keys(await filesBelow(join(work.path, "gen")))).toEqual(["-x.ts", "@y.ts"]);
  });

  it.skipIf(process.platform === "win32")(
    "names with control characters are refused, and shown as they can be",
    async () => {
      const names = ["\u001b[2Jx.proto", "a\nb.proto:1:1: forged.proto", "\u202eotorp.proto", "\u009b.proto"];
      await using work = await folder(Object.fromEntries(names.map((name) => [name, empty("X")])));
      for (const name of names) {
        const { code, errors } = await command(join(work.path, name), "--out", join(work.path, "gen"));
        expect(code).toBe(1);
        expect(errors).toContain(": a name with control characters");
        // oxlint-disable-next-line no-control-regex
        expect(errors).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
      }
      const missing = await command("\u001b]0;x\u0007.proto", "--out", "gen", "-I", work.path);
      expect(missing).toMatchObject({
        code: 1,
        errors: expect.stringMatching(/^\\u001b\]0;x\\u0007\.proto: no such file/),
      });
      const option = await command("\u001bx.proto", "--out", "gen", "--service", "\u001b x");
      // oxlint-disable-next-line no-control-regex
      expect(option.errors).not.toMatch(/\u001b/);
      expect(printable("a\tb\nc\rd\u0000\u2028ü")).toBe("a\tb\nc\\u000dd\\u0000\\u2028ü");
    },
  );

  it("no error of the compiler's has a path that nobody knows", async () => {
    await using work = await folder({ "a.proto": `syntax = "proto3"; message \u00ff {}` });
    await writeFile(join(work.path, "a.proto"), Buffer.from(`syntax = "proto3"; message \xff {}`, "latin1"));
    await mkdir(join(work.path, "b.proto"));
    for (const args of [["a.proto"], ["b.proto"], [".", "a.proto"]]) {
      const { code, errors } = await execute(process.execPath, [main, ...args, "--out", "gen"], work.path);
      expect(code).toBe(1);
      expect(errors).not.toMatch(/protoc-gen-micro-|Failure|\n {4}at /);
    }
  });
});

it("--watch of a folder generates what comes, moves and goes there", async () => {
  await using work = await folder({ "protos/a.proto": empty("A") });
  const end = new AbortController();
  const out = join(work.path, "gen");
  const told: string[] = [];
  const tell = (text: string): void => void told.push(text);
  const root = join(work.path, "protos");
  const running = runCommand(
    ["-I", root, root, "--out", out, "--watch", "--clean"],
    { out: tell, error: tell },
    end.signal,
  );
  const becomes = (...names: string[]) =>
    expect
      .poll(async () => Object.keys(await filesBelow(out)).map((name) => name.replaceAll("\\", "/")), {
        timeout: 15_000,
      })
      .toEqual(names);
  await becomes("a.ts");
  await writeFile(join(root, "b.proto"), empty("B"));
  await becomes("a.ts", "b.ts");
  await mkdir(join(work.path, "made/deep"), { recursive: true });
  await writeFile(join(work.path, "made/deep/c.proto"), empty("C"));
  await rename(join(work.path, "made"), join(root, "made"));
  await becomes("a.ts", "b.ts", "made/deep/c.ts");
  await writeFile(join(root, "made/deep/d.proto"), empty("D"));
  await becomes("a.ts", "b.ts", "made/deep/c.ts", "made/deep/d.ts");
  await rm(join(root, "made"), { recursive: true });
  await becomes("a.ts", "b.ts");
  await rm(join(root, "b.proto"));
  await becomes("a.ts");
  end.abort();
  expect(await running, told.join("\n")).toBe(0);
});
