// The WebSocket client `ws` (npm): every payload, both subprotocols, compression, pieces, heartbeats, closing, resuming.
//
//     node tests/clients/ws.mjs BASE_URL

import WebSocket from "ws";

import {
  base, equal, freshTopic, HARD_BYTES, HARD_TEXTS, Heard, placeOf, prove, publish, publishBatch,
} from "./harness.mjs";

/** Opens a WebSocket and gives it with what it hears: strings for text, `Buffer`s for binary. */
async function open(parameters, { protocols = [], ...options } = {}) {
  const url = `${base.replace(/^http/, "ws")}/events?${new URLSearchParams(parameters)}`;
  const socket = new WebSocket(url, protocols, { perMessageDeflate: false, ...options });
  const heard = new Heard();
  let headers = {};
  socket.on("upgrade", (response) => { headers = response.headers; });
  socket.on("message", (data, isBinary) => heard.push(isBinary ? data : data.toString()));
  const closed = new Promise((resolve) => {
    socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() }));
  });
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  return { socket, heard, closed, headers };
}

const v1 = { protocols: ["stentor.v1"] };
const command = (socket, value) => socket.send(JSON.stringify(value));
const next = async (heard) => JSON.parse(await heard.next());

async function everyPayloadComes(options) {
  const topic = freshTopic("ws-payloads");
  const { socket, heard } = await open({ topic }, options);
  for (const text of HARD_TEXTS) {
    await publish(topic, text);
    equal(await heard.next(), text, "text");
  }
  for (const bytes of HARD_BYTES) {
    await publish(topic, bytes, { type: "application/octet-stream" });
    equal([...await heard.next()], [...bytes], "bytes");
  }
  await publish(topic, '{"a": [1, 2.50]}', { type: "application/json" });
  equal(await heard.next(), '{"a": [1, 2.50]}', "JSON, as it was written");
  socket.terminate();
}

