// The WebSocket transport through the npm package `ws`.
//
//     node tests/clients/ws.mjs [BASE_URL]

import assert from "node:assert/strict";

import WebSocket from "ws";

import { base, freshTopic, Inbox, place, publish, publishTexts, runAll, test } from "./common.mjs";

const address = base.replace(/^http/, "ws");

/** An open connection. What came is taken with `next`; the close with `closed`. */
async function connect(query, { protocols = ["stentor.v1"], ...options } = {}) {
  const socket = new WebSocket(`${address}/events${query ? `?${new URLSearchParams(query)}` : ""}`, protocols, options);
  const inbox = new Inbox();
  const closes = new Inbox();
  const pongs = new Inbox();
  socket.on("message", (data, isBinary) => inbox.put(isBinary ? data : data.toString()));
  socket.on("close", (code, reason) => closes.put({ code, reason: reason.toString() }));
  socket.on("pong", (data) => pongs.put(data.toString()));
  await new Promise((resolve, reject) => {
    socket.once("open", resolve);
    socket.once("error", reject);
  });
  socket.on("error", () => {});
  return {
    socket,
    send: (message) => socket.send(typeof message === "string" ? message : JSON.stringify(message)),
    next: (what) => inbox.next(what),
    /** The next item that is more than the place, which comes first and now and then. */
    async item() {
      for (;;) {
        const item = JSON.parse(await inbox.next("an item"));
        if (Object.keys(item).join() !== "cursor") return item;
      }
    },
    /** The next item that is an event. */
    async event() {
      for (;;) {
        const item = await this.item();
        if (item.topic) return item;
      }
    },
    closed: () => closes.next("the close"),
    pong: () => pongs.next("a pong"),
  };
}

test("the subprotocol is stentor.v1 and the first message is the place", async () => {
  const topic = freshTopic("ws-first");
  const connection = await connect({ topic });
  assert.equal(connection.socket.protocol, "stentor.v1");
  assert.match(JSON.parse(await connection.next()).cursor, /^[0-9a-z]+-\d+$/);
  const id = await publish(topic, "hello", { name: "greeting" });
  assert.deepEqual(await connection.event(), { id, topic, name: "greeting", data: "hello" });
  connection.socket.close(1000, "done");
  assert.equal((await connection.closed()).code, 1000);
});

test("raw: text is text, bytes are bytes, the heartbeat text comes back", async () => {
  const topic = freshTopic("ws-raw");
  const connection = await connect({ topic }, { protocols: [] });
  assert.equal(connection.socket.protocol, "");
  connection.send("ping");
  assert.equal(await connection.next(), "ping");
  await publish(topic, "grüße\n2");
  assert.equal(await connection.next(), "grüße\n2");
  await publish(topic, '{"a":1}', { type: "application/json" });
  assert.equal(await connection.next(), '{"a":1}');
  await publish(topic, new Uint8Array([0, 255, 1]), { type: "application/octet-stream" });
  assert.deepEqual(await connection.next(), Buffer.from([0, 255, 1]));
  await publish(topic, "");
  assert.equal(await connection.next(), "");
  connection.socket.terminate();
});

