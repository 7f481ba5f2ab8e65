// The chat in a real browser: two people in two pages, as they would use it.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, test as plain } from "node:test";
import { chromium } from "playwright-core";
import { Server } from "./lib/server.mjs";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const shots = process.env.SCREENSHOTS;

/** With its pages. @type {Server} */
let server;
/** @type {import("playwright-core").Browser} */
let browser;
/** What pages did that they should not: requests to others, errors, violations of the policy. */
const faults = [];

/** @param {() => Promise<void>} body */
const test = (name, body) => plain(name, { timeout: 60_000 }, body);

before(async () => {
  [server, browser] = await Promise.all([Server.start("--dev"), chromium.launch({ executablePath, args, headless: true })]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

async function page(options = {}) {
  return tab(await browser.newContext(options));
}

/** @param {import("playwright-core").BrowserContext} context */
async function tab(context) {
  const made = await context.newPage();
  made.setDefaultTimeout(15_000);
    made.on("request", (request) => {
    const { host, protocol } = new URL(request.url());
    if (protocol !== "data:" && host !== new URL(server.url).host) faults.push(`asked ${request.url()}`);
  });
  made.on("pageerror", (error) => faults.push(String(error)));
  made.on("console", (message) => {
    if (message.type() === "error" && !/the server responded with a status of (404|409)|ERR_CONNECTION|WebSocket/i.test(message.text())) faults.push(message.text());
  });
  return made;
}

/** @param {import("playwright-core").Page} on */
async function enter(on, name, room, { anonymous = false } = {}) {
  await on.goto(server.url);
  await on.getByLabel("Your name").fill(name);
  await on.getByLabel("Room").fill(room);
  if (anonymous) await on.getByLabel("Without my name").check();
  await on.getByRole("button", { name: "Enter" }).click();
  await ready(on);
}

/** Connected, and the field for messages has the focus. */
async function ready(on) {
  await on.getByText("Connected").waitFor();
  await on.locator("#text:focus").waitFor();
}

/** By the keyboard alone: the message field has the focus. */
async function say(on, text) {
  await on.keyboard.type(text);
  await on.keyboard.press("Enter");
}

const heard = (on, text) => on.getByRole("log").getByText(text, { exact: true }).waitFor();
const ticked = (on, text, tick) => on.locator(".message", { hasText: text }).getByRole("img", { name: tick }).waitFor();

async function shoot(on, name) {
  if (!shots) return;
  await mkdir(shots, { recursive: true });
  await on.screenshot({ path: `${shots}/${name}.png` });
}

async function assertAccessible(on, where) {
  await on.addScriptTag({ path: createRequire(import.meta.url).resolve("axe-core") }).catch(() => {});
  const found = await on.evaluate(async () => {
    // @ts-ignore: axe is what the script above brought
    const { violations } = await window.axe.run();
    return violations.map(({ id, impact, nodes }) => ({ id, impact, html: nodes.map(({ html, any }) => `${html} ${any[0]?.message ?? ""}`) }));
  });
  assert.deepEqual(found, [], `${where}: ${JSON.stringify(found, undefined, 1)}`);
}

test("two people talk, in the open and in private; what waits comes; markup stays text", async () => {
  const alice = await page();
  const bob = await tab(alice.context());
  await enter(alice, "alice", "talk");
  await enter(bob, "bob", "talk");
  await alice.getByRole("button", { name: "Write privately to bob, here" }).waitFor();
  await say(alice, "hello bob");
  await heard(bob, "hello bob");
  await ticked(alice, "hello bob", "Delivered to all");

  const nasty = "<img src=x onerror=alert(1)><b>bold</b>";
  await say(bob, nasty);
  await heard(alice, nasty);
  assert.equal(await alice.locator("#log img, #log b").count(), 0);

  await alice.getByRole("button", { name: "Write privately to bob, here" }).click();
  await say(alice, "only for you");
  await heard(bob, "only for you");
  await bob.getByText("privately to you").waitFor();
  await ticked(alice, "only for you", "Delivered to all");
  await alice.keyboard.press("Escape");

  await bob.getByRole("button", { name: "Step away" }).click();
  await alice.getByRole("button", { name: "Write privately to bob, away" }).waitFor();
  await say(alice, "read this when you are back");
  await ticked(alice, "read this when you are back", "Kept for who is away");
  await bob.getByRole("button", { name: "Come back" }).click();
  await heard(bob, "read this when you are back");
  await bob.getByText("one message waited for you").waitFor();
  await shoot(alice, "chat");

  await bob.reload();
  await ready(bob);
  await heard(bob, "hello bob");
  await say(bob, "still me");
  await heard(alice, "still me");
  assert.equal(await alice.locator("#members li").count(), 2);
  await bob.getByRole("button", { name: "Leave" }).click();
  await heard(alice, "bob left");
  await bob.getByLabel("Your name").waitFor();
});

test("somebody without a name is known by an invented one until it is shown", async () => {
  const [alice, fox] = [await page(), await page()];
  await enter(alice, "alice", "masks");
  await enter(fox, "fox", "masks", { anonymous: true });
  await say(fox, "guess who");
  await heard(alice, "guess who");
  assert.equal(await alice.getByText("fox").count(), 0);
  await alice.locator(".message .who", { hasText: /^Somebody / }).waitFor();
  await alice.getByRole("button", { name: /Write privately to Somebody/ }).click();
  await say(alice, "who are you?");
  await heard(fox, "who are you?");
  await fox.getByRole("button", { name: "Show who I am" }).click();
  await alice.getByText(/Somebody .* is fox/).waitFor();
  await alice.getByRole("button", { name: "Write privately to fox, here" }).waitFor();
});

test("the server dies and returns, and nothing is lost", async () => {
  const [alice, bob] = [await page(), await page()];
  await enter(alice, "alice", "death");
  await enter(bob, "bob", "death");
  await server.kill();
  await alice.getByText("Trying again").waitFor();
  await say(alice, "said into the void");
  await alice.reload().catch(() => {});
  await server.run();
  if (!(await alice.getByRole("log").isVisible())) await alice.goto(server.url);
  await heard(bob, "said into the void");
  await ticked(alice, "said into the void", /Delivered to all|Kept for who is away/);
});

test("the library in a browser: what is sent and heard outlives a reload in IndexedDB", async () => {
  const alone = await page();
  await alone.goto(server.url);
  /** In the page. @param {string} what */
  const inPage = (what) => alone.evaluate(async (changes) => {
    const { IndexedDbStorage } = await import(/** @type {any} */ (new URL("./sparkmesh.js", location.href).href));
    const storage = new IndexedDbStorage("sparkmesh-test");
    const found = Object.fromEntries(await storage.load());
    await storage.write(new Map(Object.entries(JSON.parse(changes))));
    await storage.close();
    return found;
  }, what);
  assert.deepEqual(await inPage('{"a":"1","b":"2"}'), {});
  await alone.reload();
  assert.deepEqual(await inPage('{"a":null,"c":"3"}'), { a: "1", b: "2" });
  assert.deepEqual(await inPage("{}"), { b: "2", c: "3" });

  // The default of a client in a page.
  await alone.evaluate(async () => {
    const { Sparkmesh } = await import(/** @type {any} */ (new URL("./sparkmesh.js", location.href).href));
    const key = async (node_id) => (await (await fetch("/dev/key", { method: "POST", body: JSON.stringify({ node_id }) })).json()).key;
    const client = new Sparkmesh({ url: location.origin, key: () => key("idb-device") });
    const echo = new Promise((resolve) => client.on("message", resolve));
    await client.connect();
    await client.send({ dest_id: "idb-device", payload: "to myself", id: "idb-1" });
    await echo;
    await client.close();
  });
  const records = await alone.evaluate(async () => {
    const { IndexedDbStorage } = await import(/** @type {any} */ (new URL("./sparkmesh.js", location.href).href));
    return [...(await new IndexedDbStorage("sparkmesh-idb-device").load()).values()];
  });
  assert.deepEqual(records, ["0 idb-device idb-1"]);
});

test("fit for all: no fault that axe finds, in light and dark, large and small; nothing but the own server is asked", async () => {
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    for (const viewport of [{ width: 1100, height: 700 }, { width: 375, height: 667 }]) {
      const options = { colorScheme, viewport, bypassCSP: true };
      const [alice, bob] = [await page(options), await page(options)];
      const where = `${colorScheme}-${viewport.width}`;
      await alice.goto(server.url);
      await alice.getByRole("button", { name: "Enter" }).click();
      await alice.getByText("Your name: please fill it in.").waitFor();
      await assertAccessible(alice, `entrance ${where}`);
      await shoot(alice, `entrance-${where}`);
      await enter(alice, "alice", `fit-${where}`);
      await enter(bob, "bob", `fit-${where}`, { anonymous: true });
      await say(alice, "a message that is long enough to be wrapped where there is little room for it, as on a phone");
      await ticked(alice, "a message", "Delivered to all");
      await say(bob, "and an answer");
      await heard(alice, "and an answer");
      await alice.getByRole("button", { name: /Write privately/ }).click();
      await say(alice, "psst");
      await ticked(alice, "psst", "Delivered to all");
      await assertAccessible(alice, `room ${where}`);
      await shoot(alice, `room-${where}`);
      assert.equal(await alice.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), true, `${where} scrolls sideways`);
      await alice.context().close();
      await bob.context().close();
    }
  }
  assert.deepEqual(faults, []);
});
