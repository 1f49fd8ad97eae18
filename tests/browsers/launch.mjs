// Starts a browser as Debian packages it: Chromium over its DevTools protocol, Firefox over WebDriver BiDi.
import puppeteer from "puppeteer-core";

// The browser itself must be silent: what it sends on its own would be counted as ours.
const CHROMIUM_FLAGS = [
  "--no-sandbox", // its sandbox wants namespaces that containers and root do not have
  "--disable-gpu",
  "--disable-quic",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const FIREFOX_PREFERENCES = {
  "app.update.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "network.prefetch-next": false,
};

/** How each browser is started; `CHROMIUM` and `FIREFOX` name other binaries. */
const BROWSERS = {
  chromium: () => ({
    browser: "chrome",
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: CHROMIUM_FLAGS,
  }),
  firefox: () => ({
    browser: "firefox",
    executablePath: process.env.FIREFOX ?? "/usr/bin/firefox-esr",
    extraPrefsFirefox: FIREFOX_PREFERENCES,
  }),
};

/**
 * A headless browser with a profile of its own, which is removed when it is closed.
 * @param {"chromium" | "firefox"} name
 * @returns {Promise<import("puppeteer-core").Browser>}
 */
export async function launch(name) {
  const options = BROWSERS[name];
  if (!options) {
    throw new Error(`${name} is no browser that is tested; those are ${Object.keys(BROWSERS).join(", ")}`);
  }
  return puppeteer.launch({ headless: true, timeout: 60_000, ...options() });
}
