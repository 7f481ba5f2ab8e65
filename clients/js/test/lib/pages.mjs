// Pages in a real browser, and a mesh under them.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { Server, key } from "./server.mjs";
import { until } from "./wait.mjs";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
/** Where pictures go, if they are wanted. */
const shots = process.env.SCREENSHOTS;
const SECRET = "a secret for tests alone";

/** What a page may complain of while servers come and go. */
const EXPECTED = /the server responded with a status of (40[1349]|503)|ERR_CONNECTION|ERR_EMPTY|ERR_SOCKET|WebSocket/i;

export class Pages {
  /** @type {import("playwright-core").Browser} */
  #browser;
  /** What pages did that they should not: requests to others, errors, violations of their policy. @type {string[]} */
  faults = [];
  /** Hosts that may be asked. @type {Set<string>} */
  hosts = new Set();

  static async start() {
    const pages = new Pages();
    pages.#browser = await chromium.launch({ executablePath, args, headless: true });
    return pages;
  }

  async stop() {
    await this.#browser?.close();
  }

  /** In a context of its own. @param {string | undefined} url @param {import("playwright-core").BrowserContextOptions} options */
  async open(url, options = {}) {
    const context = await this.#browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    const check = (asked) => {
      const { host, protocol } = new URL(asked);
      if (protocol !== "data:" && !this.hosts.has(host)) this.faults.push(`asked ${asked}`);
    };
    page.on("request", (request) => check(request.url()));
    page.on("websocket", (socket) => check(socket.url()));
    page.on("pageerror", (error) => this.faults.push(String(error)));
    page.on("console", (message) => {
      if (message.type() === "error" && !EXPECTED.test(message.text())) this.faults.push(message.text());
    });
    page.on("dialog", (dialog) => this.faults.push(`a dialog: ${dialog.message()}`));
    if (url) await page.goto(url);
    return page;
  }
}

/** A picture, where they are wanted. @param {import("playwright-core").Page} page */
export async function shoot(page, name) {
  if (!shots) return;
  await mkdir(shots, { recursive: true });
  await page.screenshot({ path: `${shots}/${name}.png` });
}

/** Axe finds nothing. The page's policy must have been bypassed. @param {import("playwright-core").Page} page */
export async function assertAccessible(page, where) {
  await page.addScriptTag({ path: createRequire(import.meta.url).resolve("axe-core") });
  const found = await page.evaluate(async () => {
    // @ts-ignore: axe is what the script above brought
    const { violations } = await window.axe.run();
    return violations.map(({ id, impact, nodes }) => ({ id, impact, html: nodes.map(({ html, any }) => `${html} ${any[0]?.message ?? ""}`) }));
  });
  assert.deepEqual(found, [], `${where}: ${JSON.stringify(found, undefined, 1)}`);
}

/** The page does not scroll sideways. @param {import("playwright-core").Page} page */
export async function assertFits(page, where) {
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), true, `${where} scrolls sideways`);
}

/** Servers s1, s2 and so on, each linked to all others; with the pages of --dev. */
export class Mesh {
  /** @type {Server[]} */
  servers = [];
  #directory = "";

  static async start(count, ...flags) {
    const mesh = new Mesh();
    mesh.#directory = await mkdtemp(join(tmpdir(), "sparkmesh-pages-"));
    const secret = join(mesh.#directory, "secret");
    await writeFile(secret, SECRET, { mode: 0o600 });
    for (let number = 1; number <= count; number++) {
      const peers = mesh.servers.flatMap((server) => ["--peer", server.url.replace("http", "ws")]);
      mesh.servers.push(await Server.start("--dev", "--secret-file", secret, "--node-id", `s${number}`, "--drain-deadline", "5s", ...peers, ...flags));
    }
    await mesh.settled(count);
    return mesh;
  }

  get hosts() {
    return this.servers.map(({ url }) => new URL(url).host);
  }

  admin = key("tester", { role: "admin" });

  /** @param {RequestInit} [how] */
  async ask(number, path, how = {}) {
    const answer = await fetch(`${this.servers[number].url}${path}`, { ...how, headers: { authorization: `Bearer ${this.admin}` } });
    return answer.ok ? answer.json() : undefined;
  }

  /** Until each of those that run reaches so many, and serves. */
  async settled(count, numbers = this.servers.map((_, number) => number)) {
    await until(`${count} servers reach each other`, async () => {
      const seen = await Promise.all(numbers.map((number) => this.ask(number, "/v1/mesh").catch(() => undefined)));
      return seen.every((mesh) => mesh?.servers.filter(({ reachable, standing }) => reachable && standing === "serving").length === count);
    });
  }

  /** The number of a server by its id. */
  numberOf(id) {
    return Number(id.slice(1)) - 1;
  }

  async stop() {
    await Promise.all(this.servers.map((server) => server.stop()));
    await rm(this.#directory, { recursive: true, force: true });
  }
}
