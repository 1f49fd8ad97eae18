// The live page behind a proxy that cuts connections at random bytes, while events are published all the time: at the
// end every transport has heard every event, once, in order.
//
//     node tests/browsers/resume.mjs BASE_URL [chromium] [firefox] [--seed=N] [--seconds=N] [--silence=N]
//
// Of a frame that is cut off Chromium tells nothing, so the page sees it only by the silence: `silence` is a little more
// than the heartbeats of the server, in seconds.

import {
  checkHeard, commandLine, freshTopic, inEach, publish, publishBatch, sleep, TRANSPORTS, untilHeard, visit,
} from "./common.mjs";
import { cuttingProxy } from "./cutting-proxy.mjs";
import { launch } from "./launch.mjs";

const { base, browsers, options } = commandLine();
const seed = Number(options.seed ?? Math.floor(Math.random() * 1e9));
const silence = Number(options.silence ?? 32);
const seconds = Number(options.seconds ?? 15);
/** Over this many topics, since the log keeps 1,000 events of each and nothing may be lost here. */
const TOPICS = 20;
console.log(`seed ${seed}`);

await inEach(browsers, launch, async ({ name, newPage }) => {
  const proxy = await cuttingProxy(base, { seed });
  try {
    const page = await newPage();
    const topic = freshTopic("resume");
    // The page itself must come whole; only then the cutting begins.
    await visit(page, `${proxy.url}/?topic=${topic}/*&silence=${silence}`);
    await untilHeard(page, 0);

    proxy.cut();
    const published = [];
    const end = Date.now() + seconds * 1000;
    for (let n = 0; Date.now() < end; n += 1) {
      if (n % 10 === 0) {
        const events = Array.from({ length: 20 }, (_, i) => ({
          topic: `${topic}/${(n + i) % TOPICS}`, data: `burst ${n}, event ${i}, ${"ä".repeat(n % 200)}`,
        }));
        published.push(...await publishBatch(base, events));
      } else {
        published.push(await publish(base, `${topic}/${n % TOPICS}`, `event ${n}, ${"x".repeat((n * 37) % 3000)}`));
      }
      await sleep(10);
    }
    proxy.calm();
    const state = await untilHeard(page, published.length, 30_000 + 2000 * silence);
    for (const key of TRANSPORTS) {
      checkHeard(`${name}, ${key}`, state[key].ids, published);
      const { gaps, duplicates, connections } = state[key];
      if (gaps + duplicates > 0) throw new Error(`${key}: ${gaps} gaps, ${duplicates} duplicates`);
      if (connections < 2) throw new Error(`${key} was never cut: the test has proved nothing`);
    }
    const times = TRANSPORTS.map((key) => `${key} ${state[key].connections}`).join(", ");
    console.log(`       ${name}: ${published.length} events, ${proxy.cuts} cuts; connections: ${times}`);
    await page.close();
  } finally {
    await proxy.close();
  }
});
