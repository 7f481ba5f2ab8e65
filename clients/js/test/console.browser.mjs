// The console in a real browser, over a mesh of three servers, of which some die and return.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { dirname } from "node:path";
import { after, before, test as plain } from "node:test";
import { promisify } from "node:util";
import WebSocket from "ws";
import { Sparkmesh } from "../dist/index.js";
import { Mesh, Pages, assertAccessible, assertFits, shoot } from "./lib/pages.mjs";
import { BINARY, key } from "./lib/server.mjs";
import { synthetic } from "./lib/synthetic.mjs";
import { until } from "./lib/wait.mjs";

/** @type {Mesh} */
let mesh;
/** @type {Pages} */
let pages;

/** @param {() => Promise<void>} body */
const test = (name, body) => plain(name, { timeout: 120_000 }, body);

before(async () => {
  [mesh, pages] = await Promise.all([Mesh.start(3), Pages.start()]);
  mesh.hosts.forEach((host) => pages.hosts.add(host));
});
after(async () => {
  await Promise.all(devices.map((one) => one.close()));
  await pages?.stop();
  await mesh?.stop();
});

const url = (number = 0) => `${mesh.servers[number].url}/console`;

/** Signed in, with the picture there. */
async function signedIn(options = {}, number = 0) {
  const page = await pages.open(`${url(number)}#key=${mesh.admin}`, options);
  await circle(page, "s1").waitFor();
  await page.locator("#summary").waitFor();
  return page;
}

/** @param {import("playwright-core").Page} page */
const circle = (page, name, words = "") => page.getByRole("button", { name: new RegExp(`^Server ${name}: ${words}`) });

/** All that were made: one that is left open keeps the process. @type {Sparkmesh[]} */
const devices = [];

/** A device of the client library. @param {Partial<import("../dist/index.js").ClientOptions>} [options] */
async function device(node, number = 0, options = {}) {
  const made = new Sparkmesh({ url: mesh.servers[number].url, key: key(node), WebSocket: /** @type {any} */ (WebSocket), ...options });
  devices.push(made);
  made.on("message", () => {});
  await made.connect();
  return made;
}

async function findMessage(page, sender, id, recipient = "") {
  await page.getByLabel("Message of").fill(sender);
  await page.getByLabel("with id").fill(id);
  await page.getByLabel("to", { exact: true }).fill(recipient);
  await page.locator("#find-message").getByRole("button", { name: "Find" }).click();
  await page.locator("#found").getByText(/^As of/).waitFor();
  return page.locator("#found");
}

/** Looks until it says so. */
async function foundAt(page, words, sender, id) {
  await until(`the console says ${words}`, async () => words.test((await (await findMessage(page, sender, id)).innerText()).replaceAll("\n", " ")));
}

test("who has no key sees nothing; a key stays in the tab, out of the address, and in no request's address", async () => {
  const asked = [];
  const page = await pages.open(undefined);
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(url());
  const field = page.getByLabel("Key");
  await field.waitFor();
  assert.equal(await page.locator("#mesh").isVisible(), false);
  await field.fill("no.such.key");
  await page.getByRole("button", { name: "Show the mesh" }).click();
  await page.getByRole("alert").getByText(/key/i).waitFor();
  await field.fill(key("somebody"));
  await page.getByRole("button", { name: "Show the mesh" }).click();
  await page.getByRole("alert").getByText(/admin/i).waitFor();
  await field.fill(mesh.admin);
  await page.keyboard.press("Enter");
  await circle(page, "s1").waitFor();
  await page.reload();
  await circle(page, "s2").waitFor();
  await page.goto(`${url()}#key=${mesh.admin}`);
  await circle(page, "s2").waitFor();
  assert.equal(new URL(page.url()).hash, "");
  assert.ok(asked.length > 8 && asked.every((one) => !one.includes(mesh.admin.slice(-20))), "the key is in an address");
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.reload();
  await field.waitFor();
  const other = await pages.open(url());
  await other.getByLabel("Key").waitFor();
  await Promise.all([page, other].map((one) => one.context().close()));
});

