/** Topics are NATS subjects: words between dots, `*` for one and `>` for the rest in subscriptions. */
import { MicroError } from "@micro/core";
import { source } from "./errors.ts";

/** Topics that have passed: a program publishes to few, again and again. */
const checked = new Set<string>();
const maxChecked = 1_000;

/** @throws {MicroError} `bad_request` for what no message can be published to. */
export function checkTopic(topic: string): void {
  if (checked.has(topic)) return;
  if (typeof topic !== "string" || topic === "")
    throw new TypeError("publish: the topic must be a text that is not empty");
  if (!isSubject(topic)) throw invalid(topic, "words between dots, without blanks");
  if (isPattern(topic)) throw invalid(topic, "a message goes to one topic: `*` and `>` are for subscriptions");
  if (checked.size < maxChecked) checked.add(topic);
}

/** @throws {MicroError} `bad_request` for what cannot be subscribed to. */
export function checkPattern(topic: string): void {
  if (!isSubject(topic))
    throw invalid(topic, "words between dots, without blanks; `*` for one word, `>` at the end for the rest");
  if (topic.slice(0, -1).includes(">") && topic.split(".").slice(0, -1).includes(">"))
    throw invalid(topic, "`>` may only be the last word");
}

/** True if it has wildcards. */
export function isPattern(topic: string): boolean {
  return topic.split(".").some((word) => word === "*" || word === ">");
}

/**
 * The server reads lines, and the client writes a queue into them as it is.
 * @throws {MicroError} `bad_request` for a queue that would be read as something else.
 */
export function checkQueue(queue: string | undefined): void {
  if (queue === undefined || (queue.length <= maxQueueLength && !blanks.test(queue))) return;
  const rule = `a text without blanks and control characters, of at most ${maxQueueLength} characters`;
  throw new MicroError(`broker nats: ${JSON.stringify(queue.slice(0, 100))} is no queue: ${rule}`, {
    id: source,
    code: "bad_request",
  });
}

// oxlint-disable-next-line no-control-regex
const blanks = /[\s\u0000-\u001f\u007f]/;

const maxQueueLength = 500;

// The server takes lines of 4 KiB; sizes and inboxes need some of it.
const maxLength = 3_000;

function isSubject(topic: string): boolean {
  return topic.length <= maxLength && !blanks.test(topic) && topic.split(".").every((word) => word !== "");
}

function invalid(topic: string, rule: string): MicroError {
  return new MicroError(`broker nats: ${JSON.stringify(topic.slice(0, 100))} is no topic: ${rule}`, {
    id: source,
    code: "bad_request",
  });
}
