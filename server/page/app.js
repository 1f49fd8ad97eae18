// The live page: six subscribers to the same topics, a panel each, and a publish box. The Ledger is what all of them
// heard together: it tells a panel what is still to come. `window.stentor` shows the whole state, read-only, so that a
// test can check it.

import {
  BACKOFF_MS_MAX, Ledger, Publications, Refused, RESOURCE, sleep, TRANSPORTS, WIRE_LINES_MAX,
} from "/transports.js";

const CUT_MS = 3000;
const BATCH_LINES_MAX = 1000;
const BATCH_BYTES_MAX = 3 << 20;

const STATE_TEXT = {
  idle: "not started",
  connecting: "connecting",
  live: "live",
  waiting: "reconnecting",
  cut: "cut",
  refused: "refused",
};

class Panel {
  #subscription;
  #section;
  #wire;
  #cut;
  #elements = new Map();

  constructor(subscription, parent) {
    const { key, title, about } = subscription.constructor;
    this.#subscription = subscription;
    this.#section = document.getElementById("panel").content.cloneNode(true).firstElementChild;
    this.#section.dataset.transport = key;
    this.#section.setAttribute("aria-label", title);
    this.#section.querySelector("h2").textContent = title;
    this.#section.querySelector(".about").textContent = about;
    this.#wire = this.#section.querySelector(".wire");
    this.#wire.setAttribute("aria-label", `${title}: what goes over the wire`);
    this.#cut = this.#section.querySelector(".cut");
    this.#cut.addEventListener("click", () => {
      if (subscription.state === "cut") subscription.open();
      else subscription.cut(CUT_MS);
    });
    this.#elements.set("state", this.#section.querySelector(".state-text"));
    for (const element of this.#section.querySelectorAll("[data-figure]")) {
      this.#elements.set(element.dataset.figure, element);
    }
    parent.append(this.#section);
  }

  render(isNetworkCut) {
    const subscription = this.#subscription;
    const missing = subscription.missing();
    this.#section.dataset.state = subscription.state;
    this.#show("state", STATE_TEXT[subscription.state]);
    this.#show("latency", latencyText(subscription.latency));
    this.#show("events", subscription.events.toLocaleString("en"));
    this.#show("missing", missing.toLocaleString("en"), missing > 0 && "owed");
    this.#show("gaps", subscription.gaps.toLocaleString("en"), subscription.gaps > 0 && "alarm");
    this.#show("duplicates", subscription.duplicates.toLocaleString("en"), subscription.duplicates > 0 && "alarm");
    this.#show("cursor", subscription.cursor ?? "–");
    const isCut = subscription.state === "cut";
    const action = isCut ? "Reconnect" : "Cut";
    if (this.#cut.textContent !== action) {
      this.#cut.textContent = action;
      this.#cut.setAttribute("aria-label", `${action} ${subscription.constructor.title}`);
    }
    this.#cut.disabled = isNetworkCut;
    this.#renderWire();
  }

  #show(figure, text, className) {
    const element = this.#elements.get(figure);
    if (element.textContent !== text) element.textContent = text;
    if (className !== undefined) element.className = className || "";
  }

  #renderWire() {
    const subscription = this.#subscription;
    const wire = this.#wire;
    const isAtEnd = wire.scrollHeight - wire.scrollTop - wire.clientHeight < 8;
    const last = subscription.lastLine;
    if (last && last.shown > 0 && last.shown !== last.count) this.#fill(wire.lastElementChild, last);
    for (const line of subscription.lines) {
      const element = document.createElement("div");
      element.className = line.kind;
      this.#fill(element, line);
      wire.append(element);
    }
    subscription.lines.length = 0;
    while (wire.childElementCount > WIRE_LINES_MAX) wire.firstElementChild.remove();
    if (isAtEnd) wire.scrollTop = wire.scrollHeight;
  }

  #fill(element, line) {
    line.shown = line.count;
    element.textContent = line.count > 1 ? `${line.text}  ×${line.count}` : line.text;
  }
}

/** Whether `matcher` names `topic`: `*` stands for one segment, a final `**` for one or more. */
function matches(matcher, topic) {
  const segments = topic.split("/");
  const wanted = matcher.split("/");
  if (wanted.at(-1) === "**") {
    if (segments.length < wanted.length) return false;
    wanted.pop();
    segments.length = wanted.length;
  }
  return wanted.length === segments.length && wanted.every((one, i) => one === "*" || one === segments[i]);
}