test("--dev prints a link with a key that works", async () => {
  const link = /console: (\S+)/.exec(mesh.servers[0].log)?.[1];
  assert.ok(link?.startsWith(`${url()}#key=`), mesh.servers[0].log);
  const page = await pages.open(link);
  await circle(page, "s3", "serves").waitFor();
  await page.context().close();
});

test("each server has its figures, told by the one that is asked", async () => {
  const page = await signedIn({}, 1);
  for (const name of ["s1", "s2", "s3"]) {
    await circle(page, name).click();
    await page.getByRole("heading", { name, exact: true }).waitFor();
    const value = (chart) => page.locator(".chart", { hasText: chart }).locator(".now");
    await until(`${name} tells its memory and its processor time`, async () => /MB/.test(await value("Memory").innerText()) && /%/.test(await value("Processor").innerText()));
    await page.getByRole("img", { name: /^Messages\/s: now in \d/ }).waitFor();
    await page.getByRole("rowheader", { name: name === "s1" ? "s2" : "s1" }).first().waitFor();
  }
  await page.getByRole("button", { name: "Close" }).click();
  assert.equal(await page.locator("#panel").isVisible(), false);
  await page.context().close();
});

test("a device is found: where it is, what waits, and where that is; the command says the same", async () => {
  const page = await signedIn();
  const bob = await device("bob");
  await page.getByLabel("Device", { exact: true }).fill("bob");
  await page.keyboard.press("Enter");
  const found = page.locator("#found");
  await found.getByText(/^bob is connected at s\d\.$/).waitFor();
  await found.getByText(/^0 waiting, at s\d$/).waitFor();
  assert.equal(await page.locator(".server.marked").count() > 0, true);
  await found.getByText("The same from a shell").click();
  const [command, curl] = await found.locator(".command code").allInnerTexts();
  const run = async (line) => (await promisify(execFile)("sh", ["-c", line], { env: { ...process.env, PATH: `${dirname(BINARY)}:${process.env.PATH}`, SPARKMESH_KEY: mesh.admin } })).stdout;
  assert.match(await run(command), /^bob: 0 waiting in the inbox at s\d\nCONNECTED AT/);
  if (await run("command -v curl || true")) assert.equal(JSON.parse(await run(`${curl.replace(/^curl/, "curl -s")}`)).node_id, "bob");

  await bob.close();
  await until("bob is gone", async () => {
    await found.getByRole("button", { name: "Look again" }).click();
    return found.getByText("bob is not connected.").isVisible();
  });
  await page.getByLabel("Device", { exact: true }).fill("nobody-ever");
  await page.keyboard.press("Enter");
  await page.getByText("nobody has ever been here as nobody-ever").waitFor();
  await page.context().close();
});

