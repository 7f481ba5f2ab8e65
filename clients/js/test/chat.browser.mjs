// The chat in a real browser: two people and more in pages of their own, as they would use it.
import assert from "node:assert/strict";
import { after, before, test as plain } from "node:test";
import WebSocket from "ws";
import { Sparkmesh } from "../dist/index.js";
import { assertFit, Browser } from "./lib/browser.mjs";
import { Mesh, Server } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

/** With its pages. @type {Server} */
let server;
/** @type {Browser} */
let browser;

/** @param {(context: import("node:test").TestContext) => Promise<void>} body */
const test = (name, body) => plain(name, { timeout: 300_000 }, async (context) => {
  await body(context);
  assert.deepEqual(browser.faults, []);
});

before(async () => {
  [server, browser] = await Promise.all([Server.start("--dev", "--node-id", "s1"), Browser.launch()]);
  browser.hosts.add(new URL(server.url).host);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** @param {import("playwright-core").Page} on */
async function enter(on, name, room, { anonymous = false, url = server.url } = {}) {
  if (!on.url().startsWith(url)) await on.goto(url);
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
const toOne = (on, name) => on.getByRole("button", { name: `Write privately to ${name}` });
/** The messages of the log, as a person reads them: from whom, and what. */
const conversation = (on) => on.locator(".message").evaluateAll((lines) =>
  lines.map((line) => `${line.querySelector(".who").textContent}: ${line.querySelector(".meta + p").textContent}`));
const people = (on) => on.locator("#members .label").evaluateAll((labels) => labels.map((label) => `${label.querySelector("b").textContent} ${label.querySelector(".tag").textContent}`));
const serverOf = async (on) => (await on.getByText(/^Connected to /).textContent()).match(/to (\w+)/)[1];

test("a server is started, and two tabs talk", async (context) => {
  const began = performance.now();
  const fresh = await Server.start("--dev");
  try {
    browser.hosts.add(new URL(fresh.url).host);
    const alice = await browser.page();
    const bob = await browser.tab(alice.context());
    await enter(alice, "alice", "lobby", { url: fresh.url });
    await enter(bob, "bob", "lobby", { url: fresh.url });
    await say(bob, "already?");
    await heard(alice, "already?");
    await ticked(bob, "already?", "Delivered to all");
    context.diagnostic(`${Math.round(performance.now() - began)} ms from the start of the server to a delivered message`);
    await alice.context().close();
  } finally {
    await fresh.stop();
  }
});

test("two people talk, in the open and in private; what waits comes", async () => {
  const alice = await browser.page();
  const bob = await browser.tab(alice.context());
  await enter(alice, "alice", "talk");
  await enter(bob, "bob", "talk");
  await toOne(alice, "bob here").waitFor();
  await say(alice, "hello bob");
  await heard(bob, "hello bob");
  await ticked(alice, "hello bob", "Delivered to all");

  await toOne(alice, "bob here").click();
  await say(alice, "only for you");
  await heard(bob, "only for you");
  await bob.getByText("privately to you").waitFor();
  await ticked(alice, "only for you", "Delivered to all");
  await alice.keyboard.press("Escape");

  await bob.getByRole("button", { name: "Step away" }).click();
  await toOne(alice, "bob away").waitFor();
  await say(alice, "read this when you are back");
  await ticked(alice, "read this when you are back", "Kept for who is away");
  await bob.getByRole("button", { name: "Come back" }).click();
  await heard(bob, "read this when you are back");
  await bob.getByText("one message waited for you").waitFor();

  await bob.reload();
  await ready(bob);
  await heard(bob, "hello bob");
  await say(bob, "still me");
  await heard(alice, "still me");
  assert.deepEqual(await people(alice), ["alice you", "bob here"]);
  assert.deepEqual(await conversation(alice), [
    "You: hello bob", "You: only for you", "You: read this when you are back", "bob: still me",
  ]);
  await bob.getByRole("button", { name: "Leave" }).click();
  await heard(alice, "bob left");
  await bob.getByLabel("Your name").waitFor();
});

test("who closes the tab can come back, and what was said meanwhile has waited", async () => {
  const [alice, bob] = [await browser.page(), await browser.page()];
  await enter(alice, "alice", "return");
  await enter(bob, "bob", "return");
  await say(alice, "before");
  await heard(bob, "before");
  const context = bob.context();
  await bob.close();
  await toOne(alice, "bob away").waitFor();
  await say(alice, "while you were gone");
  await ticked(alice, "while you were gone", "Kept for who is away");

  const again = await browser.tab(context);
  await again.goto(server.url);
  await again.getByRole("button", { name: "bob in #return" }).press("Enter");
  await ready(again);
  await heard(again, "while you were gone");
  assert.deepEqual(await conversation(again), ["alice: before", "alice: while you were gone"]);
  // He is in this tab now, and nobody else is he.
  const third = await browser.tab(context);
  await third.goto(server.url);
  await third.getByLabel("Your name").waitFor();
  assert.equal(await third.getByRole("button", { name: "bob in #return" }).count(), 0);
});

test("somebody without a name is known by an invented one until it is shown", async () => {
  const [alice, fox] = [await browser.page(), await browser.page()];
  await enter(alice, "alice", "masks");
  await enter(fox, "fox", "masks", { anonymous: true });
  await say(fox, "guess who");
  await heard(alice, "guess who");
  assert.equal(await alice.getByText("fox").count(), 0);
  await alice.locator(".message .who", { hasText: /^Somebody / }).waitFor();
  await toOne(alice, "Somebody").click();
  await say(alice, "who are you?");
  await heard(fox, "who are you?");
  await fox.getByRole("button", { name: "Show who I am" }).click();
  await alice.getByText(/Somebody .* is fox/).waitFor();
  await toOne(alice, "fox here").waitFor();
});

test("names and messages are text, whoever sends them, and the page lets nothing else in", async () => {
  const alice = await browser.page();
  await alice.goto(server.url);
  await alice.getByLabel("Your name").fill('<img src=x onerror="alert(1)">');
  await alice.getByRole("button", { name: "Enter" }).click();
  await alice.getByText("Your name: only letters, digits, _ and -, please.").waitFor();
  await enter(alice, "alice", "markup");

  // Not through the page: what any program may send.
  const node = "x.:@-__proto__";
  const getKey = async () => (await (await fetch(`${server.url}/dev/key`, { method: "POST", body: JSON.stringify({ node_id: node }) })).json()).key;
  const mallory = new Sparkmesh({ url: server.url, key: getKey, WebSocket });
  await mallory.connect();
  const room = await mallory.joinSession("room.markup");
  const nasty = [
    '<img src=x onerror="alert(1)">', "<script>alert(1)</script>", "</p></div><h1>big</h1>", "javascript:alert(1)", "&lt;b&gt; &amp; <b>bold</b>",
    "\u202Egnp.exe", "<style>*{display:none}</style>", "a".repeat(5000),
  ];
  for (const text of nasty) await room.send(text);
  await room.send({ text: "<b>no text</b>" });
  await room.send("the end");
  await heard(alice, "the end");
  assert.deepEqual(await conversation(alice), [...nasty, "the end"].map((text) => `x: ${text}`));
  assert.equal(await alice.locator("#log :is(img, script, h1, b, style, a)").count(), 0);
  assert.equal(await alice.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), true, "it scrolls sideways");
  // The newest stays in view where there is less room, as when a phone shows its keyboard.
  await alice.setViewportSize({ width: 375, height: 350 });
  await until("the newest is in view", () => alice.getByRole("log").evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2));
  await mallory.close();

  // A page that is tried, and whose faults are wanted.
  const policy = (await (await fetch(server.url)).headers.get("content-security-policy"));
  assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self';/);
  assert.doesNotMatch(policy, /unsafe|https?:(?!\/\/(127\.0\.0\.1|localhost):\*)| \*/);
  const tried = await browser.page();
  await tried.goto(server.url);
  const known = browser.faults.length;
  const blocked = await tried.evaluate(async () => {
    const directives = [];
    document.addEventListener("securitypolicyviolation", ({ effectiveDirective }) => directives.push(effectiveDirective));
    document.body.append(Object.assign(document.createElement("script"), { textContent: "window.ran = true" }));
    document.body.append(Object.assign(document.createElement("img"), { src: "http://192.0.2.1/x.png" }));
    document.body.insertAdjacentHTML("beforeend", '<p style="color: red" onclick="alert(1)">');
    await fetch("http://192.0.2.1/").catch(() => {});
    try {
      new globalThis.WebSocket("ws://192.0.2.1/");
    } catch {
      // Some browsers throw.
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
    return { directives: directives.sort(), ran: "ran" in window };
  });
  browser.faults.length = known;
  assert.deepEqual(blocked, { directives: ["connect-src", "connect-src", "img-src", "script-src-attr", "script-src-elem", "style-src-attr"], ran: false });
  await tried.close();
});

test("the server dies and returns, and nothing is lost", async () => {
  let [alice, bob] = [await browser.page(), await browser.page()];
  const context = alice.context();
  await enter(alice, "alice", "death");
  await enter(bob, "bob", "death");
  await server.kill();
  await alice.getByText("Trying again").waitFor();
  await say(alice, "said into the void");
  await ticked(alice, "said into the void", "Sending");
  const kept = () => library(alice, async ({ IndexedDbStorage }) => {
    const [{ node }] = JSON.parse(localStorage.getItem("chat/people"));
    return [...(await new IndexedDbStorage(`sparkmesh-${node}`).load()).keys()].some((key) => key.startsWith("out/"));
  });
  await until("it is on the disk", kept);
  await alice.close();
  await server.run();
  alice = await browser.tab(context);
  await alice.goto(server.url);
  await alice.getByRole("button", { name: "alice in #death" }).click();
  await heard(bob, "said into the void");
  await ticked(alice, "said into the void", /Delivered to all|Kept for who is away/);
});

test("two people on two servers of a mesh: one is killed, and both go on", async () => {
  const mesh = await Mesh.start(2, "--dev");
  const [here, there] = mesh.servers;
  for (const { url } of mesh.servers) browser.hosts.add(new URL(url).host);
  try {
    const [alice, bob] = [await browser.page(), await browser.page()];
    // Each at the server that gave the page; where somebody is sent, the servers decide.
    for (const [page, name, { url }, id] of /** @type {const} */ ([[alice, "alice", here, "s1"], [bob, "bob", there, "s2"]])) {
      for (let tries = 0; ; tries++) {
        assert.ok(tries < 10, `${name} is never sent to ${id}`);
        await enter(page, name, "bridge", { url });
        if ((await serverOf(page)) === id) break;
        await page.getByRole("button", { name: "Leave" }).click();
        await page.getByLabel("Your name").waitFor();
      }
    }
    await toOne(alice, "bob here").waitFor();
    await say(alice, "hello over there");
    await heard(bob, "hello over there");
    await ticked(alice, "hello over there", "Delivered to all");
    await say(bob, "hello back");
    await heard(alice, "hello back");

    // The one that alice's page, her connection and perhaps the room's records are from.
    await here.kill();
    await alice.getByText("Trying again").waitFor();
    await say(alice, "are you still there?");
    await alice.getByText("Connected to s2").waitFor();
    await heard(bob, "are you still there?");
    await ticked(alice, "are you still there?", /Delivered to all|Kept for who is away/);
    await toOne(bob, "alice here").waitFor();
    await say(bob, "I am, and you?");
    await heard(alice, "I am, and you?");
    await ticked(bob, "I am, and you?", "Delivered to all");
    await toOne(alice, "bob here").click();
    await say(alice, "they killed one of us");
    await heard(bob, "they killed one of us");
    await ticked(alice, "they killed one of us", "Delivered to all");
    assert.deepEqual(await people(alice), ["alice you", "bob here"]);
    assert.deepEqual(await people(bob), ["bob you", "alice here"]);
    await alice.keyboard.press("Escape");

    // It returns: her page is there again, with all that was said, and she where she was.
    await here.run();
    await alice.reload();
    await ready(alice);
    await say(alice, "all is well");
    await heard(bob, "all is well");
    const hers = ["hello over there", "hello back", "are you still there?", "I am, and you?", "they killed one of us", "all is well"];
    const by = (me, other) => hers.map((text) => `${/back|and you/.test(text) === (me === "bob") ? "You" : other}: ${text}`);
    assert.deepEqual(await conversation(alice), by("alice", "bob"));
    assert.deepEqual(await conversation(bob), by("bob", "alice"));
    await alice.context().close();
    await bob.context().close();
  } finally {
    await mesh.stop();
  }
});

/** In the page: the library that it has. */
const library = (/** @type {any} */ on, /** @type {any} */ work, argument = undefined) =>
  on.evaluate(`(async (argument) => {
    const sparkmesh = await import(new URL("./sparkmesh.js", location.href).href);
    const key = async (node_id) => (await (await fetch("/dev/key", { method: "POST", body: JSON.stringify({ node_id }) })).json()).key;
    return (${work})(sparkmesh, key, argument);
  })(${JSON.stringify(argument)})`);

test("the library in a browser: what is sent and heard outlives a reload in IndexedDB", async () => {
  const alone = await browser.page();
  await alone.goto(server.url);
  const change = (changes) => library(alone, async ({ IndexedDbStorage }, _, wanted) => {
    const storage = new IndexedDbStorage("sparkmesh-test");
    const found = Object.fromEntries(await storage.load());
    await storage.write(new Map(Object.entries(wanted)));
    await storage.close();
    return found;
  }, changes);
  assert.deepEqual(await change({ a: "1", b: "2" }), {});
  await alone.reload();
  assert.deepEqual(await change({ a: null, c: "3" }), { a: "1", b: "2" });
  assert.deepEqual(await change({}), { b: "2", c: "3" });

  // The default of a client in a page.
  const records = await library(alone, async ({ Sparkmesh, IndexedDbStorage }, key) => {
    const client = new Sparkmesh({ url: location.origin, key: () => key("idb-device") });
    const echo = new Promise((resolve) => client.on("message", resolve));
    await client.connect();
    await client.send({ dest_id: "idb-device", payload: "to myself", id: "idb-1" });
    await echo;
    await client.close();
    return [...(await new IndexedDbStorage("sparkmesh-idb-device").load()).values()];
  });
  assert.deepEqual(records, ["0 idb-device idb-1"]);
});

test("two tabs that are one device: one has the storage, and the other takes over what it left", async () => {
  const first = await browser.page();
  const second = await browser.tab(first.context());
  await Promise.all([first.goto(server.url), second.goto(server.url)]);
  // As a tab that was killed before its message was confirmed.
  await library(first, async ({ IndexedDbStorage }) => {
    const storage = new IndexedDbStorage("sparkmesh-two-tabs");
    await storage.claim();
    const left = { dest_id: "two-tabs", type: 1, payload: "left behind", id: "left-1", reference: "left-1" };
    await storage.write(new Map([["out/left-1", `0 ${JSON.stringify(left)}`]]));
    globalThis.kept = storage;
  });
  const fault = await library(second, async ({ Sparkmesh }, key) => {
    globalThis.got = [];
    const client = (globalThis.client = new Sparkmesh({ url: location.origin, key: () => key("two-tabs") }));
    client.on("message", ({ envelope }) => void globalThis.got.push(envelope.payload));
    const told = new Promise((resolve) => client.on("fault", ({ error }) => resolve(`${error.name}: ${error.message}`)));
    await client.connect();
    await client.send({ dest_id: "two-tabs", payload: "meanwhile", id: "own-1" });
    return told;
  });
  assert.match(fault, /StorageError: another page/);
  const got = () => second.evaluate(() => /** @type {any} */ (globalThis).got);
  await until("it works all the same", async () => (await got()).length === 1);
  await first.close();
  await until("what was left is sent", async () => (await got()).length === 2);
  assert.deepEqual(await got(), ["meanwhile", "left behind"]);
  const records = await library(second, async ({ IndexedDbStorage }) => {
    await globalThis.client.close();
    return [...(await new IndexedDbStorage("sparkmesh-two-tabs").load()).values()];
  });
  assert.deepEqual(records.sort(), ["0 two-tabs own-1", "1 two-tabs left-1"]);
});

test("fit for all in every state, light and dark, large and small", async () => {
  const options = { viewport: { width: 1000, height: 720 }, bypassCSP: true, timezoneId: "Europe/Lisbon", locale: "en-GB" };
  const [alice, bob, carol, fox] = await Promise.all([1, 2, 3, 4].map(() => browser.page(options)));
  await alice.goto(server.url);
  await assertFit(alice, "entrance");
  await alice.getByRole("button", { name: "Enter" }).click();
  await alice.getByText("Your name: please fill it in.").waitFor();
  await assertFit(alice, "entrance with a mistake");
  await enter(bob, "Bob", "trip");
  await enter(carol, "Carol", "trip");
  await enter(alice, "Alice", "trip");
  await enter(fox, "fox", "trip", { anonymous: true });
  /** One after the other, so that the pictures are always the same. */
  const all = [alice, bob, carol, fox];
  const tell = async (from, text) => {
    await say(from, text);
    for (const on of all) await heard(on, text);
  };
  await tell(bob, "The night train leaves at 21:40. Are we all set?");
  await tell(alice, "Almost! I still need a seat next to Carol, and somebody has to carry the tent.");
  await tell(carol, "Saved you one.");
  await tell(fox, "I am coming too. Guess who!");
  await assertFit(fox, "without a name");
  await carol.getByRole("button", { name: "Step away" }).click();
  await toOne(alice, "Carol away").waitFor();
  await assertFit(carol, "away");
  all.splice(2, 1);
  await tell(alice, "See you on platform 3 then.");
  await ticked(alice, "platform 3", "Kept for who is away");
  await assertFit(alice, "room");
  await toOne(alice, "Bob here").click();
  await say(alice, "Bob, do you know who that is?");
  await ticked(alice, "who that is?", "Delivered to all");
  await toOne(bob, "Alice here").click();
  await say(bob, "No idea, but I like the mask.");
  await heard(alice, "No idea, but I like the mask.");
  await assertFit(alice, "private", "chat");

  const context = carol.context();
  await carol.close();
  const entrance = await browser.tab(context);
  await entrance.goto(server.url);
  await entrance.getByRole("button", { name: "Carol in" }).waitFor();
  await assertFit(entrance, "entrance of somebody known", "entrance");

  await server.kill();
  await alice.getByText("Trying again").waitFor();
  await alice.locator("#text").fill("kept");
  await alice.keyboard.press("Enter");
  await ticked(alice, "kept", "Sending");
  await assertFit(alice, "without a connection");
  await server.run();
  await ticked(alice, "kept", /Delivered to all|Kept for who is away/);
});
