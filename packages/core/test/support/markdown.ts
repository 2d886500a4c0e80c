/** Fenced code blocks of a Markdown text, in order. */
export interface CodeBlock {
  /** The word after the fence, e.g. `ts`. */
  readonly language: string;
  readonly code: string;
  /** Line of the opening fence, counted from 1. */
  readonly line: number;
}

export function codeBlocks(markdown: string): CodeBlock[] {
  const blocks: CodeBlock[] = [];
  let open: { language: string; lines: string[]; line: number } | undefined;
  for (const [index, line] of markdown.split("\n").entries()) {
    const fence = /^```(\w*)\s*$/.exec(line);
    if (open === undefined) {
      if (fence !== null) open = { language: fence[1] ?? "", lines: [], line: index + 1 };
    } else if (fence !== null && fence[1] === "") {
      blocks.push({ language: open.language, code: `${open.lines.join("\n")}\n`, line: open.line });
      open = undefined;
    } else open.lines.push(line);
  }
  return blocks;
}
