// Each transport through nginx: the first bytes come at once, each event comes as it is published, a cursor works, and a
// WebSocket is upgraded.
//
//     node tests/nginx/transports.mjs BASE_URL

import WebSocket from "ws";

import { base, equal, freshTopic, Heard, placeOf, prove, publish } from "../clients/harness.mjs";

/** An event may take so long through nginx: a buffer that waits to be full takes for ever. */
const SOON_MS = 2_000;

const soon = async (promise, what) => {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${SOON_MS} ms`)), SOON_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
};

const address = (parameters) => `${base}/events?${new URLSearchParams(parameters)}`;

/** Opens a stream and checks that each event comes soon, and only then publishes the next. */
async function streams(transport) {
  const topic = freshTopic(`nginx-${transport}`);
  const abort = new AbortController();
  const url = address({ topic, transport, format: "json" });
  const response = await soon(fetch(url, { signal: abort.signal }), "the head");
  equal(response.status, 200, "status");
  const heard = new Heard();
  const read = async () => {
    const decoder = new TextDecoder();
    let text = "";
    for await (const part of response.body) {
      text += decoder.decode(part, { stream: true });
      for (let found; (found = /"id":"([^"]+)","topic":[^\n]*\n/.exec(text)); text = text.slice(found.index + found[0].length)) {
        heard.push(found[1]);
      }
    }
  };
  const reading = read().catch((error) => {
    if (!abort.signal.aborted) throw error;
  });
  for (let i = 0; i < 5; i += 1) {
    const id = await publish(topic, `event ${i}`);
    equal(await soon(heard.next(), `event ${i}`), id, "id");
  }
  abort.abort();
  await reading;
}

await prove({
  "poll: from a cursor, and 304 with the last ETag": async () => {
    const topic = freshTopic("nginx-poll");
    const cursor = await placeOf(topic);
    const id = await publish(topic, "one");
    const response = await fetch(address({ topic, cursor }));
    equal((await response.json()).events.map((event) => event.id), [id], "ids");
    const tag = response.headers.get("ETag");
    const again = await fetch(address({ topic }), { headers: { "If-None-Match": tag } });
    equal(again.status, 304, "status");
  },

  "long-poll: answered when something is published": async () => {
    const topic = freshTopic("nginx-long-poll");
    const cursor = await placeOf(topic);
    const answer = fetch(address({ topic, cursor, wait: 20 })).then((response) => response.json());
    const id = await publish(topic, "one");
    equal((await soon(answer, "the answer")).events.map((event) => event.id), [id], "ids");
  },

  "iframe: each event at once": () => streams("iframe"),
  "stream: each event at once": () => streams("stream"),
  "sse: each event at once": () => streams("sse"),

  "websocket: upgraded, and publishing over it": async () => {
    const topic = freshTopic("nginx-websocket");
    const socket = new WebSocket(address({ topic }).replace(/^http/, "ws"), ["stentor.v1"]);
    const heard = new Heard();
    socket.on("message", (data) => heard.push(JSON.parse(data)));
    await soon(new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject)), "the upgrade");
    equal(Object.keys(await soon(heard.next(), "the cursor")), ["cursor"], "the first message");
    const id = await publish(topic, "over HTTP");
    equal((await soon(heard.next(), "the event")).id, id, "id");
    socket.send(JSON.stringify({ publish: { topic, data: "over the socket" }, ref: 1 }));
    const both = [await soon(heard.next(), "an answer"), await soon(heard.next(), "the other")];
    equal(both.find((one) => one.topic)?.id, both.find((one) => one.ref === 1)?.id, "id");
    socket.terminate();
  },

  "a large batch gets through": async () => {
    const topic = freshTopic("nginx-batch");
    const line = JSON.stringify({ topic, data: "x".repeat(100_000) });
    const body = Array.from({ length: 38 }, () => line).join("\n");
    const response = await fetch(`${base}/events`, {
      method: "POST", headers: { "Content-Type": "application/x-ndjson" }, body,
    });
    equal((await response.json()).ids?.length, 38, "ids");
  },
});