test("a message is followed: written and not acknowledged, delivered, in an inbox, forgotten; its id is text", async () => {
  const page = await signedIn();
  const nasty = `<img src=x onerror="alert(1)">'$(id)`;
  const [alice, bob] = [await device("alice"), await device("bob")];
  assert.equal((await alice.send({ dest_id: "bob", payload: 1, id: nasty })).status.length > 0, true);
  await foundAt(page, /was delivered for bob/, "alice", nasty);
  assert.equal(await page.locator("#found img").count(), 0);
  await page.locator("#found").getByText(`Message ${nasty} of alice:`).waitFor();

  // One that takes, and does not say so.
  const offer = await (await fetch(`${mesh.servers[1].url}/v1/connect-info`, { headers: { authorization: `Bearer ${key("mute")}` } })).json();
  const mute = new WebSocket(`${offer.ws_url}?auth_key=${key("mute")}&validation_key=${offer.validation_key}&ack=app&inbox=auto`);
  const taken = new Promise((resolve) => mute.on("message", (data) => String(data).includes('"m-mute"') && resolve(undefined)));
  await new Promise((resolve) => mute.once("open", resolve));
  void alice.send({ dest_id: "mute", payload: 1, id: "m-mute" }).catch(() => {});
  await taken;
  await foundAt(page, new RegExp(`was written to the connection at ${offer.node_id} for mute, and is not acknowledged yet`), "alice", "m-mute");
  if (!(await page.locator("#found").getByText(/answers for it/).isVisible())) throw new Error("nobody answers for it");
  mute.send(JSON.stringify({ type: -6, src_id: "alice", id: "m-mute" }));
  await foundAt(page, /was delivered for mute/, "alice", "m-mute");
  mute.close();

  await bob.close();
  await until("it is stored", async () => (await alice.send({ dest_id: "bob", payload: 2, id: "m-away" })).status === "stored");
  await foundAt(page, /is on disk at s\d, in the inbox for bob, place \d+/, "alice", "m-away");
  await foundAt(page, /No server knows of message m-never of alice any more: it was confirmed and forgotten, or it was never here/, "alice", "m-never");
  await alice.close();
  await page.context().close();
});

test("a server dies: it is seen, and what is held for it; it returns: that is seen too, and the mail is there", async () => {
  const page = await signedIn();
  const homes = await Promise.all(Array.from({ length: 12 }, async (_, number) => {
    const node = `sleeper-${number}`;
    await (await device(node)).close();
    return { node, home: (await mesh.ask(0, `/v1/nodes/${node}/edges`)).home };
  }));
  const sleeper = homes.find(({ home }) => home === "s3")?.node;
  assert.ok(sleeper, "of twelve devices one is at home at s3");
  await mesh.servers[2].kill();
  await circle(page, "s3", "not there").waitFor();
  await page.getByText("servers, 1 gone").waitFor();
  await page.locator("#servers").getByText("not there").waitFor();
  await shoot(page, "console-death");
  await mesh.settled(2, [0, 1]);
  const alice = await device("alice");
  await until("it is held", async () => (await alice.send({ dest_id: sleeper, payload: 1, id: "m-held" })).status === "stored");
  await foundAt(page, /is held on disk at s\d for sleeper-\d+, until the inbox's home can be reached/, "alice", "m-held");
  await mesh.servers[2].run();
  await circle(page, "s3", "serves").waitFor();
  await foundAt(page, /is on disk at s3, in the inbox for sleeper-\d+/, "alice", "m-held");
  await alice.close();
  await mesh.settled(3);
  await page.context().close();
});

test("a server is drained from the console of another one, after a question", async () => {
  const page = await signedIn();
  await circle(page, "s2").click();
  await page.getByRole("button", { name: "Drain …" }).click();
  await page.getByRole("dialog").getByText("Drain s2?").waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await page.getByRole("dialog").isVisible(), false);
  await circle(page, "s2", "serves").waitFor();
  await page.getByRole("button", { name: "Drain …" }).click();
  await page.getByRole("button", { name: "Drain it" }).click();
  await circle(page, "s2", "not there").waitFor();
  assert.equal(await mesh.servers[1].ended(), 0, "it has ended well");
  await mesh.servers[1].run();
  await circle(page, "s2", "serves").waitFor();
  await mesh.settled(3);
  await page.context().close();
});

test("the server that is asked dies: the picture stays, and says that it is old", async () => {
  const page = await signedIn();
  await mesh.servers[0].kill();
  await page.getByRole("status").getByText(/cannot be reached\. Trying again; this is how it was\./).waitFor();
  await circle(page, "s2", "serves").waitFor();
  await mesh.servers[0].run();
  await page.getByText("As s1 sees it").waitFor();
  await page.context().close();
});

