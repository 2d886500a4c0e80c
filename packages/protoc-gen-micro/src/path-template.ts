/** Paths of `google.api.http`: `/v1/{name=shelves/*}:watch`, by the grammar in its `http.proto`. */

export interface PathTemplate {
  /** Fields of the request that the path names, as `shelf.name`. */
  readonly variables: readonly string[];
  /** The same for all paths that match the same requests: variables are what they stand for. */
  readonly pattern: string;
}

/** Read a path. @returns what is wrong with it, for a path that is none */
export function parseTemplate(path: string): PathTemplate | string {
  if (path === "") return "it is empty";
  if (isExpression(path)) return parseExpression(path);
  if (!path.startsWith("/")) return "it does not begin with /";
  const bad = /[^\w./:*{}=!$&'()+,;@~%-]/u.exec(path)?.[0];
  if (bad !== undefined) return `${JSON.stringify(bad)} cannot be in it`;
  if (/%(?![\dA-Fa-f]{2})/.test(path)) return "two hexadecimal digits have to follow a %";
  const variables: string[] = [];
  const faults: string[] = [];
  const plain = path.replaceAll(/\{([^{}]*)\}/g, (_, inside: string) => {
    const [name, segments = "*"] = split(inside);
    if (!/^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$/.test(name)) faults.push(`{${inside}} begins with no name of a field`);
    else if (segments === "") faults.push(`nothing follows the = of {${inside}}`);
    else if (variables.includes(name)) faults.push(`{${name}} is in it twice`);
    variables.push(name);
    return segments;
  });
  if (faults.length > 0) return faults[0]!;
  if (/[{}]/.test(plain)) return "its braces do not match, or are inside of others";
  const verb = /:[^/:]*$/.exec(plain)?.[0] ?? "";
  // `/` alone and a slash at the end are not in the grammar, but in use.
  const segments = plain
    .slice(1, plain.length - verb.length)
    .replace(/\/$/, "")
    .split("/");
  if (verb === ":") return "nothing follows its last :";
  if (segments.includes("") && plain !== "/") return "two slashes follow each other";
  if (segments.some((segment) => segment.includes("*") && segment !== "*" && segment !== "**"))
    return "* and ** are whole parts between slashes";
  // The grammar has it last, Google's own files elsewhere as well; two of them can be told apart by nobody.
  if (segments.filter((segment) => segment === "**").length > 1) return "** is in it twice";
  return { variables, pattern: plain };
}

function split(inside: string): [string, string?] {
  const index = inside.indexOf("=");
  return index === -1 ? [inside] : [inside.slice(0, index), inside.slice(index + 1)];
}

/** True for what go-micro's routers take for a regular expression. */
export function isExpression(path: string): boolean {
  return path.startsWith("^") || path.endsWith("$");
}

/** go-micro's routers take `^/greeter/[a-z]+$` as well. */
function parseExpression(path: string): PathTemplate | string {
  if (!path.startsWith("^") || !path.endsWith("$")) return "a regular expression begins with ^ and ends in $";
  try {
    void new RegExp(path);
  } catch (error) {
    return (error as Error).message;
  }
  return { variables: [], pattern: path };
}
