// Debian's Chromium, its pages watched: what they do that they should not is collected.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
/** Where pictures go; none are taken without it. */
const pictures = process.env.SCREENSHOTS;
const axe = createRequire(import.meta.url).resolve("axe-core");
/** What a browser says of its own when a server is gone, or refuses. */
const EXPECTED = /the server responded with a status of (404|409|5\d\d)|net::ERR_CONNECTION|WebSocket connection|WebSocket is closed/i;

export class Browser {
  /** Requests to others, errors, violations of the policy. */
  faults = /** @type {string[]} */ ([]);
  /** The hosts that pages may ask. */
  hosts = /** @type {Set<string>} */ (new Set());
  #chromium = /** @type {import("playwright-core").Browser} */ (/** @type {unknown} */ (undefined));

  static async launch() {
    const browser = new Browser();
    browser.#chromium = await chromium.launch({ executablePath, args, headless: true });
    return browser;
  }

  async close() {
    await this.#chromium.close();
  }

  /** A page of a person of their own. @param {import("playwright-core").BrowserContextOptions} [options] */
  async page(options = {}) {
    return this.tab(await this.#chromium.newContext(options));
  }

  /** @param {import("playwright-core").BrowserContext} context */
  async tab(context) {
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    const check = (url) => {
      const { host, protocol } = new URL(url);
      if (protocol !== "data:" && !this.hosts.has(host)) this.faults.push(`asked ${url}`);
    };
    page.on("request", (request) => check(request.url()));
    page.on("websocket", (socket) => check(socket.url()));
    page.on("pageerror", (error) => this.faults.push(String(error)));
    page.on("dialog", (dialog) => {
      this.faults.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    page.on("console", (message) => {
      if (message.type() === "error" && !EXPECTED.test(message.text())) this.faults.push(message.text());
    });
    return page;
  }
}

/** Light and dark, large and small. */
const LOOKS = /** @type {const} */ (["light", "dark"]).flatMap((colorScheme) => [
  { name: colorScheme, colorScheme, size: { width: 1000, height: 720 } },
  { name: `phone-${colorScheme}`, colorScheme, size: { width: 375, height: 667 } },
]);

/**
 * In every look: no fault that axe finds, serious or not, and no scrolling sideways. With a `picture`, one of each is taken.
 * The page's context must have `bypassCSP`.
 */
export async function assertFit(page, state, picture = undefined) {
  if (!(await page.evaluate(() => "axe" in window))) await page.addScriptTag({ path: axe });
  const before = page.viewportSize();
  for (const { name, colorScheme, size } of LOOKS) {
    // A colour that is on its way from light to dark is neither.
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.setViewportSize(size);
    const { violations, isWide } = await page.evaluate(async () => {
      // @ts-ignore: axe is what the script above brought
      const { violations } = await window.axe.run();
      const told = violations.map(({ id, impact, nodes }) => ({ id, impact, html: nodes.map(({ html, any }) => `${html} ${any[0]?.message ?? ""}`) }));
      return { violations: told, isWide: document.documentElement.scrollWidth > window.innerWidth };
    });
    assert.deepEqual(violations, [], `${state}, ${name}: ${JSON.stringify(violations, undefined, 1)}`);
    assert.equal(isWide, false, `${state}, ${name}, scrolls sideways`);
    if (picture) await shoot(page, `${picture}-${name}`);
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
  await page.setViewportSize(before);
}

async function shoot(page, name) {
  if (!pictures) return;
  await mkdir(pictures, { recursive: true });
  await page.screenshot({ path: `${pictures}/${name}.png` });
}
