/** What a .proto file imports, read as its compiler reads it: past comments, out of texts with escapes and in several parts. */

export interface Import {
  readonly name: string;
  /** Where the statement begins, both from 1; columns count bytes, as the compiler's do. */
  readonly line: number;
  readonly column: number;
}

interface Token {
  readonly kind: "word" | "text" | "sign";
  readonly value: string;
  readonly position: number;
}

/** All imports of a file, in their order. What is no valid .proto file has some or none: its faults are the compiler's to tell. */
export function importsOf(source: string): Import[] {
  const imports: Import[] = [];
  const places = new Places(source);
  const tokens = tokensOf(source);
  let token = tokens.next();
  let isStart = true;
  while (!token.done) {
    const { kind, value, position } = token.value;
    token = tokens.next();
    if (!isStart || kind !== "word" || value !== "import") {
      isStart = kind === "sign" && (value === ";" || value === "}" || value === "{");
      continue;
    }
    isStart = false;
    if (!token.done && token.value.kind === "word" && /^(?:public|weak|option)$/.test(token.value.value))
      token = tokens.next();
    const parts: string[] = [];
    while (!token.done && token.value.kind === "text") {
      parts.push(token.value.value);
      token = tokens.next();
    }
    if (parts.length > 0) imports.push({ name: unescaped(parts.join("")), ...places.at(position) });
  }
  return imports;
}

// What has no end goes as far as it can: every character is looked at once.
const pattern = /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)|(?<word>[A-Za-z_]\w*)|(?<quote>["'])|(?<sign>\S)/g;
const rests: Readonly<Record<string, RegExp>> = {
  '"': /((?:[^"\\\n]|\\[^\n])*)("?)/y,
  "'": /((?:[^'\\\n]|\\[^\n])*)('?)/y,
};

function* tokensOf(source: string): Generator<Token, undefined> {
  const next = new RegExp(pattern);
  for (let match = next.exec(source); match !== null; match = next.exec(source)) {
    const { index: position } = match;
    const { word, quote, sign } = match.groups!;
    if (word !== undefined) yield { kind: "word", value: word, position };
    else if (quote !== undefined) {
      const rest = rests[quote]!;
      rest.lastIndex = next.lastIndex;
      const [all, value, end] = rest.exec(source)!;
      next.lastIndex += all.length;
      yield end === "" ? { kind: "sign", value: quote, position } : { kind: "text", value: value!, position };
      // A byte order mark is nothing.
    } else if (sign !== undefined && (sign !== "\uFEFF" || position > 0)) yield { kind: "sign", value: sign, position };
  }
  return undefined;
}

const simpleEscapes: Readonly<Record<string, number>> = { a: 7, b: 8, f: 12, n: 10, r: 13, t: 9, v: 11 };

/** Escapes give bytes, which together are UTF-8. */
function unescaped(text: string): string {
  if (!text.includes("\\")) return text;
  const parts: Buffer[] = [];
  const escapes = /\\(?:([0-7]{1,3})|[xX]([\dA-Fa-f]{1,2})|u([\dA-Fa-f]{4})|U([\dA-Fa-f]{8})|(.))|[^\\]+/gsu;
  for (const [plain, octal, hex, short, long, other] of text.matchAll(escapes)) {
    const point = short ?? long;
    if (octal !== undefined) parts.push(Buffer.from([Number.parseInt(octal, 8) & 255]));
    else if (hex !== undefined) parts.push(Buffer.from([Number.parseInt(hex, 16)]));
    else if (point !== undefined) {
      const code = Number.parseInt(point, 16);
      parts.push(Buffer.from(code > 0x10ffff ? "\uFFFD" : String.fromCodePoint(code)));
    } else if (other !== undefined) {
      const byte = simpleEscapes[other];
      parts.push(byte === undefined ? Buffer.from(other) : Buffer.from([byte]));
    } else parts.push(Buffer.from(plain));
  }
  return Buffer.concat(parts).toString();
}

/** Lines and columns of positions that are asked for in their order. */
class Places {
  readonly #source: string;
  #position = 0;
  #line = 1;
  #column = 1;

  constructor(source: string) {
    this.#source = source;
  }

  at(position: number): { line: number; column: number } {
    const lines = this.#source.slice(this.#position, position).split("\n");
    if (lines.length > 1) this.#column = 1;
    this.#line += lines.length - 1;
    this.#column += Buffer.byteLength(lines.at(-1)!);
    this.#position = position;
    return { line: this.#line, column: this.#column };
  }
}
