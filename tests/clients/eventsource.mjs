// Server-Sent Events through the npm package `eventsource`, which keeps to the WHATWG text on its own.
//
//     node tests/clients/eventsource.mjs [BASE_URL]

import assert from "node:assert/strict";

import { EventSource } from "eventsource";

import { cuttingProxy } from "../browsers/cutting-proxy.mjs";
import { base, freshTopic, Inbox, place, publish, publishTexts, runAll, sleep, test } from "./common.mjs";

/** A source that is open, and what it heard: `message` events, and those with the names given. */
async function open(query, { names = [], server = base } = {}) {
  const source = new EventSource(`${server}/events?${new URLSearchParams({ transport: "sse", ...query })}`);
  const inbox = new Inbox();
  for (const name of ["message", ...names]) {
    source.addEventListener(name, (event) => inbox.put({ name, data: event.data, id: event.lastEventId }));
  }
  await new Promise((resolve, reject) => {
    source.addEventListener("open", resolve, { once: true });
    setTimeout(() => reject(new Error("the source did not open within 10 s")), 10_000).unref();
  });
  return { source, next: () => inbox.next("an event") };
}

test("text of every kind comes as it was published", async () => {
  const topic = freshTopic("sse-text");
  const { source, next } = await open({ topic });
  const texts = ["plain", "two\nlines", "\nempty first", "data: x\nid: 1-1", ":", "grüße 🎺 \u2028", "x".repeat(1 << 20)];
  for (const text of texts) {
    const id = await publish(topic, text);
    assert.deepEqual(await next(), { name: "message", data: text, id });
  }
  source.close();
});

test("a name goes to its listener, empty data is heard, a CR is a line break", async () => {
  const topic = freshTopic("sse-name");
  const { source, next } = await open({ topic }, { names: ["quote"] });
  const named = await publish(topic, "1.07", { name: "quote" });
  assert.deepEqual(await next(), { name: "quote", data: "1.07", id: named });
  const empty = await publish(topic, "");
  assert.deepEqual(await next(), { name: "message", data: "", id: empty });
  await publish(topic, "a\r\nb\rc");
  assert.equal((await next()).data, "a\nb\nc");
  source.close();
});

test("the stream begins with its cursor", async () => {
  const topic = freshTopic("sse-cursor");
  const cursor = await place(topic);
  const { source, next } = await open({ topic, cursor }, { names: ["stentor.cursor"] });
  assert.deepEqual(await next(), { name: "stentor.cursor", data: "", id: cursor });
  source.close();
});

test("format=json has one listener hear every name and topic", async () => {
  const topic = freshTopic("sse-json");
  const { source, next } = await open({ topic: `${topic}/*`, format: "json" });
  const id = await publish(`${topic}/a`, '{"b":[1]}', { name: "quote", type: "application/json" });
  const { data, ...rest } = await next();
  assert.deepEqual(rest, { name: "message", id });
  assert.deepEqual(JSON.parse(data), { id, topic: `${topic}/a`, name: "quote", data: { b: [1] } });
  source.close();
});

test("it reconnects by itself after a cut and misses nothing", async () => {
  const topic = freshTopic("sse-resume");
  const proxy = await cuttingProxy(base, { seed: 3, bytesMax: 20_000 });
  const { source, next } = await open({ topic }, { server: proxy.url });
  const texts = [];
  const heard = [];
  const collect = (async () => {
    while (heard.length < 400) heard.push((await next()).data);
  })();
  proxy.cut();
  for (let batch = 0; batch < 40; batch += 1) {
    const part = Array.from({ length: 10 }, (_, i) => `event ${batch * 10 + i} ${"x".repeat(batch * 10)}`);
    texts.push(...part);
    await publishTexts(topic, part);
    await sleep(100);
  }
  proxy.calm();
  await collect;
  assert.deepEqual(heard, texts);
  assert.ok(proxy.cuts > 0, "nothing was cut: the test has proved nothing");
  source.close();
  await proxy.close();
});

await runAll();
