// The six transports, one class each. A Subscription owns a connection and its bookkeeping (cursor, events, gaps,
// duplicates) and knows nothing of the document but for the frame that its transport needs.

export const RESOURCE = "/events";
const POLL_MS = 1000;
const LONG_POLL_SECONDS = 25;
/**
 * A stream on which nothing comes for so long is taken for dead. Heartbeats come every 25 s by default; for a server with
 * others, `?silence=` of the page says how many seconds it shall be.
 */
const SILENCE_MS = 1000 * (Number(new URLSearchParams(location.search).get("silence")) || 60);
/** Every stream begins with its cursor, so one that brings nothing for so long was never begun. */
const BEGIN_MS = 10_000;
const PING_MS = 20_000;
/** A pong that is this late will not come. */
const PONG_MS = 10_000;
export const BACKOFF_MS_MAX = 8000;
/** A connection that lived for so long, or brought an event, was a good one: the next wait is short again. */
const GOOD_CONNECTION_MS = 5000;
/** Events that the page remembers a transport, to see what is missing and what came twice. */
const HISTORY_MAX = 50_000;
export const WIRE_LINES_MAX = 60;
const WIRE_CHARACTERS_MAX = 400;

/** Splits a cursor. It is opaque to clients; this page looks inside only to check the order that is promised. */
function placeOf(cursor) {
  const at = cursor.lastIndexOf("-");
  return { epoch: cursor.slice(0, at), offset: Number(cursor.slice(at + 1)) };
}

export function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** Forgets the oldest entries of a Set or Map, which keep their order of insertion. */
function trim(collection, max) {
  for (const key of collection.keys()) {
    if (collection.size <= max) return;
    collection.delete(key);
  }
}

/** A no of the server. Whether it is for good is told by its status. */
export class Refused extends Error {
  constructor(status, detail, retryAfter) {
    super(detail ? `${status}: ${detail}` : `status ${status}`);
    this.status = status;
    this.isForGood = status >= 400 && status < 500 && ![408, 425, 429].includes(status);
    this.retryAfterMs = retryAfter ? Number(retryAfter) * 1000 || 0 : 0;
  }

  static async from(response) {
    const problem = await response.json().catch(() => ({}));
    return new Refused(response.status, problem.detail, response.headers.get("Retry-After"));
  }
}

/** Every event since the subscription began that any transport heard, or that this page published to its topics. */
export class Ledger {
  epoch = null;
  offsets = new Set();

  add(cursor) {
    const { epoch, offset } = placeOf(cursor);
    if (epoch !== this.epoch) {
      this.epoch = epoch;
      this.offsets = new Set();
    }
    this.offsets.add(offset);
    trim(this.offsets, HISTORY_MAX);
  }
}

/** When this page published what, to tell the latency without a time stamp in the data. */
export class Publications {
  ids = [];
  #sentAt = new Map();

  sent(id, at) {
    this.ids.push(id);
    if (this.ids.length > HISTORY_MAX) this.ids.shift();
    this.#sentAt.set(id, at);
    trim(this.#sentAt, HISTORY_MAX);
  }

  /** Milliseconds from the click to `at`; nothing if another published it. */
  latency(id, at) {
    const sentAt = this.#sentAt.get(id);
    return sentAt === undefined ? null : at - sentAt;
  }
}

/** One subscription, whatever its transport: `connect` of each class below ends when the connection does. */
class Subscription {
  state = "idle";
  topics = [];
  cursor = null;
  events = 0;
  gaps = 0;
  duplicates = 0;
  /** Events whose offset was below one heard before, though they came for the first time. */
  disorder = 0;
  connections = 0;
  latency = null;
  ids = [];
  /** Lines of the wire that the panel has not shown yet, and the last one ever written, to count repetitions. */
  lines = [];
  lastLine = null;

  #ledger = new Ledger();
  #publications;
  #epoch = null;
  #heardAt = new Map();
  #gapRanges = [];
  #lastOffset = 0;
  #controller = null;
  #timer = null;
  #failures = 0;
  #openedAt = 0;
  #isGood = false;
  #deadline = Infinity;

  constructor(publications) {
    this.#publications = publications;
  }

  /** Forgets everything and subscribes to `topics` from `cursor` on. */
  begin(topics, cursor, ledger) {
    this.drop();
    this.topics = topics;
    this.cursor = cursor;
    this.events = this.gaps = this.duplicates = this.disorder = this.connections = 0;
    this.latency = null;
    this.ids = [];
    this.#ledger = ledger;
    this.#epoch = null;
    this.#heardAt = new Map();
    this.#gapRanges = [];
    this.#lastOffset = 0;
    this.#failures = 0;
    this.open();
  }

