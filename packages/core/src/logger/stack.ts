/** Where something happened: stacks as a person wants them, with the program's own files first. */

/** Bundlers that write CommonJS leave `import.meta` empty. */
const ownUrl: string | undefined = import.meta.url;

/** The folder whose siblings are packages of this library; undefined where it was bundled into the program. */
const family = /^(.*[\\/])core[\\/](?:src|dist)[\\/]/.exec(pathOf(ownUrl ?? ""))?.[1];

/** A stack frame of Node or V8 itself. */
const ofNode = /(?:^\s*at |\()(?:async )?(?:node:|<anonymous>|native\b)|\(index \d+\)$/;

/** The program's code, as far as can be told: neither Node's nor this library's. */
function isOwn(frame: string): boolean {
  return !ofNode.test(frame) && !isLibrary(frame);
}

function isLibrary(frame: string): boolean {
  const path = pathOf(/\(?((?:file:\/\/|\/|[A-Za-z]:[\\/])[^()]*)\)?$/.exec(frame)?.[1] ?? "");
  if (/[\\/]node_modules[\\/]@micro[\\/]/.test(path)) return true;
  return (
    family !== undefined && path.startsWith(family) && /^[^\\/]+[\\/](?:src|dist)[\\/]/.test(path.slice(family.length))
  );
}

function pathOf(url: string): string {
  return url.startsWith("file://") ? url.slice(process.platform === "win32" ? 8 : 7) : url;
}

/** `at …` lines of a stack, without the text before them. */
export function framesOf(stack: string | undefined): string[] {
  return (stack ?? "").split("\n").filter((line) => /^\s*at /.test(line));
}

/** Those frames that say something: the program's own; all but Node's where it has none. */
export function tellingFrames(frames: readonly string[]): readonly string[] {
  const own = frames.filter(isOwn);
  if (own.length > 0) return own;
  const known = frames.filter((frame) => !ofNode.test(frame));
  return known.length > 0 ? known : frames;
}

/** `dir/file.ts:12` of the first frame that is the program's own; undefined where there is none. */
export function placeOf(frames: readonly string[]): string | undefined {
  for (const frame of frames) {
    const place = isOwn(frame) ? /\(?((?:file:\/\/|\/|[A-Za-z]:\\)[^()]*?):(\d+):\d+\)?$/.exec(frame) : null;
    if (place !== null) return `${place[1]!.split(/[\\/]/).slice(-2).join("/")}:${place[2]}`;
  }
  return undefined;
}

/** Methods of loggers, told by the convention of their class names: bundled, they share one file with their callers. */
const ofLogger = /^\s*at (?:callerOfLogger|\S*Logger\.(?:log|trace|debug|info|warn|error|fatal)) /;
/** The library itself may have logged, some awaits below the program's call. */
const deepestFrames = 40;

/** The place in the program from which something was logged, if any of it is on the stack. */
export function callerOfLogger(): string | undefined {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = deepestFrames;
  const { stack } = new Error("trace");
  Error.stackTraceLimit = stackTraceLimit;
  return placeOf(framesOf(stack).filter((frame) => !ofLogger.test(frame)));
}
