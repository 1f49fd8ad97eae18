// Server-Sent Events as the package `eventsource` (npm) reads them: every payload, names, reconnecting.
//
//     node tests/clients/eventsource.mjs BASE_URL

import http from "node:http";

import { EventSource } from "eventsource";

import { base, equal, freshTopic, HARD_TEXTS, Heard, placeOf, prove, publish, publishBatch } from "./harness.mjs";

/** Opens an event source at `origin` and gives it with what it hears. */
async function open(parameters, { names = [], origin = base } = {}) {
  const source = new EventSource(`${origin}/events?${new URLSearchParams({ transport: "sse", ...parameters })}`);
  const heard = new Heard();
  for (const name of ["message", ...names]) {
    source.addEventListener(name, (event) => heard.push({ name, id: event.lastEventId, data: event.data }));
  }
  await new Promise((resolve) => source.addEventListener("open", resolve, { once: true }));
  return { source, heard };
}

/** What the format makes of a text: it has no CR, so each end of a line becomes LF. */
const asRead = (text) => text.replaceAll(/\r\n?/g, "\n");

/** Passes requests on to the server, and cuts every connection when told to. */
async function cuttable() {
  const sockets = new Set();
  const target = new URL(base);
  const server = http.createServer((request, response) => {
    const options = { host: target.hostname, port: target.port, path: request.url, headers: request.headers };
    const upstream = http.get(options, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    upstream.on("error", () => response.destroy());
    response.on("close", () => upstream.destroy());
  });
  server.on("connection", (socket) => sockets.add(socket.on("close", () => sockets.delete(socket))));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    cut: () => sockets.forEach((socket) => socket.destroy()),
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

await prove({
  "every text comes with its id": async () => {
    const topic = freshTopic("sse-payloads");
    const { source, heard } = await open({ topic });
    for (const text of HARD_TEXTS) {
      const id = await publish(topic, text);
      equal(await heard.next(), { name: "message", id, data: asRead(text) }, "event");
    }
    source.close();
  },

  "an envelope keeps a text to the byte": async () => {
    const topic = freshTopic("sse-envelopes");
    const { source, heard } = await open({ topic, format: "json" });
    for (const text of HARD_TEXTS) {
      const id = await publish(topic, text);
      equal(JSON.parse((await heard.next()).data), { id, topic, data: text }, "envelope");
    }
    source.close();
  },

  "a name is the event's type, and bytes come as base64": async () => {
    const topic = freshTopic("sse-names");
    const { source, heard } = await open({ topic }, { names: ["quote"] });
    const id = await publish(topic, "1.0712", { name: "quote" });
    equal(await heard.next(), { name: "quote", id, data: "1.0712" }, "named");
    const bytes = await publish(topic, Uint8Array.of(0, 1, 255), { type: "application/octet-stream" });
    equal(await heard.next(), { name: "message", id: bytes, data: "AAH/" }, "bytes");
    source.close();
  },

  "it reconnects by itself and misses nothing": async () => {
    const topic = freshTopic("sse-reconnect");
    const proxy = await cuttable();
    const cursor = await placeOf(topic);
    const { source, heard } = await open({ topic, cursor }, { origin: proxy.origin });
    const published = [];
    const ids = [];
    for (let round = 0; round < 3; round += 1) {
      published.push(...await publishBatch(Array.from({ length: 50 }, (_, i) => ({ topic, data: `${round}.${i}` }))));
      while (ids.length < published.length) ids.push((await heard.next()).id);
      proxy.cut();
      published.push(...await publishBatch(Array.from({ length: 50 }, (_, i) => ({ topic, data: `cut ${i}` }))));
    }
    while (ids.length < published.length) ids.push((await heard.next()).id);
    equal(ids, published, "ids");
    equal(heard.length, 0, "what is left over");
    source.close();
    proxy.close();
  },
});
