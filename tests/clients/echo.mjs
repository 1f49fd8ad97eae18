// What `ws` sends to the example `echo` comes back: sizes, fragments, pings, closes, each with every way to offer permessage-deflate.
//
//     node tests/clients/echo.mjs ws://127.0.0.1:9001/

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import WebSocket from "ws";

const url = process.argv[2];
const STEP_MS = 20_000;
const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;

/** Awaits `promise`, or fails with `what` when it takes too long. */
function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${STEP_MS} ms`)), STEP_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** An open connection, with the answer to its handshake. */
async function open(perMessageDeflate) {
  const socket = new WebSocket(url, { perMessageDeflate, maxPayload: 64 * 1024 * 1024 });
  const upgraded = once(socket, "upgrade");
  await within(once(socket, "open"), "open");
  const [response] = await upgraded;
  return { socket, response, agreed: response.headers["sec-websocket-extensions"] ?? "" };
}

/** Waits until the connection is closed: its code and reason. */
async function closed(socket) {
  const [code, reason] = await within(once(socket, "close"), "close");
  return { code, reason: reason.toString() };
}

async function sendAndReceive(socket, data, what) {
  const came = once(socket, "message");
  socket.send(data);
  const [echoed, isBinary] = await within(came, what);
  assert.equal(isBinary, typeof data !== "string", `${what}: kind`);
  assert.ok(echoed.equals(Buffer.from(data)), `${what}: ${echoed.length} bytes came back, not what was sent`);
}

const SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1_000_000];
const threshold = 0; // `ws` compresses short messages too.
const offers = {
  "no compression": { offer: false, agrees: (agreed) => agreed === "" },
  "takeover both ways": {
    offer: { threshold },
    agrees: (agreed) => agreed.includes("permessage-deflate") && !agreed.includes("no_context_takeover"),
  },
  "no takeover": {
    offer: { threshold, serverNoContextTakeover: true, clientNoContextTakeover: true },
    agrees: (agreed) => agreed.includes("server_no_context_takeover") && agreed.includes("client_no_context_takeover"),
  },
  "takeover of the client alone": {
    offer: { threshold, serverNoContextTakeover: true },
    agrees: (agreed) => agreed.includes("server_no_context_takeover") && !agreed.includes("client_no_context_takeover"),
  },
  "small windows": {
    offer: { threshold, serverMaxWindowBits: 9, clientMaxWindowBits: 9 },
    agrees: (agreed) => agreed.includes("server_max_window_bits=9"),
  },
};

async function everySizeComesBack(offer, agrees) {
  const { socket, agreed } = await open(offer);
  assert.ok(agrees(agreed), `agreed on ${JSON.stringify(agreed)}`);
  for (const size of SIZES) {
    await sendAndReceive(socket, randomBytes(size), `${size} random bytes`);
    await sendAndReceive(socket, "añ€😀".repeat(size / 10), `text of about ${size} bytes`);
  }
  socket.close(1000, "done");
  assert.deepEqual(await closed(socket), { code: 1000, reason: "" });
}

async function fragmentsAndPingsBetweenThem(offer) {
  const { socket } = await open(offer);
  const came = once(socket, "message");
  // Cut inside a character, with a ping after each fragment.
  const bytes = Buffer.from("fragmented: añ€😀");
  const pongs = [];
  socket.on("pong", (payload) => pongs.push(payload.toString()));
  for (let at = 0; at < bytes.length; at += 1) {
    socket.send(bytes.subarray(at, at + 1), { binary: false, fin: at === bytes.length - 1 });
    socket.ping(`${at}`);
  }
  const [echoed, isBinary] = await within(came, "fragments");
  assert.equal(echoed.toString(), bytes.toString());
  assert.equal(isBinary, false);
  const last = bytes.length - 1;
  while (pongs.length <= last) await within(once(socket, "pong"), "pongs");
  assert.deepEqual(pongs, Array.from(bytes, (_, at) => `${at}`));
  socket.terminate();
}

async function manyInOrder(offer) {
  const { socket } = await open(offer);
  const count = 10_000;
  let next = 0;
  const all = new Promise((resolve, reject) => {
    socket.on("message", (data) => {
      if (data.toString() !== `message ${next}`) reject(new Error(`${data} instead of message ${next}`));
      next += 1;
      if (next === count) resolve();
    });
  });
  for (let index = 0; index < count; index += 1) socket.send(`message ${index}`);
  await within(all, "many messages");
  socket.terminate();
}

/** Of two equal messages that cannot be compressed by themselves the second is short, if the server keeps its window. */
async function takeoverIsReal() {
  const text = randomBytes(2_000).toString("base64");
  const received = async (offer) => {
    const { socket, response } = await open(offer);
    const bytes = [];
    for (let turn = 0; turn < 2; turn += 1) {
      const before = response.socket.bytesRead;
      await sendAndReceive(socket, text, "a text twice");
      bytes.push(response.socket.bytesRead - before);
    }
    socket.terminate();
    return bytes;
  };
  const [first, second] = await received({ threshold });
  assert.ok(second * 10 < first, `with takeover ${first} bytes, then ${second}`);
  const [alone, again] = await received({ threshold, serverNoContextTakeover: true });
  assert.equal(again, alone, "without takeover both cost the same");
}

async function theLargestMessage(offer) {
  const { socket } = await open(offer);
  await sendAndReceive(socket, Buffer.alloc(MESSAGE_BYTES_MAX, "stentor "), "the largest message");
  const isClosed = closed(socket);
  socket.send(Buffer.alloc(MESSAGE_BYTES_MAX + 1));
  assert.equal((await isClosed).code, 1009);
}

async function closesAreAnswered() {
  for (const code of [1000, 1001, 1003, 1011, 3000, 4999]) {
    const { socket } = await open(false);
    socket.close(code, "reason");
    assert.equal((await closed(socket)).code, code);
  }
  const { socket } = await open(false);
  socket.close();
  assert.equal((await closed(socket)).code, 1005, "a close frame without a code is answered without one");
}

async function badTextIsRefused() {
  const { socket } = await open(false);
  socket.on("error", () => {});
  const isClosed = closed(socket);
  socket.send(Buffer.from([0xce, 0xba, 0xed, 0xa0, 0x80]), { binary: false });
  assert.equal((await isClosed).code, 1007);
}

async function test(name, work) {
  try {
    await work();
    console.log(`ok     ${name}`);
  } catch (error) {
    process.exitCode = 1;
    console.error(`FAILED ${name}\n  ${error.stack}`);
  }
}

for (const [name, { offer, agrees }] of Object.entries(offers)) {
  await test(`every size comes back: ${name}`, () => everySizeComesBack(offer, agrees));
  await test(`fragments and pings: ${name}`, () => fragmentsAndPingsBetweenThem(offer));
  await test(`many in order: ${name}`, () => manyInOrder(offer));
  await test(`the largest message, and one byte more: ${name}`, () => theLargestMessage(offer));
}
await test("takeover is real", takeoverIsReal);
await test("closes are answered with their code", closesAreAnswered);
await test("text that is not UTF-8 is refused with 1007", badTextIsRefused);
process.exit();
