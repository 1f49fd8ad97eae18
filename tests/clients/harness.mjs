// What the client tests share: named claims with a time limit, publishing, texts that are hard to carry.

export const base = (process.argv[2] ?? "http://127.0.0.1:8080").replace(/\/$/, "");
const CLAIM_MS = 30_000;

/** Texts that a codec may get wrong; the last has 1 MiB, the most that an event may have. */
export const HARD_TEXTS = [
  "plain",
  "",
  "two\nlines\r\nand\ra third",
  "\n\n",
  "data: x\nid: 1-1\n\nevent: stentor.gap",
  "</script><script>alert(1)</script><!--",
  "grüße 你好 🎺 \u2028\u2029",
  '{"looks": "like JSON"}',
  "ä".repeat((1 << 20) / 2),
];

/** Bytes that are no text. */
export const HARD_BYTES = [
  Uint8Array.of(0, 255, 10, 13, 0xc3),
  new Uint8Array(0),
  Uint8Array.from({ length: 100_000 }, (_, i) => (i * 31) & 0xff),
];

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A topic that no earlier run has used. */
export function freshTopic(name) {
  return `test/${name}-${Date.now().toString(36)}-${Math.floor(Math.random() * 1e6).toString(36)}`;
}

/** Publishes one event; gives its id. */
export async function publish(topic, body, { name, type = "text/plain" } = {}) {
  const query = new URLSearchParams(name ? { topic, name } : { topic });
  return (await post(`${base}/events?${query}`, body, type)).id;
}

/** Publishes many, each `{ topic, name, data }`, in one piece; gives their ids. */
export async function publishBatch(events) {
  const body = events.map((event) => JSON.stringify(event)).join("\n");
  return (await post(`${base}/events`, body, "application/x-ndjson")).ids;
}

async function post(url, body, type) {
  const response = await fetch(url, { method: "POST", headers: { "Content-Type": type }, body });
  const text = await response.text();
  if (!response.ok) throw new Error(`publishing was answered ${response.status}: ${text}`);
  return JSON.parse(text);
}

/** The place from which a subscriber of `topic` would begin now. */
export async function placeOf(topic) {
  const response = await fetch(`${base}/events?${new URLSearchParams({ topic })}`);
  return (await response.json()).cursor;
}

/** A queue between what a client hears and a test that waits for it. */
export class Heard {
  #items = [];
  #waiting = [];

  push(item) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(item);
    else this.#items.push(item);
  }

  /** The next item, in the order in which they came. */
  async next() {
    if (this.#items.length > 0) return this.#items.shift();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** How many wait to be taken. */
  get length() {
    return this.#items.length;
  }
}

export function equal(actual, expected, what) {
  const [a, b] = [actual, expected].map((value) => JSON.stringify(value) ?? String(value));
  if (a !== b) throw new Error(`${what}: ${a.slice(0, 200)} instead of ${b.slice(0, 200)}`);
}

/** Runs each claim of `claims` (its name to an async function) and ends the process with what came of them. */
export async function prove(claims) {
  let failures = 0;
  for (const [claim, test] of Object.entries(claims)) {
    let timer;
    const tooLong = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not within ${CLAIM_MS / 1000} s`)), CLAIM_MS);
    });
    try {
      await Promise.race([test(), tooLong]);
      console.log(`ok     ${claim}`);
    } catch (error) {
      failures += 1;
      console.error(`FAILED ${claim}\n  ${error.stack ?? error}`);
    } finally {
      clearTimeout(timer);
    }
  }
  process.exit(failures === 0 ? 0 : 1);
}
