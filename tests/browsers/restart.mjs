// The server is ended with SIGTERM and started again, with an empty log, while the live page is open: every transport
// comes back by itself, is told of the gap, and hears what is published then.
//
//     STENTOR=target/debug/stentor node tests/browsers/restart.mjs BASE_URL [chromium] [firefox]
//
// It starts servers of its own, so BASE_URL is not used.

import { spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";

import {
  checkHeard, commandLine, freshTopic, inEach, liveState, publishBatch, TRANSPORTS, until, untilHeard, visit,
} from "./common.mjs";
import { launch } from "./launch.mjs";

const { browsers } = commandLine();
const binary = process.env.STENTOR;
if (!binary) {
  console.error("STENTOR must name the server's binary");
  process.exit(2);
}

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** A server that is ready. */
async function start(port) {
  const child = spawn(binary, ["--listen", `127.0.0.1:${port}`, "--drain-seconds", "5"], { stdio: "ignore" });
  await until("the server is ready", async () => {
    if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}`);
    return fetch(`http://127.0.0.1:${port}/ready`).then((answer) => answer.ok, () => false);
  });
  return child;
}

const texts = (topic, count) => Array.from({ length: count }, (_, i) => ({ topic, data: `event ${i}` }));

await inEach(browsers, launch, async ({ name, newPage }) => {
  const port = await freePort();
  const base = `http://127.0.0.1:${port}`;
  let server = await start(port);
  try {
    const page = await newPage();
    const topic = freshTopic("restart");
    await visit(page, `${base}/?topic=${topic}`);
    await untilHeard(page, 0);
    const published = await publishBatch(base, texts(topic, 5));
    await untilHeard(page, 5);

    const ended = once(server, "exit");
    server.kill("SIGTERM");
    const [status] = await ended;
    if (status !== 0) throw new Error(`the server ended with ${status}, though all connections could end`);
    await until("every transport knows that it has no connection", async () => {
      const state = await liveState(page);
      return TRANSPORTS.every((key) => state[key].state !== "live");
    });
    server = await start(port);
    published.push(...await publishBatch(base, texts(topic, 3)));
    const state = await untilHeard(page, 8, 40_000);
    for (const key of TRANSPORTS) {
      if (state[key].gaps !== 1) throw new Error(`${key} was told of ${state[key].gaps} gaps, not of one`);
      if (state[key].duplicates > 0) throw new Error(`${key} heard ${state[key].duplicates} events twice`);
      // Offsets begin anew with the log, so each life is checked by itself.
      checkHeard(`${name}, ${key}, before`, state[key].ids.slice(0, 5), published.slice(0, 5));
      checkHeard(`${name}, ${key}, after`, state[key].ids.slice(5), published.slice(5));
    }
    await page.close();
  } finally {
    server.kill("SIGKILL");
  }
});
