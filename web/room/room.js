// The room: everybody walks, and sees the others walk, wherever they are connected.
//
// Where one is, is told with FAST envelopes of one collapse key, up to sixty times a second: of those that still wait on their
// way to somebody, the server keeps the newest alone. Who comes in is told by all others at once where they are, unasked.
import { RefusedError, Sparkmesh, WebStorage } from "/sparkmesh.js";
import { CORNERS, SIZE, cornerOf, follow, hueOf, inside, placeIn, step } from "/room/walk.js";

const $ = (id) => document.getElementById(id);
/** One's place is told again so often while one stands, should it have been lost. */
const AGAIN_MS = 4000;
/** Between two questions about how long a message takes, each to another person. */
const ASK_MS = 500;
/** Newcomers are told after a moment, at most so many by themselves: more are told all at once. */
const [GREET_MS, GREET_MOST] = [120, 4];

const memory = {
  read: (key) => JSON.parse(sessionStorage.getItem(`room/${key}`) ?? "null"),
  write: (key, value) => sessionStorage.setItem(`room/${key}`, JSON.stringify(value)),
};

/**
 * @typedef {object} Person
 * @property {string} node
 * @property {boolean} online
 * @property {{x: number, y: number} | undefined} told Where they said that they are.
 * @property {{x: number, y: number} | undefined} shown Where they are seen, on their way there.
 * @property {string} server At which server they are connected, as they say.
 * @property {number | undefined} latency There and back, in milliseconds.
 * @property {HTMLElement} avatar
 * @property {HTMLElement} line
 */

/** @type {{client: any, session: any, who: any, people: Map<string, Person>, at: {x: number, y: number}, server: string}} */
const room = { client: undefined, session: undefined, who: undefined, people: new Map(), at: { x: 500, y: 300 }, server: "" };

const nameOf = (node) => (node.includes(".") ? node.slice(0, node.lastIndexOf(".")) : node);

