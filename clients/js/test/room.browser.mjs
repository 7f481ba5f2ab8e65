// The presence room in real browsers, whose people are at different servers of a mesh.
import assert from "node:assert/strict";
import { after, before, test as plain } from "node:test";
import WebSocket from "ws";
import { Sparkmesh } from "../dist/index.js";
import { Mesh, Pages, assertAccessible, assertFits, shoot } from "./lib/pages.mjs";
import { key } from "./lib/server.mjs";
import { until } from "./lib/wait.mjs";

/** All that were made: one that is left open keeps the process. @type {Sparkmesh[]} */
const devices = [];
/** @type {Mesh} */
let mesh;
/** @type {Pages} */
let pages;

/** @param {() => Promise<void>} body */
const test = (name, body) => plain(name, { timeout: 120_000 }, body);

before(async () => {
  // A page of one server opens its socket at another.
  [mesh, pages] = await Promise.all([Mesh.start(3, "--allow-origin", "*"), Pages.start()]);
  mesh.hosts.forEach((host) => pages.hosts.add(host));
});
after(async () => {
  await Promise.all(devices.map((one) => one.close()));
  await pages?.stop();
  await mesh?.stop();
});

/**
 * Somebody in a room, who came by the page of this server.
 * @param {import("playwright-core").Page | import("playwright-core").BrowserContextOptions} how a page that is there, or what it is to be like
 */
async function enter(name, room, number = 0, how = {}) {
  const page = "goto" in how ? how : await pages.open(undefined, how);
  await page.goto(`${mesh.servers[number].url}/room`);
  await page.getByLabel("Your name").fill(name);
  await page.getByLabel("Room", { exact: true }).fill(room);
  await page.keyboard.press("Enter");
  await page.locator("#floor:focus").waitFor();
  await page.getByRole("status").getByText(/Connected to s\d/).waitFor();
  return page;
}

/** Where somebody is connected. @param {import("playwright-core").Page} page */
const serverOf = (page) => page.evaluate(() => document.documentElement.dataset.server ?? "");

/**
 * As `enter`, with an offer of the server `ask.wanted`, as a load balancer before the mesh may give it: asked is `ask.at`, once more
 * where it offers another one.
 * @param {{at: number, wanted: string | undefined}} ask
 */
async function enterBy(name, room, ask) {
  const page = await pages.open(undefined);
  await page.route(/\/v1\/connect-info/, async (route) => {
    const url = new URL(route.request().url());
    url.host = mesh.hosts[ask.at];
    for (let tries = 0; ; tries++) {
      const response = await route.fetch({ url: url.href });
      const offer = response.ok() ? await response.json() : {};
      if (ask.wanted === undefined || offer.node_id === ask.wanted || tries === 20) return route.fulfill({ response });
    }
  });
  return enter(name, room, 0, page);
}

/** Where `name` is seen on a page, in pixels; undefined where not. @param {import("playwright-core").Page} page */
const seenAt = (page, name) => page.evaluate((wanted) => {
  const avatar = [...document.querySelectorAll(".avatar:not([hidden])")].find((one) => one.querySelector(".name")?.textContent === wanted);
  const place = /translate\(([\d.-]+)px, ([\d.-]+)px\)/.exec(/** @type {any} */ (avatar)?.style.transform ?? "");
  return place ? { x: Number(place[1]), y: Number(place[2]) } : undefined;
}, name);