test("commands: subscribe, publish, unsubscribe, ping, and what is wrong", async () => {
  const topic = freshTopic("ws-commands");
  const connection = await connect();
  connection.send({ subscribe: [`${topic}/*`], ref: "first" });
  const subscribed = await connection.item();
  assert.equal(subscribed.ref, "first");
  assert.deepEqual(subscribed.subscribed, [`${topic}/*`]);
  assert.match(subscribed.cursor, /-\d+$/);

  connection.send({ publish: { topic: `${topic}/a`, name: "n", data: { deep: [1, null] } }, ref: 2 });
  const two = [await connection.item(), await connection.item()];
  const answer = two.find((item) => item.ref === 2);
  const event = two.find((item) => item.topic);
  assert.deepEqual(event, { id: answer.id, topic: `${topic}/a`, name: "n", data: { deep: [1, null] } });

  connection.send({ ping: { any: "value" } });
  assert.deepEqual(await connection.item(), { pong: { any: "value" } });

  for (const wrong of [{ publish: { topic: "a//b", data: 1 }, ref: 3 }, { subscribe: ["**/a"], ref: 3 }, { ref: 3 }]) {
    connection.send(wrong);
    const { ref, error } = await connection.item();
    assert.equal(ref, 3);
    assert.equal(error.status, 400);
    assert.equal(typeof error.detail, "string");
  }

  connection.send({ unsubscribe: [`${topic}/*`], ref: 4 });
  assert.deepEqual((await connection.item()).unsubscribed, [`${topic}/*`]);
  await publish(`${topic}/a`, "not for us");
  connection.send({ ping: 1 });
  assert.deepEqual(await connection.item(), { pong: 1 });
  connection.socket.close();
  await connection.closed();
});

test("a cursor in the URL or in the first subscribe brings what was missed, in order", async () => {
  const topic = freshTopic("ws-resume");
  const cursor = await place(topic);
  const texts = Array.from({ length: 300 }, (_, i) => `event ${i}`);
  const ids = await publishTexts(topic, texts);
  const byUrl = await connect({ topic, cursor });
  const byCommand = await connect();
  byCommand.send({ subscribe: [topic], cursor, ref: 1 });
  for (const connection of [byUrl, byCommand]) {
    for (const [i, id] of ids.entries()) {
      assert.deepEqual(await connection.event(), { id, topic, data: texts[i] });
    }
    connection.socket.terminate();
  }
});

test("1 MiB, and with permessage-deflate", async () => {
  const topic = freshTopic("ws-large");
  const large = "0123456789abcdef".repeat(65_536);
  for (const perMessageDeflate of [false, true]) {
    const connection = await connect({ topic }, { perMessageDeflate });
    const isCompressed = connection.socket.extensions.includes("permessage-deflate");
    assert.equal(isCompressed, perMessageDeflate);
    const id = await publish(topic, large);
    assert.deepEqual(await connection.event(), { id, topic, data: large });
    await publish(topic, "small");
    assert.equal((await connection.event()).data, "small");
    // The other direction is compressed, too.
    connection.send({ ping: "x".repeat(4000) });
    assert.equal((await connection.item()).pong.length, 4000);
    connection.socket.terminate();
  }
});

test("a ping frame is answered with its payload", async () => {
  const connection = await connect({ topic: freshTopic("ws-ping") });
  connection.socket.ping("are you there");
  assert.equal(await connection.pong(), "are you there");
  connection.socket.terminate();
});

test("what is refused is upgraded and closed with 4400", async () => {
  for (const query of [{ topic: "a//b" }, { topic: "a", cursor: "nonsense" }]) {
    const connection = await connect(query);
    assert.equal((await connection.closed()).code, 4400);
  }
});

test("a message that is no UTF-8 is closed with 1007, an unmasked frame with 1002", async () => {
  const text = await connect({ topic: freshTopic("ws-utf8") });
  text.socket.send(Buffer.from([0xff, 0xfe]), { binary: false });
  assert.equal((await text.closed()).code, 1007);
  const frame = await connect({ topic: freshTopic("ws-mask") });
  frame.socket.send("unmasked", { mask: false });
  assert.equal((await frame.closed()).code, 1002);
});

test("another version than 13 is told which one", async () => {
  const response = await new Promise((resolve, reject) => {
    const socket = new WebSocket(`${address}/events?topic=a`, { protocolVersion: 8 });
    socket.on("unexpected-response", (_, answer) => resolve(answer));
    socket.on("open", () => reject(new Error("version 8 was accepted")));
    socket.on("error", reject);
  });
  assert.equal(response.statusCode, 426);
  assert.equal(response.headers["sec-websocket-version"], "13");
  response.destroy();
});

await runAll();
