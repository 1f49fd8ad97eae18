// Runs every command of docs/http-interface.md as it stands, and checks that the answer is the one that stands below it.
//
//     node tests/clients/curl.mjs [BASE_URL]
//
// In an answer `k3-42` stands for any cursor, the same one wherever it stands, and `…` for anything. While a command with `-N` runs, which
// goes on until it is stopped, this script publishes `hello` to `demo/hello`, as a reader would from a second terminal.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

const DOCUMENTED = "http://127.0.0.1:8080";
const base = (process.argv[2] ?? DOCUMENTED).replace(/\/$/, "");
const COMMAND_MS = 10_000;
const PUBLISH_EVERY_MS = 300;

const text = readFileSync(new URL("../../docs/http-interface.md", import.meta.url), "utf8");
const blocks = [...text.matchAll(/```sh\n([\s\S]*?)```\n(?:```text\n([\s\S]*?)```)?/g)];

/** What an answer must look like; trailing blanks and the ends of lines do not count. */
function pattern(answer) {
  const seen = new Set();
  const cursor = (placeholder) => {
    const name = placeholder.replace("-", "_");
    if (seen.has(name)) return `\\k<${name}>`;
    seen.add(name);
    return `(?<${name}>[0-9a-z]+-\\d+)`;
  };
  const lines = answer.trim().split("\n").map((line) => line.trimEnd()
    .replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")
    .replaceAll(/k3-\d+/g, cursor)
    .replaceAll("…", "[\\s\\S]*?"));
  return new RegExp(`^${lines.join("[ \\t]*\\n")}`);
}

async function run(command, expected) {
  // A process group of its own, so that curl ends with the shell that was pasted into.
  const child = spawn("bash", ["-c", command], { detached: true, stdio: ["ignore", "pipe", "ignore"] });
  const isEndless = / -N /.test(command);
  let output = "";
  let publishing;
  const end = new Promise((resolve) => child.on("close", resolve));
  const matched = new Promise((resolve) => {
    child.stdout.setEncoding("utf8").on("data", (part) => {
      output += part.replaceAll("\r", "");
      if (isEndless && expected.test(output)) resolve();
    });
  });
  if (isEndless) {
    publishing = setInterval(() => {
      fetch(`${base}/events?topic=demo/hello`, { method: "POST", body: "hello" }).catch(() => {});
    }, PUBLISH_EVERY_MS);
  }
  let timer;
  const tooLong = new Promise((resolve) => { timer = setTimeout(resolve, COMMAND_MS); });
  await Promise.race([end, matched, tooLong]);
  clearInterval(publishing);
  clearTimeout(timer);
  if (child.exitCode === null) process.kill(-child.pid, "SIGKILL");
  await end;
  return output;
}

let failures = 0;
for (const [, documented, answer] of blocks) {
  const command = documented.trim().replaceAll(DOCUMENTED, base);
  if (answer === undefined) {
    console.error(`FAILED ${command}\n  no answer stands below it in docs/http-interface.md`);
    failures += 1;
    continue;
  }
  const expected = pattern(answer.replaceAll(DOCUMENTED, base));
  const output = await run(command, expected);
  if (expected.test(output)) {
    console.log(`ok     ${command.split("\n").at(-1)}`);
  } else {
    failures += 1;
    console.error(`FAILED ${command}\n  documented: ${answer.trim()}\n  answered:   ${output.slice(0, 2000)}`);
  }
}
console.log(`${blocks.length - failures} of ${blocks.length} commands answered as documented`);
if (blocks.length < 30) {
  console.error("the page has lost its commands");
  failures += 1;
}
process.exit(failures === 0 ? 0 : 1);
