// The live page: what is published over HTTP comes on every transport, and what is published while they are cut comes
// after it; the publish box publishes; nothing is wider than a phone.
//
//     node tests/browsers/live-page.mjs BASE_URL [chromium] [firefox]

import {
  checkHeard, commandLine, freshTopic, inEach, liveState, publish, publishBatch, resize, TRANSPORTS, until, untilHeard, visit,
} from "./common.mjs";
import { launch } from "./launch.mjs";

const { base, browsers } = commandLine();

const HARD_TEXTS = [
  "plain",
  "",
  "two\nlines",
  "\r\n\r\n",
  "</script><script>alert(1)</script><!--",
  "grüße 你好 🎺 \u2028\u2029\u0000",
  "data: x\nid: 1-1\n\nevent: stentor.gap",
  "x".repeat(100_000),
];

await inEach(browsers, launch, async ({ name, newPage }) => {
  const page = await newPage();
  const topic = freshTopic("live-page");
  await visit(page, `${base}/?topic=${topic}/**`);
  await untilHeard(page, 0);

  const published = [];
  for (const text of HARD_TEXTS) published.push(await publish(base, `${topic}/text`, text));
  const [json, octets] = ["application/json", "application/octet-stream"];
  published.push(await publish(base, `${topic}/json`, '{"bid": 1.0712,\n "__proto__": null}', { type: json }));
  published.push(await publish(base, `${topic}/bytes`, new Uint8Array([0, 255, 10, 13]), { type: octets }));
  published.push(await publish(base, `${topic}/name`, "named", { name: "quote" }));
  const many = Array.from({ length: 500 }, (_, i) => ({ topic: `${topic}/many`, data: `event ${i}` }));
  published.push(...await publishBatch(base, many));
  let state = await untilHeard(page, published.length);
  for (const key of TRANSPORTS) checkHeard(`${name}, ${key}`, state[key].ids, published);

  // The publish box, once and as a burst.
  const fill = (field, value) => page.$eval(`#publish [name=${field}]`, (input, text) => {
    input.value = text;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }, value);
  await fill("topic", `${topic}/box`);
  await fill("data", "from the box, %n");
  await page.$eval("#publish .primary", (button) => button.click());
  await until("the box publishes one", async () => (await liveState(page)).published.length === 1);
  await fill("count", "50");
  await page.$eval("#publish .primary", (button) => button.click());
  await until("the box publishes a burst", async () => (await liveState(page)).published.length === 51);
  published.push(...(await liveState(page)).published);
  state = await untilHeard(page, published.length);
  for (const key of TRANSPORTS) {
    checkHeard(`${name}, ${key}`, state[key].ids, published);
    if (state[key].latency === null) throw new Error(`${key}: no latency though this page published`);
  }

  // Each transport cut by itself: it comes back alone and goes on.
  for (const key of TRANSPORTS) {
    const before = state[key].connections;
    await page.$eval(`[data-transport=${key}] .cut`, (button) => button.click());
    await until(`${key} is cut`, async () => (await liveState(page))[key].state === "cut");
    published.push(await publish(base, `${topic}/cut`, `while ${key} was cut`));
    state = await untilHeard(page, published.length);
    const opened = state[key].connections - before;
    if (opened !== 1) throw new Error(`${key}: ${opened} connections after one cut`);
  }

  // All of them cut at once.
  await page.$eval("#cut-all", (button) => button.click());
  published.push(...await publishBatch(base, many.slice(0, 200)));
  state = await liveState(page);
  for (const key of TRANSPORTS) {
    if (state[key].state !== "cut") throw new Error(`${key} is ${state[key].state} while the network is cut`);
    if (state[key].ids.length >= published.length) throw new Error(`${key} heard events while it was cut`);
  }
  await page.$eval("#cut-all", (button) => button.click());
  state = await untilHeard(page, published.length);
  for (const key of TRANSPORTS) {
    checkHeard(`${name}, ${key}, after the cut`, state[key].ids, published);
    const { gaps, duplicates, disorder, missing } = state[key];
    if (gaps + duplicates + disorder + missing > 0) throw new Error(`${key}: ${JSON.stringify(state[key])}`);
  }

  await resize(page, { width: 360, height: 780 });
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  if (width > 360) throw new Error(`the page is ${width} pixels wide on a phone of 360`);
  await page.close();
});
