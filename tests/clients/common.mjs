// What the client tests share: the server's address, publishing over HTTP, waiting with a limit, one line a test.

import assert from "node:assert/strict";

export const base = (process.argv[2] ?? "http://127.0.0.1:8080").replace(/\/$/, "");
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A topic that no earlier run has used. */
export const freshTopic = (name) => `test/${name}-${Date.now().toString(36)}-${process.pid}`;

/** Publishes one event and gives its id. */
export async function publish(topic, body, { name, type = "text/plain" } = {}) {
  const query = new URLSearchParams(name ? { topic, name } : { topic });
  const response = await fetch(`${base}/events?${query}`, { method: "POST", body, headers: { "Content-Type": type } });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text).id;
}

/** Publishes texts in one piece and gives their ids. */
export async function publishTexts(topic, texts) {
  const body = texts.map((data) => JSON.stringify({ topic, data })).join("\n");
  const headers = { "Content-Type": "application/x-ndjson" };
  const response = await fetch(`${base}/events`, { method: "POST", body, headers });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text).ids;
}

/** The place that a subscriber from now on would have. */
export async function place(topic) {
  const response = await fetch(`${base}/events?${new URLSearchParams({ topic, transport: "poll" })}`);
  return (await response.json()).cursor;
}

/** What comes one after another, waited for with a limit. */
export class Inbox {
  #items = [];
  #waiting = [];

  put(item) {
    const next = this.#waiting.shift();
    if (next) next(item);
    else this.#items.push(item);
  }

  async next(what = "an item", ms = 10_000) {
    if (this.#items.length > 0) return this.#items.shift();
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${what} did not come within ${ms} ms`)), ms);
    });
    try {
      return await Promise.race([new Promise((resolve) => this.#waiting.push(resolve)), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

const tests = [];

/** Adds a test; `run` throws if it fails. */
export function test(claim, run) {
  tests.push({ claim, run });
}

/** Runs all tests, each with a limit, prints a line each, and ends the process with 0 or 1. */
export async function runAll(limitMs = 60_000) {
  let failures = 0;
  for (const { claim, run } of tests) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`not over within ${limitMs} ms`)), limitMs);
    });
    try {
      await Promise.race([run(), late]);
      console.log(`ok     ${claim}`);
    } catch (error) {
      failures += 1;
      console.error(`FAILED ${claim}\n  ${error.stack}`);
    } finally {
      clearTimeout(timer);
    }
  }
  process.exit(failures === 0 ? 0 : 1);
}