function latencyText(ms) {
  if (ms === null) return "–";
  if (ms >= 10_000) return `${Math.round(ms / 1000)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

/** What the publish box asks for, as one request for one event and as batches for many. */
class Publisher {
  #published = 0;

  /** The requests for `form`, without sending them. */
  requests({ topic, name, kind, data, count, token }) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const first = this.#published + 1;
    const fill = (n) => data.replaceAll("%n", String(n));
    if (count === 1) {
      const query = new URLSearchParams({ topic });
      if (name) query.append("name", name);
      headers["Content-Type"] = kind === "json" ? "application/json" : "text/plain";
      const url = `${RESOURCE}?${query.toString().replaceAll("%2F", "/")}`;
      return [{ url, headers, body: fill(first), count }];
    }
    headers["Content-Type"] = "application/x-ndjson";
    const batches = [];
    let batch = null;
    for (let n = first; n < first + count; n += 1) {
      const value = kind === "json" ? JSON.parse(fill(n)) : fill(n);
      const line = `${JSON.stringify({ topic, name: name || undefined, data: value })}\n`;
      // A unit of a JavaScript string is at most three bytes of UTF-8.
      const bytes = 3 * ((batch?.body.length ?? 0) + line.length);
      if (!batch || batch.count === BATCH_LINES_MAX || bytes > BATCH_BYTES_MAX) {
        batch = { url: RESOURCE, headers, body: "", count: 0 };
        batches.push(batch);
      }
      batch.body += line;
      batch.count += 1;
    }
    return batches;
  }

  async publish(form, onPublished) {
    if (form.kind === "json") JSON.parse(form.data.replaceAll("%n", "1"));
    for (const { url, headers, body, count } of this.requests(form)) {
      const sentAt = performance.now();
      const response = await this.#send(url, { method: "POST", headers, body });
      const answer = await response.json();
      this.#published += count;
      for (const id of answer.ids ?? [answer.id]) onPublished(id, sentAt);
    }
  }

  /** Sends, and again if the server is busy: nothing of such a request was published. */
  async #send(url, request) {
    for (let attempt = 1; ; attempt += 1) {
      const response = await fetch(url, request);
      if (response.ok) return response;
      const refused = await Refused.from(response);
      if (refused.isForGood || attempt === 10) throw refused;
      await sleep(Math.max(refused.retryAfterMs, 200 * attempt));
    }
  }

  curl(form) {
    const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
    const [{ url, headers, body }] = this.requests({ ...form, count: 1, token: "" });
    const type = form.kind === "json" ? ` -H ${quote(`Content-Type: ${headers["Content-Type"]}`)}` : "";
    const token = form.token ? ` -H "Authorization: Bearer $TOKEN"` : "";
    const flag = body.startsWith("@") ? "--data-raw" : "-d";
    return `curl ${quote(location.origin + url)}${type}${token} ${flag} ${quote(body)}`;
  }
}

class Page {
  ledger = new Ledger();
  publications = new Publications();
  subscriptions = TRANSPORTS.map((Transport) => new Transport(this.publications));
  isNetworkCut = false;
  #publisher = new Publisher();
  #panels = [];
  #topics = [];
  #beginning = 0;

  constructor() {
    const parent = document.getElementById("panels");
    this.#panels = this.subscriptions.map((subscription) => new Panel(subscription, parent));
    this.#listenPublish(document.getElementById("publish"));
    this.#listenSubscribe(document.getElementById("subscribe"));
    this.#listenCutAll(document.getElementById("cut-all"));
    setInterval(() => {
      const now = performance.now();
      for (const subscription of this.subscriptions) subscription.handleTime(now);
    }, 1000);
    // The system says that the network is back: no need to sit out the backoff.
    addEventListener("online", () => {
      for (const subscription of this.subscriptions) if (subscription.state === "waiting") subscription.open();
    });
    this.#renderSoon();
  }

  get topics() { return [...this.#topics]; }

  /** Subscribes all six from one place, so that what one hears, all must hear. */
  async begin(topics) {
    const beginning = ++this.#beginning;
    this.#topics = topics;
    const query = new URLSearchParams(topics.map((topic) => ["topic", topic]));
    query.append("transport", "poll");
    for (let failures = 0; ; failures += 1) {
      try {
        const response = await fetch(`${RESOURCE}?${query}`, { cache: "no-store" });
        if (!response.ok) throw await Refused.from(response);
        const { cursor } = await response.json();
        if (beginning !== this.#beginning) return;
        this.#trouble(null);
        this.ledger = new Ledger();
        for (const subscription of this.subscriptions) {
          subscription.begin(topics, cursor, this.ledger);
          if (this.isNetworkCut) subscription.cut();
        }
        return;
      } catch (error) {
        if (beginning !== this.#beginning) return;
        if (error instanceof Refused && error.isForGood) {
          this.#trouble(`The server refuses this subscription. ${error.message}`);
          return;
        }
        this.#trouble("The server does not answer. The page keeps trying.");
        await sleep(Math.min(BACKOFF_MS_MAX, 500 * 2 ** failures) * (0.5 + Math.random() / 2));
      }
    }
  }

  #listenPublish(form) {
    const read = () => ({
      topic: form.topic.value.trim(),
      name: form.elements.name.value.trim(),
      kind: form.kind.value,
      data: form.data.value,
      count: form.count.valueAsNumber || 1,
      token: form.token.value,
    });
    const output = document.getElementById("published");
    const curl = document.getElementById("curl");
    const showCurl = () => { curl.textContent = this.#publisher.curl(read()); };
    form.addEventListener("input", showCurl);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const wanted = read();
      const isHeardHere = this.#topics.some((matcher) => matches(matcher, wanted.topic));
      let ids = 0;
      try {
        await this.#publisher.publish(wanted, (id, sentAt) => {
          ids += 1;
          this.publications.sent(id, sentAt);
          for (const subscription of this.subscriptions) subscription.handlePublished(id, sentAt);
          // All six will hear it, though none may have done so yet.
          if (isHeardHere) this.ledger.add(id);
          output.textContent = ids === 1 ? `published as ${id}` : `${ids.toLocaleString("en")} published, up to ${id}`;
        });
      } catch (error) {
        if (error.status === 401 || error.status === 403) document.getElementById("token-field").hidden = false;
        const text = error instanceof SyntaxError ? `data is no JSON text: ${error.message}` : error.message;
        output.textContent = `not published, ${text}`;
      }
      showCurl();
    });
    showCurl();
  }

  #listenSubscribe(form) {
    const asked = new URLSearchParams(location.search).getAll("topic");
    if (asked.length > 0) form.topics.value = asked.join(" ");
    const read = () => form.topics.value.split(/[\s,]+/).filter((topic) => topic !== "");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const query = new URLSearchParams(read().map((topic) => ["topic", topic]));
      history.replaceState(null, "", `?${query.toString().replaceAll("%2F", "/").replaceAll("%2A", "*")}`);
      this.begin(read());
    });
    this.begin(read());
  }

  #listenCutAll(button) {
    const toggle = () => {
      this.isNetworkCut = !this.isNetworkCut;
      button.setAttribute("aria-checked", String(this.isNetworkCut));
      for (const subscription of this.subscriptions) {
        if (this.isNetworkCut) subscription.cut();
        else subscription.open();
      }
    };
    button.addEventListener("click", toggle);
    document.getElementById("cut-all-label").addEventListener("click", toggle);
  }

  #trouble(text) {
    const element = document.getElementById("trouble");
    element.hidden = text === null;
    element.textContent = text ?? "";
  }

  #renderSoon() {
    requestAnimationFrame(() => {
      for (const panel of this.#panels) panel.render(this.isNetworkCut);
      const live = this.subscriptions.filter((subscription) => subscription.state === "live").length;
      const known = this.ledger.offsets.size;
      const events = known === 1 ? "1 event" : `${known.toLocaleString("en")} events`;
      const summary = document.getElementById("summary");
      const text = `${live} of ${this.subscriptions.length} live · ${events}`;
      if (summary.textContent !== text) summary.textContent = text;
      setTimeout(() => this.#renderSoon(), 100);
    });
  }
}

const page = new Page();

/** The state for tests: plain copies, so that nobody can change the page through it. */
const state = {
  get topics() { return page.topics; },
  get isNetworkCut() { return page.isNetworkCut; },
  get published() { return [...page.publications.ids]; },
  get transports() {
    return Object.fromEntries(page.subscriptions.map((subscription) => [subscription.constructor.key, {
      state: subscription.state,
      cursor: subscription.cursor,
      ids: [...subscription.ids],
      events: subscription.events,
      missing: subscription.missing(),
      gaps: subscription.gaps,
      duplicates: subscription.duplicates,
      disorder: subscription.disorder,
      connections: subscription.connections,
      latency: subscription.latency,
    }]));
  },
};
Object.defineProperty(window, "stentor", { value: Object.freeze(state) });