await prove({
  "raw: every payload comes as it is": () => everyPayloadComes({}),

  "raw, compressed: every payload comes as it is": async () => {
    const { socket, headers } = await open({ topic: "a" }, { perMessageDeflate: true });
    equal(/permessage-deflate/.test(headers["sec-websocket-extensions"] ?? ""), true, "deflate is agreed on");
    socket.terminate();
    await everyPayloadComes({ perMessageDeflate: { threshold: 0 } });
  },

  "raw, compressed for a small window: every payload comes as it is": () => everyPayloadComes({
    perMessageDeflate: { serverMaxWindowBits: 10, clientMaxWindowBits: 10, threshold: 0 },
  }),

  "stentor.v1: an envelope has id, topic, name and data": async () => {
    const topic = freshTopic("ws-envelopes");
    const { socket, heard } = await open({ topic: `${topic}/*` }, v1);
    equal(socket.protocol, "stentor.v1", "subprotocol");
    equal(Object.keys(await next(heard)), ["cursor"], "the first message is the cursor");
    const id = await publish(`${topic}/a`, "grüße\n2nd", { name: "quote" });
    equal(await next(heard), { id, topic: `${topic}/a`, name: "quote", data: "grüße\n2nd" }, "text");
    const json = await publish(`${topic}/b`, '{"bid":1.5}', { type: "application/json" });
    equal(await next(heard), { id: json, topic: `${topic}/b`, data: { bid: 1.5 } }, "JSON");
    const binary = await publish(`${topic}/c`, Uint8Array.of(0, 1, 255), { type: "application/octet-stream" });
    equal(await next(heard), { id: binary, topic: `${topic}/c`, base64: "AAH/" }, "bytes");
    socket.terminate();
  },

  "stentor.v1: commands are answered, and their faults named": async () => {
    const topic = freshTopic("ws-commands");
    const { socket, heard } = await open({ topic }, v1);
    await next(heard);
    command(socket, { ping: { any: "value" } });
    equal(await next(heard), { pong: { any: "value" } }, "ping");
    command(socket, { subscribe: [`${topic}/more`], ref: 1 });
    const subscribed = await next(heard);
    equal([subscribed.ref, subscribed.subscribed], [1, [`${topic}/more`]], "subscribe");
    command(socket, { publish: { topic: `${topic}/more`, data: { n: 1 } }, ref: "two" });
    const answers = [await next(heard), await next(heard)];
    const answer = answers.find((one) => one.ref === "two");
    const event = answers.find((one) => one.ref === undefined);
    equal(event, { id: answer.id, topic: `${topic}/more`, data: { n: 1 } }, "publish");
    command(socket, { unsubscribe: [`${topic}/more`], ref: 3 });
    equal((await next(heard)).unsubscribed, [`${topic}/more`], "unsubscribe");
    await publish(`${topic}/more`, "not for us");
    const id = await publish(topic, "for us");
    equal((await next(heard)).id, id, "what is still subscribed");
    for (const wrong of ["{", '{"subscribe":["a//b"],"ref":4}', '{"no":"command"}', "[]"]) {
      socket.send(wrong);
      equal((await next(heard)).error?.status, 400, wrong);
    }
    socket.terminate();
  },

  "messages in pieces are put together": async () => {
    const { socket, heard } = await open({ topic: freshTopic("ws-pieces") }, v1);
    await next(heard);
    const text = JSON.stringify({ ping: "ä".repeat(2000) });
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; at += 997) {
      socket.send(bytes.subarray(at, at + 997), { binary: false, fin: at + 997 >= bytes.length });
    }
    equal((await next(heard)).pong, "ä".repeat(2000), "pong");
    socket.terminate();
  },

  "a ping is answered with its payload, and the heartbeat text with itself": async () => {
    const { socket, heard } = await open({ topic: freshTopic("ws-ping") });
    for (const payload of ["", "one", "x".repeat(125)]) {
      const pong = new Promise((resolve) => socket.once("pong", resolve));
      socket.ping(payload);
      equal((await pong).toString(), payload, "pong");
    }
    socket.send("ping");
    equal(await heard.next(), "ping", "heartbeat text");
    socket.terminate();
  },

  "a close is answered with its code": async () => {
    const { socket, closed } = await open({ topic: freshTopic("ws-close") });
    socket.close(4321, "enough");
    equal((await closed).code, 4321, "close code");
  },

  "what breaks the rules is closed with the code for it": async () => {
    const cases = [
      [1007, (socket) => socket.send(Buffer.from([0xff, 0xfe]), { binary: false })],
      [1002, (socket) => socket._socket.write(Buffer.from([0xc1, 0x80, 0, 0, 0, 0]))], // RSV1 without deflate
      [1002, (socket) => socket._socket.write(Buffer.from([0x81, 0x01, 0x61]))], // not masked
      [1002, (socket) => socket._socket.write(Buffer.from([0x83, 0x80, 0, 0, 0, 0]))], // reserved opcode
    ];
    for (const [code, breakIt] of cases) {
      const { socket, closed } = await open({ topic: freshTopic("ws-rules") });
      breakIt(socket);
      equal((await closed).code, code, "close code");
    }
  },

  "a refusal is told by the close code": async () => {
    for (const [parameters, code] of [[{ topic: "a//b" }, 4400], [{ topic: "a", cursor: "nonsense" }, 4400]]) {
      const { closed } = await open(parameters);
      equal((await closed).code, code, JSON.stringify(parameters));
    }
  },

  "with a cursor nothing is lost and nothing comes twice": async () => {
    const topic = freshTopic("ws-resume");
    let cursor = await placeOf(topic);
    const published = [];
    const ids = [];
    for (let round = 0; round < 10; round += 1) {
      const events = Array.from({ length: 40 }, (_, i) => ({ topic, data: `${round}.${i}` }));
      published.push(...await publishBatch(events.slice(0, 20)));
      const { socket, heard } = await open({ topic, cursor }, v1);
      published.push(...await publishBatch(events.slice(20)));
      // Cut in the middle of what comes; the rest is for the next round.
      const wanted = round === 9 ? published.length : ids.length + 25;
      while (ids.length < wanted) {
        const { id } = await next(heard);
        if (id) {
          ids.push(id);
          cursor = id;
        }
      }
      socket.terminate();
    }
    equal(ids, published, "ids");
  },
});