/** All places where `name` is seen while `act` is done. @param {import("playwright-core").Page} page */
async function trail(page, name, act) {
  await page.evaluate((wanted) => {
    const places = /** @type {number[]} */ ([]);
    const avatar = [...document.querySelectorAll(".avatar")].find((one) => one.querySelector(".name")?.textContent === wanted);
    const observer = new MutationObserver(() => places.push(Number(/translate\(([\d.-]+)px/.exec(/** @type {any} */ (avatar).style.transform)?.[1])));
    observer.observe(/** @type {Node} */ (avatar), { attributes: true, attributeFilter: ["style"] });
    Object.assign(window, { trail: () => (observer.disconnect(), places) });
  }, name);
  await act();
  return page.evaluate(() => /** @type {any} */ (window).trail());
}

async function walk(page, code, ms) {
  await page.locator("#floor").focus();
  await page.keyboard.down(code);
  await page.waitForTimeout(ms);
  await page.keyboard.up(code);
}

/** Both see `name` in the same place. */
async function agree(one, other, name) {
  await until(`both see ${name} in one place`, async () => {
    const [a, b] = [await seenAt(one, name), await seenAt(other, name)];
    return a && b && Math.hypot(a.x - b.x, a.y - b.y) < 2;
  });
}

const line = (page, name) => page.locator("#list li", { hasText: name });

test("two at different servers see each other walk, step by step; who comes later sees all at once; one server dies and they go on", async () => {
  const ada = await enter("ada", "office", 0);
  const adas = await serverOf(ada);
  const name = "grace";
  const others = ["s2", "s3"].filter((server) => server !== adas);
  const ask = { at: 0, wanted: /** @type {string | undefined} */ (others[0]) };
  const grace = await enterBy(name, "office", ask);
  const of = await serverOf(grace);
  assert.equal(of, others[0], "they are at different servers");
  await line(ada, name).getByText(`at ${of}`).waitFor();
  await agree(ada, grace, name);

  const places = await trail(ada, name, async () => {
    await walk(grace, "ArrowRight", 700);
    await agree(ada, grace, name);
  });
  assert.ok(places.length >= 8 && places.at(-1) > places[0] + 60, `seen at ${places}`);
  assert.ok(places.every((x, index) => index === 0 || x >= places[index - 1] - 0.5), `back and forth: ${places}`);
  const largest = Math.max(...places.map((x, index) => (index === 0 ? 0 : x - places[index - 1])));
  assert.ok(largest < (places.at(-1) - places[0]) / 2, `no walk but a jump of ${largest}: ${places}`);
  for (const [page, other] of /** @type {const} */ ([[ada, name], [grace, "ada"]])) await line(page, other).getByText(/^\d+(\.\d)? ms$/).waitFor();

  // Nobody moves, and nobody is asked: less than the time after which all tell their places again.
  const linus = await enter("linus", "office", 2);
  await until("linus sees all", async () => (await seenAt(linus, "ada")) && (await seenAt(linus, name)), 2500);
  await agree(ada, linus, "ada");
  await agree(grace, linus, name);
  await shoot(ada, "room");

  const victim = mesh.numberOf(of);
  ask.wanted = undefined;
  await mesh.servers[victim].kill();
  await until("grace is elsewhere", async () => (await grace.getByRole("status").innerText()).startsWith("Connected") && (await serverOf(grace)) !== of);
  const before = await seenAt(grace, name);
  await walk(grace, "KeyS", 400);
  await until("grace has walked", async () => (await seenAt(grace, name)).y > before.y + 20);
  await agree(ada, grace, name);
  await agree(linus, grace, name);
  await walk(ada, "KeyA", 300);
  await agree(grace, ada, "ada");
  await mesh.servers[victim].run();
  await mesh.settled(3);
  await Promise.all([ada, grace, linus].map((page) => page.context().close()));
});

test("by pointer and by touch; a reload is the same person in the same place; who leaves is gone", async () => {
  const ada = await enter("ada", "touch", 0);
  const bob = await enter("bob", "touch", 1, { hasTouch: true, viewport: { width: 390, height: 800 } });
  const floor = await ada.locator("#world").boundingBox();
  await ada.mouse.click(floor.x + floor.width * 0.9, floor.y + floor.height * 0.85);
  await until("ada is in the kitchen", async () => (await line(bob, "ada").innerText()).includes("in the kitchen"));
  const small = await bob.locator("#world").boundingBox();
  await bob.touchscreen.tap(small.x + small.width * 0.1, small.y + small.height * 0.2);
  await until("bob is at the desks", async () => (await line(ada, "bob").innerText()).includes("at the desks"));
  await bob.reload();
  await bob.locator("#floor:focus").waitFor();
  await until("ada is seen again", () => seenAt(bob, "ada"), 3500);
  assert.match(await line(bob, "bob").innerText(), /at the desks/);
  assert.equal(await ada.locator("#list li").count(), 2);
  await bob.getByRole("button", { name: "Leave" }).click();
  await ada.getByRole("log").getByText("bob left").waitFor({ state: "attached" });
  await until("bob's avatar is gone", async () => (await seenAt(ada, "bob")) === undefined);
  await Promise.all([ada, bob].map((page) => page.context().close()));
});

test("what others say is text, and nonsense moves nobody", async () => {
  const ada = await enter("ada", "nasty", 0);
  const mallory = new Sparkmesh({ url: mesh.servers[1].url, key: key("mallory.x"), WebSocket: /** @type {any} */ (WebSocket) });
  devices.push(mallory);
  await mallory.connect();
  const session = await mallory.joinSession("office.nasty");
  const nasty = `<img src=x onerror="alert(1)">`;
  session.fast({ x: 500, y: 300, server: nasty });
  await line(ada, "mallory").getByText(`in the open, at ${nasty}`).waitFor();
  assert.equal(await ada.locator("#office img").count(), 0);
  const place = await seenAt(ada, "mallory");
  for (const payload of [{ x: nasty, y: 1 }, { x: null, y: 5 }, 7, "x", [1, 2], { pong: -1e300 }, { ping: "x" }, null]) session.fast(payload);
  session.fast({ x: 1e308, y: -1e308 });
  const { width } = await ada.locator("#world").boundingBox();
  await until("she stands at the wall", async () => (await seenAt(ada, "mallory")).x > width * 0.9);
  assert.ok(place && (await seenAt(ada, "mallory")).x < width);
  await mallory.close();
  await ada.context().close();
});

test("fit for all: no fault that axe finds, in light and dark, large and small", async () => {
  for (const [colorScheme, viewport] of /** @type {const} */ ([["light", { width: 1200, height: 760 }], ["dark", { width: 390, height: 800 }]])) {
    const options = { colorScheme, viewport, bypassCSP: true };
    const where = `${colorScheme}-${viewport.width}`;
    const entrance = await pages.open(`${mesh.servers[0].url}/room`, options);
    await entrance.getByRole("button", { name: "Enter" }).click();
    await entrance.getByText("Your name: please fill it in.").waitFor();
    await assertAccessible(entrance, `entrance ${where}`);
    await entrance.context().close();
    const ada = await enter("ada", `fit-${where}`, 0, options);
    const bob = await enter("bob", `fit-${where}`, 1);
    await until("bob is seen", () => seenAt(ada, "bob"));
    await line(ada, "bob").getByText(/ms$/).waitFor();
    await assertAccessible(ada, `room ${where}`);
    await assertFits(ada, `room ${where}`);
    await shoot(ada, `room-${where}`);
    await Promise.all([ada, bob].map((page) => page.context().close()));
  }
  assert.deepEqual(pages.faults, []);
});