/** A page whose mesh is made up. @param {any} made @param {import("playwright-core").BrowserContextOptions} options */
async function ofMadeUp(made, options = {}) {
  const page = await pages.open(undefined, options);
  await page.route(/\/v1\/mesh(\?|$)/, (route) => route.fulfill({ json: made.mesh }));
  await page.route(/\/v1\/mesh\/history/, (route) => route.fulfill({ json: made.history(new URL(route.request().url()).searchParams) }));
  await page.goto(`${url()}#key=x`);
  await circle(page, "s1").waitFor();
  return page;
}

test("fifty servers: each has a place of its own that stays, and can be chosen by keyboard", async () => {
  for (const shape of /** @type {const} */ (["full", "web"])) {
    const page = await ofMadeUp(synthetic(50, shape), { viewport: { width: 1400, height: 900 } });
    const places = () => page.locator(".server").evaluateAll((all) => all.map((one) => one.getAttribute("transform")));
    const first = await places();
    assert.deepEqual([first.length, new Set(first).size], [50, 50]);
    await shoot(page, `console-50-${shape}`);
    const [refreshed] = await Promise.all([page.waitForResponse(/history/), page.waitForTimeout(100)]);
    await refreshed.finished();
    assert.deepEqual(await places(), first);
    await circle(page, "s7").focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "s7", exact: true }).waitFor();
    assert.equal(await page.locator("#servers tbody tr").count(), 50);
    await page.getByRole("img", { name: /^Memory: now \d/ }).waitFor();
    await shoot(page, `console-50-${shape}-chosen`);
    await page.context().close();
  }
});

test("what servers are called is text", async () => {
  const made = synthetic(6, "full");
  const nasty = `<img src=x onerror="alert(1)">`;
  const renamed = JSON.parse(JSON.stringify(made.mesh).replaceAll('"s2"', JSON.stringify(nasty)));
  renamed.servers[1].addr = renamed.servers[1].region = "<b>bold</b>";
  const page = await ofMadeUp({ ...made, mesh: renamed });
  await page.getByRole("button", { name: `Server ${nasty}: serves` }).click();
  await page.getByRole("heading", { name: nasty }).waitFor();
  await page.getByText("<b>bold</b>:8080").waitFor();
  assert.equal(await page.locator("img, #mesh b").count(), 0);
  await page.context().close();
});

test("fit for all, in light and dark, large and small: no fault that axe finds in any state", async () => {
  const [alice, bob] = [await device("alice"), await device("bob")];
  await alice.send({ dest_id: "bob", payload: 1, id: "m-axe" });
  for (const [colorScheme, viewport] of /** @type {const} */ ([["light", { width: 1280, height: 800 }], ["dark", { width: 390, height: 800 }]])) {
    const options = { colorScheme, viewport, bypassCSP: true, reducedMotion: /** @type {const} */ ("reduce") };
    const where = `${colorScheme}-${viewport.width}`;
    const entrance = await pages.open(url(), options);
    await entrance.getByLabel("Key").waitFor();
    await assertAccessible(entrance, `entrance ${where}`);
    await entrance.context().close();

    const page = await signedIn(options);
    await circle(page, "s2").click();
    await page.locator("#panel").getByText("The same from a shell").click();
    await foundAt(page, /bob/, "alice", "m-axe");
    await assertAccessible(page, `mesh ${where}`);
    await assertFits(page, `mesh ${where}`);
    await page.getByRole("button", { name: "Drain …" }).click();
    await assertAccessible(page, `question ${where}`);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Close" }).first().click();
    await shoot(page, `console-${where}`);
    await page.context().close();

    const many = await ofMadeUp(synthetic(50, "web"), options);
    await circle(many, "s49").click();
    await assertAccessible(many, `fifty ${where}`);
    await assertFits(many, `fifty ${where}`);
    await many.context().close();
  }
  await Promise.all([alice.close(), bob.close()]);
});

test("no page has asked another host, broken its policy, or failed", async () => {
  assert.deepEqual(pages.faults, []);
});