  /** Opens the connection, from the cursor on. */
  open() {
    this.drop();
    this.#controller = new AbortController();
    const { signal } = this.#controller;
    this.state = "connecting";
    this.connections += 1;
    this.#openedAt = performance.now();
    this.#isGood = false;
    this.#deadline = this.#openedAt + BEGIN_MS;
    this.connect(signal).then(
      (reason) => this.#over(signal, reason ?? "ended by the server"),
      (error) => this.#over(signal, error),
    );
  }

  /** Drops the connection as a failing network would: the server is not told, the cursor stays. */
  drop() {
    clearTimeout(this.#timer);
    this.#deadline = Infinity;
    this.#controller?.abort();
    this.#controller = null;
  }

  /** Drops the connection, for `ms` or until `open()` is called. */
  cut(ms = Infinity) {
    this.drop();
    this.state = "cut";
    this.note(ms === Infinity ? "cut" : `cut for ${ms / 1000} s`);
    if (ms !== Infinity) this.#timer = setTimeout(() => this.open(), ms);
  }

  /** Ends a connection that has been silent for too long. */
  handleTime(now) {
    if (now > this.#deadline) this.#over(this.#controller.signal, "silent for too long");
  }

  /** The events that others heard and this one has not, and will. */
  missing() {
    const ledger = this.#ledger;
    const hasHeard = ledger.epoch === this.#epoch ? this.#heardAt : new Map();
    const ranges = this.#gapRanges.filter((range) => range.epoch === ledger.epoch);
    let count = 0;
    for (const offset of ledger.offsets) {
      if (hasHeard.has(offset)) continue;
      if (!ranges.some((range) => offset > range.after && offset <= range.resumed)) count += 1;
    }
    return count;
  }

  url(parameters, cursor = this.cursor) {
    const query = new URLSearchParams();
    for (const topic of this.topics) query.append("topic", topic);
    for (const [name, value] of Object.entries(parameters)) query.append(name, value);
    if (cursor) query.append("cursor", cursor);
    // Slashes and stars may stand in a query as they are (RFC 3986 §3.4), and are easier to read.
    return `${RESOURCE}?${query.toString().replaceAll("%2F", "/").replaceAll("%2A", "*")}`;
  }

  /** The other side gave a sign of life. `silenceMs` is how long the next one may take. */
  alive(silenceMs = Infinity) {
    this.state = "live";
    this.#deadline = performance.now() + silenceMs;
  }

  /** Takes one item of the wire: an event, a gap, or a place alone. */
  hear(item) {
    if (item.gap) this.#hearGap(item.gap);
    if (typeof item.cursor === "string") this.cursor = item.cursor;
    if (typeof item.id === "string") this.#hearEvent(item.id);
  }

  #hearEvent(id) {
    const { epoch, offset } = placeOf(id);
    const now = performance.now();
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      this.#heardAt = new Map();
      this.#lastOffset = 0;
    }
    if (this.#heardAt.has(offset)) this.duplicates += 1;
    else if (offset < this.#lastOffset) this.disorder += 1;
    this.#lastOffset = Math.max(this.#lastOffset, offset);
    this.#heardAt.set(offset, now);
    trim(this.#heardAt, HISTORY_MAX);
    this.#ledger.add(id);
    this.events += 1;
    this.ids.push(id);
    if (this.ids.length > HISTORY_MAX) this.ids.shift();
    this.cursor = id;
    this.#isGood = true;
    this.latency = this.#publications.latency(id, now) ?? this.latency;
  }

  #hearGap({ after, resumed }) {
    this.gaps += 1;
    const [from, to] = [placeOf(String(after)), placeOf(String(resumed))];
    // After a new epoch everything before `resumed` is lost, wherever the old cursor stood.
    const isSameEpoch = from.epoch === to.epoch;
    this.#gapRanges.push({ epoch: to.epoch, after: isSameEpoch ? from.offset : 0, resumed: to.offset });
  }

  /** An event may be heard before the answer to its publishing: then its latency is known only now. */
  handlePublished(id, sentAt) {
    const { epoch, offset } = placeOf(id);
    const heardAt = epoch === this.#epoch ? this.#heardAt.get(offset) : undefined;
    if (heardAt !== undefined) this.latency = heardAt - sentAt;
  }

  sent(text) { this.#line("sent", `→ ${text}`); }
  got(text) { this.#line("got", `← ${text}`); }
  note(text) { this.#line("note", `· ${text}`); }

  #line(kind, text) {
    if (text.length > WIRE_CHARACTERS_MAX) {
      text = `${text.slice(0, WIRE_CHARACTERS_MAX)}… (${text.length} characters)`;
    }
    if (this.lastLine?.text === text) {
      this.lastLine.count += 1;
      return;
    }
    this.lastLine = { kind, text, count: 1, shown: 0 };
    this.lines.push(this.lastLine);
    if (this.lines.length > WIRE_LINES_MAX) this.lines.shift();
  }

  #over(signal, reason) {
    if (signal.aborted) return;
    if (this.#isGood || performance.now() - this.#openedAt > GOOD_CONNECTION_MS) this.#failures = 0;
    this.drop();
    const text = reason?.message ?? String(reason);
    if (reason instanceof Refused && reason.isForGood) {
      this.state = "refused";
      this.note(`refused, ${text}`);
      return;
    }
    // Full jitter: when a server restarts, its subscribers must not come back all at once.
    const ceiling = Math.min(BACKOFF_MS_MAX, 250 * 2 ** this.#failures);
    const wait = Math.max(100 + Math.random() * ceiling, reason?.retryAfterMs ?? 0);
    this.#failures += 1;
    this.state = "waiting";
    this.note(`${text}; again in ${(wait / 1000).toFixed(1)} s`);
    this.#timer = setTimeout(() => this.open(), wait);
  }
}

/** What the two polling transports share: a question, an answer, and the cursor from one to the next. */
class Polling extends Subscription {
  #shownRequest = null;

  async ask(parameters, etag, timeoutMs, signal) {
    const url = etag ? this.url(parameters, null) : this.url(parameters);
    const headers = etag ? { "If-None-Match": etag } : {};
    const request = etag ? `GET ${url}  If-None-Match: ${etag}` : `GET ${url}`;
    if (request !== this.#shownRequest) this.sent(request);
    this.#shownRequest = request;
    const deadline = AbortSignal.timeout(timeoutMs);
    const response = await fetch(url, { headers, signal: AbortSignal.any([signal, deadline]), cache: "no-store" });
    if (response.status === 304) {
      this.got("304 Not Modified");
      this.alive();
      return { etag, hasMore: false };
    }
    if (!response.ok) throw await Refused.from(response);
    const text = await response.text();
    const answer = JSON.parse(text);
    if (signal.aborted) return { etag, hasMore: false };
    this.got(`200 ${text}`);
    this.alive();
    if (answer.gap) this.hear({ gap: answer.gap });
    for (const event of answer.events) this.hear(event);
    this.hear({ cursor: answer.cursor });
    return { etag: response.headers.get("ETag"), hasMore: answer.more === true };
  }
}

/** Asks every second. The ETag of an answer is its cursor: `If-None-Match` asks for what came after it. */
class ShortPolling extends Polling {
  static key = "poll";
  static title = "Short polling";
  static about = "A request every second; 304 when nothing is new.";

  async connect(signal) {
    for (let etag = null; ;) {
      const answer = await this.ask({ transport: "poll" }, etag, 15_000, signal);
      etag = answer.etag;
      if (!answer.hasMore) await sleep(POLL_MS, signal);
    }
  }
}

/** Asks, and is answered when there is an event. */
class LongPolling extends Polling {
  static key = "long-poll";
  static title = "Long polling";
  static about = "A request that is answered when there is something to tell.";

  async connect(signal) {
    // The connection counts as live while the server holds the question, too.
    setTimeout(() => { if (!signal.aborted) this.alive(); }, 1000);
    for (;;) {
      await this.ask({ wait: LONG_POLL_SECONDS }, null, (LONG_POLL_SECONDS + 15) * 1000, signal);
    }
  }
}

/** A hidden iframe whose document never ends: every event is a script element that calls this page. */
class ForeverFrame extends Subscription {
  static key = "iframe";
  static title = "Forever frame";
  static about = "A hidden iframe whose document never ends: a script element an event.";
  static #count = 0;

  connect(signal) {
    return new Promise((resolve) => {
      const callback = `stentorFrame${++ForeverFrame.#count}`;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "events";
      let isBegun = false;
      window[callback] = (item) => {
        if (signal.aborted) return;
        // The frame is of our origin, so we can show the very element that called us.
        isBegun = true;
        this.got(frame.contentDocument?.currentScript?.outerHTML ?? JSON.stringify(item));
        this.alive(SILENCE_MS);
        this.hear(item);
      };
      // Firefox has an error page, of another origin, or a document that is not loading any more. Chromium tells nothing
      // of a document that is cut off: there it shows only in the missing heartbeats.
      let length = 0;
      const look = setInterval(() => {
        const state = frame.contentDocument?.readyState;
        if (!state || (isBegun && state !== "loading")) return resolve("document cut off");
        // White space that has come since is a sign of life, too.
        const seen = frame.contentDocument.body?.textContent.length ?? 0;
        if (isBegun && seen > length) this.alive(SILENCE_MS);
        length = seen;
      }, 500);
      signal.addEventListener("abort", () => {
        clearInterval(look);
        frame.remove();
        delete window[callback];
      });
      // Comes when the document was ended by the server.
      frame.addEventListener("load", () => resolve("document ended"));
      frame.src = this.url({ transport: "iframe", callback });
      this.sent(`GET ${frame.getAttribute("src")}`);
      document.body.append(frame);
    });
  }
}

/** One answer that never ends, a line of JSON an event, read with `fetch`. */
class HttpStreaming extends Subscription {
  static key = "stream";
  static title = "HTTP streaming";
  static about = "One answer that never ends: a line of JSON an event, read with fetch.";

  async connect(signal) {
    const url = this.url({ transport: "stream" });
    this.sent(`GET ${url}`);
    const response = await fetch(url, { signal, cache: "no-store" });
    if (!response.ok) throw await Refused.from(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done || signal.aborted) return "ended by the server";
      this.alive(SILENCE_MS);
      const lines = (rest + value).split("\n");
      // The last line may be half a line; after a cut it is never read, and comes again whole.
      rest = lines.pop();
      for (const line of lines) {
        if (line.trim() === "") continue;
        this.got(line.trim());
        this.hear(JSON.parse(line));
      }
    }
  }
}

/** The browser's own EventSource. It does not show the bytes, so the panel shows the fields that it hands over. */
class ServerSentEvents extends Subscription {
  static key = "sse";
  static title = "Server-Sent Events";
  static about = "EventSource, which reconnects by itself. It hands over fields, not bytes.";

  connect(signal) {
    return new Promise((resolve, reject) => {
      const url = this.url({ transport: "sse", format: "json" });
      this.sent(`GET ${url}`);
      const source = new EventSource(url);
      signal.addEventListener("abort", () => source.close());
      const on = (type, take) => source.addEventListener(type, (event) => {
        if (signal.aborted) return;
        this.alive();
        const name = type === "message" ? "" : `event: ${type}⏎ `;
        this.got(`${name}data: ${event.data}⏎ id: ${event.lastEventId}`);
        take(event);
      });
      on("message", (event) => this.hear(JSON.parse(event.data)));
      on("stentor.gap", (event) => this.hear({ gap: JSON.parse(event.data), cursor: event.lastEventId }));
      on("stentor.cursor", (event) => this.hear({ cursor: event.lastEventId }));
      source.addEventListener("open", () => { if (!signal.aborted) this.alive(); });
      source.addEventListener("error", () => {
        if (signal.aborted) return;
        if (source.readyState === EventSource.CLOSED) {
          reject(new Error("EventSource gave up"));
          return;
        }
        this.state = "waiting";
        this.connections += 1;
        this.note("connection lost; EventSource reconnects");
      });
    });
  }
}

/** A WebSocket that speaks the subprotocol `stentor.v1`: JSON both ways. */
class WebSocketSubscription extends Subscription {
  static key = "websocket";
  static title = "WebSocket";
  static about = "The subprotocol stentor.v1: JSON both ways, in frames.";

  connect(signal) {
    return new Promise((resolve, reject) => {
      const path = this.url({});
      this.sent(`GET ${path}  Upgrade: websocket`);
      const url = new URL(path, location.href);
      url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
      const socket = new WebSocket(url, ["stentor.v1"]);
      let pings = 0;
      // A page cannot see ping frames, so it asks by itself whether the other side is still there.
      const heartbeat = setInterval(() => {
        if (socket.readyState !== WebSocket.OPEN) return;
        const ping = JSON.stringify({ ping: ++pings });
        this.sent(ping);
        socket.send(ping);
      }, PING_MS);
      signal.addEventListener("abort", () => {
        clearInterval(heartbeat);
        socket.close();
      });
      socket.addEventListener("open", () => { if (!signal.aborted) this.alive(PING_MS + PONG_MS); });
      socket.addEventListener("message", ({ data }) => {
        if (signal.aborted) return;
        this.alive(PING_MS + PONG_MS);
        this.got(data);
        this.hear(JSON.parse(data));
      });
      socket.addEventListener("close", ({ code, reason }) => {
        clearInterval(heartbeat);
        const detail = reason ? `closed with ${code}, ${reason}` : `closed with ${code}`;
        // 4400 to 4499 are statuses in the guise of close codes: a browser does not show a refused upgrade.
        if (code >= 4400 && code < 4500) reject(new Refused(code - 4000, reason));
        else resolve(detail);
      });
    });
  }
}

export const TRANSPORTS = [
  ShortPolling, LongPolling, ForeverFrame, HttpStreaming, ServerSentEvents, WebSocketSubscription,
];
