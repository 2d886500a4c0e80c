/** Names: on the wire as Go's generator makes them, in code as TypeScript has them. */

function isLower(character: string | undefined): boolean {
  return character !== undefined && /[a-z]/.test(character);
}

/** `google.golang.org/protobuf`'s and `protoc-gen-micro`'s CamelCase: `say_hello` is `SayHello`, `_x` is `XX`. */
export function goCamelCase(name: string): string {
  let result = "";
  for (let index = 0; index < name.length; index++) {
    const character = name[index]!;
    if (index === 0 && character === "_") result += "X";
    else if (character === "_" && isLower(name[index + 1])) continue;
    else if (/\d/.test(character)) result += character;
    else {
      result += character.toUpperCase();
      while (isLower(name[index + 1])) result += name[++index]!;
    }
  }
  return result;
}

/** Members that would be taken for something else: a client with a `then` is a promise to `await`. */
const unsafeMembers = new Set(["then", "toJSON", ...Object.getOwnPropertyNames(Object.prototype)]);

/** The name of an rpc in code: `SayHello` and `say_hello` are `sayHello`. */
export function methodKey(rpcName: string): string {
  const name = uncapitalised(goCamelCase(rpcName));
  return unsafeMembers.has(name) ? `${name}_` : name;
}

export function uncapitalised(name: string): string {
  return name.slice(0, 1).toLowerCase() + name.slice(1);
}

const reservedWords = new Set(
  (
    "arguments as async await break case catch class const continue debugger default delete do else enum eval export " +
    "extends false finally for function if implements import in instanceof interface let new null package private " +
    "protected public return static super switch this throw true try typeof undefined using var void while with yield"
  ).split(" "),
);

/** Parameters of generated functions. */
const parameters = ["name", "client", "server", "handler", "options"];

/** Names of one generated file: whoever comes first gets a name as it is, the next one with a number. */
export class NameScope {
  readonly #taken = new Set(parameters);

  take(wanted: string): string {
    let name = wanted;
    for (let number = 2; this.#taken.has(name) || reservedWords.has(name); number++) name = `${wanted}${number}`;
    this.#taken.add(name);
    return name;
  }
}
