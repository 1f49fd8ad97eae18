// A TCP proxy that cuts connections after a number of bytes, so also in mid-chunk, in mid-frame, in mid-line.
//
//     const proxy = await cuttingProxy("http://127.0.0.1:8080", { seed: 7 });
//     proxy.url …; proxy.cut(); proxy.calm(); await proxy.close();

import net from "node:net";

/** A small generator of numbers from 0 to 1 (mulberry32): the same seed gives the same cuts. */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * Starts a proxy to `target`. It is calm at first. After `cut()` each connection, old or new, is ended when a number
 * of bytes more has come from the server: between `bytesMin` and `bytesMax`, small numbers as likely as large ones, so
 * that many are cut in mid-chunk and some get through with a long answer. Half of them end with a FIN, half with a RST.
 */
export async function cuttingProxy(target, { seed = 1, bytesMin = 40, bytesMax = 200_000 } = {}) {
  const { hostname, port } = new URL(target);
  const next = random(seed);
  const connections = new Set();
  let isCutting = false;
  let isDown = false;
  let cuts = 0;
  const budget = () => (isCutting ? Math.round(bytesMin * (bytesMax / bytesMin) ** next()) : Infinity);

  const server = net.createServer((client) => {
    if (isDown) {
      client.resetAndDestroy();
      return;
    }
    const upstream = net.connect({ host: hostname, port: Number(port) });
    const connection = { left: budget(), end };
    connections.add(connection);
    function end(isReset) {
      connections.delete(connection);
      for (const socket of [client, upstream]) {
        if (isReset) socket.resetAndDestroy();
        else socket.destroySoon();
      }
    }
    client.setNoDelay(true);
    upstream.setNoDelay(true);
    upstream.on("data", (bytes) => {
      if (bytes.length < connection.left) {
        connection.left -= bytes.length;
        client.write(bytes);
        return;
      }
      client.write(bytes.subarray(0, connection.left));
      cuts += 1;
      upstream.pause();
      // What was written before a RST may never be read, which is one more place for a cut.
      end(next() < 0.5);
    });
    client.on("data", (bytes) => upstream.write(bytes));
    for (const socket of [client, upstream]) {
      socket.on("close", () => end(false));
      socket.on("error", () => end(true));
    }
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });

  return {
    url: `http://127.0.0.1:${server.address().port}`,
    get cuts() { return cuts; },
    /** Begins to cut. */
    cut() {
      isCutting = true;
      for (const connection of connections) connection.left = budget();
    },
    /** Cuts no more. */
    calm() {
      isCutting = false;
      for (const connection of connections) connection.left = Infinity;
    },
    /** Ends all connections now, and lets no new one through until `up()`. */
    down() {
      isDown = true;
      for (const connection of [...connections]) connection.end(true);
    },
    up() {
      isDown = false;
    },
    close() {
      for (const connection of [...connections]) connection.end(true);
      return new Promise((resolve) => server.close(resolve));
    },
  };
}
