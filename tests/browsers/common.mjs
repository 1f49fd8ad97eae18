// What the browser tests share: arguments, publishing over HTTP, waiting, and the check of what a page heard.

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** `BASE_URL [chromium] [firefox]`, and `--name=value`. Without a browser: both. */
export function commandLine() {
  const given = process.argv.slice(2);
  const options = Object.fromEntries(given.filter((one) => one.startsWith("--")).map((one) => one.slice(2).split("=")));
  const [base, ...browsers] = given.filter((one) => !one.startsWith("--"));
  if (!base) {
    console.error(`usage: node ${process.argv[1]} BASE_URL [chromium] [firefox]`);
    process.exit(2);
  }
  return {
    base: base.replace(/\/$/, ""),
    browsers: browsers.length > 0 ? browsers : ["chromium", "firefox"],
    options,
  };
}

/** A topic prefix that no earlier run has used. */
export function freshTopic(name) {
  return `test/${name}-${Date.now().toString(36)}-${Math.floor(Math.random() * 1e6).toString(36)}`;
}

/** Publishes one event, and again while the server is busy; gives its id. */
export async function publish(base, topic, body, { name, type = "text/plain" } = {}) {
  const query = new URLSearchParams({ topic });
  if (name) query.set("name", name);
  const answer = await post(`${base}/events?${query}`, body, type);
  return answer.id;
}

/** Publishes many, each `{ topic, name, data }`, in one piece; gives their ids. */
export async function publishBatch(base, events) {
  const body = events.map((event) => JSON.stringify(event)).join("\n");
  const answer = await post(`${base}/events`, body, "application/x-ndjson");
  return answer.ids;
}

async function post(url, body, type) {
  for (let attempt = 1; ; attempt += 1) {
    const response = await fetch(url, { method: "POST", body, headers: { "Content-Type": type } });
    if (response.ok) return response.json();
    const text = await response.text();
    if (response.status !== 503 || attempt === 50) throw new Error(`POST ${url}: ${response.status} ${text}`);
    await sleep(20 * attempt);
  }
}

/** Waits until `check` gives something true; `describe` says what is the case when it does not in time. */
export async function until(what, check, { ms = 15_000, describe = async () => "" } = {}) {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms} ms. ${await describe()}`);
    await sleep(50);
  }
}

/**
 * Goes to `url` and waits until its document is read. `page.goto` would wait for frames as well, and a forever frame is
 * never complete.
 */
export async function visit(page, url) {
  await page.evaluate((address) => { location.href = address; }, url);
  await until(`opening ${url}`, async () => {
    try {
      return await page.evaluate((address) => location.href === address && document.readyState !== "loading", url);
    } catch {
      // The old document is going away.
      return false;
    }
  });
}

/** The events that were heard must be those that were published: each once, in order. */
export function checkHeard(who, heard, published) {
  const problems = [];
  const once = new Set(heard);
  const lost = published.filter((id) => !once.has(id));
  const foreign = heard.filter((id) => !published.includes(id));
  if (lost.length > 0) problems.push(`${lost.length} lost: ${lost.slice(0, 5).join(" ")}`);
  if (once.size < heard.length) problems.push(`${heard.length - once.size} twice`);
  if (foreign.length > 0) problems.push(`${foreign.length} not published here: ${foreign.slice(0, 5).join(" ")}`);
  const order = heard.map((id) => Number(id.slice(id.lastIndexOf("-") + 1)));
  const at = order.findIndex((offset, i) => i > 0 && offset < order[i - 1]);
  if (at > 0) problems.push(`out of order: ${heard[at - 1]} before ${heard[at]}`);
  if (problems.length > 0) throw new Error(`${who}: ${problems.join("; ")}`);
}

/** The state of the live page, or nothing while it loads. */
export async function liveState(page) {
  return page.evaluate(() => window.stentor && { published: window.stentor.published, ...window.stentor.transports });
}

export const TRANSPORTS = ["poll", "long-poll", "iframe", "stream", "sse", "websocket"];

/** Waits until every transport of the live page is live and has heard `count` events; gives their state. */
export async function untilHeard(page, count, ms = 20_000) {
  let transports;
  const brief = () => JSON.stringify(Object.fromEntries(TRANSPORTS.map((key) => {
    const { state, events, missing, gaps, duplicates, connections } = transports?.[key] ?? {};
    return [key, { state, events, missing, gaps, duplicates, connections }];
  })));
  return until(`all six live with ${count} events`, async () => {
    transports = await liveState(page);
    return transports && TRANSPORTS.every((key) => {
      const { state, events } = transports[key];
      return state === "live" && events >= count;
    }) && transports;
  }, { ms, describe: async () => brief() });
}

/** Firefox counts among the errors of scripts what it says of connections that are cut, also within a character. */
const CUT_OFF =
  /^(The connection to ws|Firefox can.t establish|Cross-Origin Request Blocked|The byte stream was erroneous)/;

/** Gives a page this size. Puppeteer turns it too, which not every Firefox can (140 cannot): that is left out. */
export async function resize(page, viewport) {
  await page.setViewport(viewport).catch((error) => {
    if (!/unknown command emulation\.setScreenOrientationOverride/.test(error.message)) throw error;
  });
  await until(`a width of ${viewport.width}`, async () => (await page.evaluate(() => innerWidth)) === viewport.width);
}

/** Runs `test` for each browser; prints what the pages complain of; exits with 1 if one failed. */
export async function inEach(browsers, launch, test) {
  let failures = 0;
  for (const name of browsers) {
    const browser = await launch(name);
    const complaints = [];
    const newPage = async () => {
      const page = await browser.newPage();
      await resize(page, { width: 1280, height: 900 });
      page.on("pageerror", ({ message }) => {
        if (!CUT_OFF.test(message)) complaints.push(`script error: ${message}`);
      });
      return page;
    };
    try {
      await test({ name, newPage });
      if (complaints.length > 0) throw new Error(complaints.join("\n"));
      console.log(`ok     ${name}`);
    } catch (error) {
      failures += 1;
      console.error(`FAILED ${name}: ${error.message}`);
      for (const complaint of complaints) console.error(`  ${complaint}`);
    } finally {
      await browser.close();
    }
  }
  process.exit(failures === 0 ? 0 : 1);
}
