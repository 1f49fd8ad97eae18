// Each page of examples/browser hears what is published, over the network and from another origin, and goes on where it
// was after its connection was cut and the server was away for a while.
//
//     node tests/browsers/examples.mjs BASE_URL [chromium] [firefox] [--port=8000] [--silence=N]
//
// The server must list the origin of the pages: STENTOR_CORS_CREDENTIALS=true STENTOR_CORS_ORIGINS=http://127.0.0.1:8000
// Of a frame that is cut off Chromium tells nothing, so its page sees it only by the silence: `silence` is a little more
// than the heartbeats of the server, in seconds.

import { readFile } from "node:fs/promises";
import http from "node:http";

import {
  checkHeard, commandLine, freshTopic, inEach, publish, publishBatch, sleep, until, visit,
} from "./common.mjs";
import { cuttingProxy } from "./cutting-proxy.mjs";
import { launch } from "./launch.mjs";

const { base, browsers, options } = commandLine();
const PAGES = ["polling", "long-polling", "xhr-streaming", "fetch-streaming", "iframe", "eventsource", "websocket"];
const silence = Number(options.silence ?? 32);
const port = Number(options.port ?? 8000);
const folder = new URL("../../examples/browser/", import.meta.url);

const pages = http.createServer(async (request, response) => {
  const [, name] = /^\/([\w-]+\.html)/.exec(request.url) ?? [];
  try {
    const body = await readFile(new URL(name, folder));
    response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve, reject) => {
  pages.once("error", reject);
  pages.listen(port, "127.0.0.1", resolve);
});

await inEach(browsers, launch, async ({ name, newPage }) => {
  for (const example of PAGES) {
    const proxy = await cuttingProxy(base);
    const page = await newPage();
    try {
      const topic = freshTopic(example);
      const parameters = new URLSearchParams({ server: proxy.url, topic, silence });
      await visit(page, `http://127.0.0.1:${port}/${example}.html?${parameters}`);
      const state = () => page.$eval("#state", (element) => element.textContent);
      const ids = () => page.$$eval("#events li", (items) => items.map((item) => item.dataset.id));
      const describe = async () => `${example}.html shows ${(await ids()).length} events and says "${await state()}"`;

      const isThere = async (count) => (await ids()).length >= count;

      // The page has subscribed when it hears something; what came before that is not its to hear.
      await until(`${example}.html hears the first event`, async () => {
        await publish(base, topic, "is anybody there?");
        await sleep(250);
        return isThere(1);
      }, { describe });
      await sleep(1500);
      const published = await ids();

      published.push(await publish(base, topic, "</script> grüße\n2nd line"));
      await until(`${example}.html hears another`, () => isThere(published.length), { describe });

      proxy.down();
      const missed = Array.from({ length: 30 }, (_, i) => ({ topic, data: `while away ${i}` }));
      published.push(...await publishBatch(base, missed));
      await sleep(1500);
      if (await isThere(published.length)) throw new Error(`${example}.html was never cut`);
      proxy.up();
      published.push(await publish(base, topic, "back"));
      await until(`${example}.html goes on`, () => isThere(published.length), { ms: 30_000 + 1000 * silence, describe });
      checkHeard(`${name}, ${example}.html`, await ids(), published);
      console.log(`       ${name}: ${example}.html`);
    } finally {
      await page.close();
      await proxy.close();
    }
  }
});