function say(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// ---- People --------------------------------------------------------------------------------------------------------

/** @returns {Person} */
function person(node) {
  const known = room.people.get(node);
  if (known) return known;
  const avatar = element("div", "avatar");
  avatar.setAttribute("aria-hidden", "true");
  avatar.style.setProperty("--hue", String(hueOf(node)));
  avatar.append(element("span", "face", nameOf(node).slice(0, 2)), element("span", "name", nameOf(node)));
  const line = element("li");
  line.append(element("span", "dot"), element("span", "who"), element("span", "where"), element("span", "latency"));
  line.style.setProperty("--hue", String(hueOf(node)));
  const made = { node, online: true, told: undefined, shown: undefined, server: "", latency: undefined, avatar, line };
  room.people.set(node, made);
  $("world").append(avatar);
  $("list").append(line);
  return made;
}

function forget(node) {
  const gone = room.people.get(node);
  gone?.avatar.remove();
  gone?.line.remove();
  room.people.delete(node);
}

/** In the list, a few times a second: who, where, how far away. */
function list() {
  const rank = (one) => (one.node === room.session.me ? 0 : one.online ? 1 : 2);
  const sorted = [...room.people.values()].sort((a, b) => rank(a) - rank(b) || a.node.localeCompare(b.node));
  sorted.forEach(({ line }, index) => {
    const there = $("list").children[index];
    if (there !== line) $("list").insertBefore(line, there);
  });
  for (const one of sorted) {
    const mine = one.node === room.session.me;
    one.line.classList.toggle("online", one.online);
    one.avatar.classList.toggle("mine", mine);
    one.avatar.hidden = !one.online || !one.shown;
    const [, who, where, latency] = one.line.children;
    say(who, mine ? `${nameOf(one.node)} (you)` : nameOf(one.node));
    say(where, one.online ? `${cornerOf(one.told)}${one.server ? `, at ${one.server}` : ""}` : "away");
    say(latency, mine || !one.online ? "" : one.latency === undefined ? "…" : `${one.latency < 10 ? one.latency.toFixed(1) : Math.round(one.latency)} ms`);
    latency.title = mine ? "" : "A message there and back";
  }
}

// ---- What is told and heard ----------------------------------------------------------------------------------------

const rounded = ({ x, y }) => ({ x: Math.round(x * 10) / 10, y: Math.round(y * 10) / 10 });

/** To all, or to one. */
function tellPlace(node) {
  const fields = { collapse_key: "at", ...(node && { dest_id: node }) };
  return room.session.fast({ ...rounded(room.at), ...(room.server && { server: room.server }) }, fields);
}

let newcomers = new Set();
let greeting = 0;
/** Somebody has come: they are told where one is, not all at the same moment. */
function greet(node) {
  newcomers.add(node);
  greeting ||= setTimeout(() => {
    greeting = 0;
    const some = newcomers.size > GREET_MOST ? [undefined] : [...newcomers];
    newcomers = new Set();
    some.forEach(tellPlace);
  }, GREET_MS * (0.5 + Math.random()));
}

function heard({ src_id, payload }) {
  if (src_id === room.session.me || !payload || typeof payload !== "object") return;
  if (Number.isFinite(payload.ping)) {
    room.session.fast({ pong: payload.ping }, { dest_id: src_id });
    return;
  }
  const one = person(src_id);
  if (Number.isFinite(payload.pong)) {
    const took = performance.now() - payload.pong;
    if (took >= 0 && took < 60_000) one.latency = one.latency === undefined ? took : one.latency * 0.6 + took * 0.4;
    return;
  }
  const place = placeIn(payload);
  if (!place) return;
  one.online = true;
  one.told = place;
  one.shown ??= { ...place };
  if (typeof payload.server === "string") one.server = payload.server.slice(0, 64);
}

let turn = 0;
/** One after the other is asked how long a message takes: the more there are, the less often each. */
function askLatency() {
  const others = [...room.people.values()].filter((one) => one.online && one.node !== room.session.me);
  if (others.length === 0) return;
  const one = others[turn++ % others.length];
  room.session.fast({ ping: performance.now() }, { dest_id: one.node });
}

async function askForPeople() {
  try {
    const members = await room.session.presence();
    for (const { node_id, online } of members) person(node_id).online = online || node_id === room.session.me;
    for (const node of room.people.keys()) if (!members.some(({ node_id }) => node_id === node)) forget(node);
    list();
  } catch {
    // The next connection asks again.
  }
}

function listen(client, session) {
  session.on("message", ({ envelope }) => heard(envelope));
  session.on("joined", ({ node }) => {
    if (node === session.me) return;
    person(node).online = true;
    say($("news"), `${nameOf(node)} came in`);
    greet(node);
  });
  session.on("online", ({ node }) => {
    person(node).online = true;
    greet(node);
  });
  session.on("offline", ({ node }) => {
    if (room.people.has(node)) person(node).online = false;
  });
  session.on("left", ({ node }) => {
    say($("news"), `${nameOf(node)} left`);
    forget(node);
  });
  client.on("connected", ({ offer }) => {
    room.server = offer.node_id;
    document.documentElement.dataset.server = offer.node_id;
    say($("status"), `Connected to ${offer.node_id}`);
    if (!session.me) return;
    person(session.me).server = room.server;
    void askForPeople();
    tellPlace();
  });
  client.on("disconnected", ({ error, retryInMs }) => say($("status"), `${error.message}. Trying again in ${Math.ceil(retryInMs / 1000)} s.`));
  client.on("goingaway", () => say($("status"), "The server is going away; looking for another."));
  client.on("closed", ({ error }) => error && say($("status"), `Disconnected: ${error.message}`));
  client.on("fault", ({ error }) => say($("status"), String(error?.message ?? error)));
}

// ---- Walking -------------------------------------------------------------------------------------------------------

const KEYS = { ArrowLeft: [-1, 0], KeyA: [-1, 0], ArrowRight: [1, 0], KeyD: [1, 0], ArrowUp: [0, -1], KeyW: [0, -1], ArrowDown: [0, 1], KeyS: [0, 1] };
const held = new Set();
/** @type {{x: number, y: number} | undefined} */
let goal;

$("floor").addEventListener("keydown", (event) => {
  if (!(event.code in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  held.add(event.code);
  goal = undefined;
});
addEventListener("keyup", (event) => held.delete(event.code));
for (const end of ["blur", "visibilitychange"]) addEventListener(end, () => held.clear());
$("floor").addEventListener("blur", () => held.clear());

function point(event) {
  const { left, top, width, height } = $("world").getBoundingClientRect();
  goal = inside({ x: ((event.clientX - left) / width) * SIZE.width, y: ((event.clientY - top) / height) * SIZE.height });
}
$("floor").addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  $("floor").setPointerCapture(event.pointerId);
  point(event);
});
$("floor").addEventListener("pointermove", (event) => {
  if ($("floor").hasPointerCapture(event.pointerId)) point(event);
});

let [before, toldAt] = [0, 0];
function frame(now) {
  const ms = now - before;
  before = now;
  const direction = { x: 0, y: 0 };
  for (const code of held) {
    direction.x += KEYS[code][0];
    direction.y += KEYS[code][1];
  }
  const at = step(room.at, { x: Math.sign(direction.x), y: Math.sign(direction.y) }, goal, ms);
  const moved = at.x !== room.at.x || at.y !== room.at.y;
  room.at = at;
  if (goal && Math.hypot(goal.x - at.x, goal.y - at.y) < 1) goal = undefined;
  // A screen may show more than sixty pictures a second; nobody needs to be told that often.
  if ((moved && now - toldAt >= 15) || now - toldAt > AGAIN_MS) {
    if (tellPlace()) toldAt = now;
    if (moved) memory.write("at", rounded(at));
  }
  const me = person(room.session.me);
  [me.told, me.shown, me.server] = [at, at, room.server];
  for (const one of room.people.values()) {
    if (!one.told || !one.shown) continue;
    if (one !== me) one.shown = follow(one.shown, one.told, ms);
    one.avatar.style.transform = `translate(${((one.shown.x / SIZE.width) * world.width).toFixed(1)}px, ${((one.shown.y / SIZE.height) * world.height).toFixed(1)}px)`;
  }
  requestAnimationFrame(frame);
}

const world = { width: 1, height: 1 };
new ResizeObserver(([entry]) => Object.assign(world, { width: entry.contentRect.width, height: entry.contentRect.height })).observe($("world"));

function furnish() {
  for (const { title, x, y, width, height } of CORNERS) {
    const corner = element("div", "corner", title);
    corner.setAttribute("aria-hidden", "true");
    const share = (value, whole) => `${(value / whole) * 100}%`;
    Object.assign(corner.style, { left: share(x, SIZE.width), top: share(y, SIZE.height), width: share(width, SIZE.width), height: share(height, SIZE.height) });
    $("world").append(corner);
  }
}

// ---- Coming and going ----------------------------------------------------------------------------------------------

async function getKey(who, signal) {
  const body = JSON.stringify({ node_id: who.node, client_id: who.name });
  const answer = await fetch("/dev/key", { method: "POST", headers: { "content-type": "application/json" }, body, signal });
  if (answer.status === 404) throw new Error("this server gives no keys: the room is for `sparkmesh serve --dev`");
  if (!answer.ok) throw new Error(`the server gave no key (HTTP status ${answer.status})`);
  return (await answer.json()).key;
}

/** Joins the room; the first to come makes it. */
async function joined(client, id) {
  for (let tries = 0; ; tries++) {
    try {
      return await client.joinSession(id);
    } catch (error) {
      if (!(error instanceof RefusedError) || error.code !== "not_found" || tries > 2) throw error;
    }
    try {
      return (await client.createSession({ session_id: id, anyone_can_join: true, presence: true })).session;
    } catch (error) {
      // Somebody else was a moment faster.
      if (error.code !== "conflict") throw error;
    }
  }
}

async function enter(who) {
  say($("status"), "Connecting …");
  const client = new Sparkmesh({
    url: location.origin,
    key: ({ signal }) => getKey(who, signal),
    storage: new WebStorage("sparkmesh-room", sessionStorage),
    backoff: { first: 300, longest: 5000 },
  });
  const session = client.session(`office.${who.room}`);
  Object.assign(room, { client, session, who });
  room.at = placeIn(memory.read("at")) ?? inside({ x: 350 + Math.random() * 300, y: 250 + Math.random() * 150 });
  listen(client, session);
  try {
    // The key first: without one there is nothing to wait for.
    await getKey(who, AbortSignal.timeout(10_000));
    await client.connect({ signal: AbortSignal.timeout(20_000) });
    await joined(client, session.id);
    await session.info();
  } catch (error) {
    await client.close();
    throw error;
  }
  memory.write("who", who);
  $("entrance").hidden = true;
  $("office").hidden = $("leave").hidden = false;
  say($("place"), who.room);
  document.title = `${who.room} – sparkmesh room`;
  person(session.me);
  await askForPeople();
  tellPlace();
  setInterval(askLatency, ASK_MS);
  setInterval(list, 200);
  requestAnimationFrame((now) => {
    before = now;
    frame(now);
  });
  $("floor").focus();
}

/** A tab that was duplicated has the memory of the other one, and must become somebody else. */
async function isOwn(node) {
  if (!navigator.locks) return true;
  return new Promise((resolve) => {
    const options = { signal: AbortSignal.timeout(1500) };
    navigator.locks.request(`sparkmesh/${node}`, options, () => (resolve(true), new Promise(() => {}))).catch(() => resolve(false));
  });
}

function forgetAll() {
  for (const key of Object.keys(sessionStorage)) if (key.startsWith("room/") || key.startsWith("sparkmesh-room")) sessionStorage.removeItem(key);
}

$("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  const wrong = [$("name"), $("room")].find((field) => !field.validity.valid);
  $("problem").textContent = "";
  if (wrong) {
    $("problem").textContent = `${wrong.labels[0].textContent}: ${wrong.value ? "only letters, digits, _ and -, please." : "please fill it in."}`;
    return wrong.focus();
  }
  const button = event.target.querySelector("button");
  button.disabled = true;
  try {
    forgetAll();
    const random = [...crypto.getRandomValues(new Uint8Array(4))].map((byte) => byte.toString(36).padStart(2, "0")).join("");
    const who = { name: $("name").value, room: $("room").value, node: `${$("name").value}.${random}` };
    await isOwn(who.node);
    await enter(who);
  } catch (error) {
    say($("status"), "");
    $("problem").textContent = `That did not work: ${error.message}`;
  } finally {
    button.disabled = false;
  }
});

$("leave").addEventListener("click", async () => {
  await room.session.leave({ signal: AbortSignal.timeout(5000) }).catch(() => {});
  await room.client.close();
  forgetAll();
  location.reload();
});

furnish();
const was = memory.read("who");
if (was && (await isOwn(was.node))) {
  $("name").value = was.name;
  $("room").value = was.room;
  await enter(was).catch((error) => ($("problem").textContent = `That did not work: ${error.message}`));
} else {
  if (was) forgetAll();
  $("name").focus();
}
