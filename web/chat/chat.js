// The chat: one room, the people in it, and what they say. Each tab is a device of its own, also after a reload.
import { RefusedError, Sparkmesh, WebStorage } from "./sparkmesh.js";

const $ = (id) => document.getElementById(id);
/** What is kept of a conversation, for a reload. */
const KEPT = 200;

/** @typedef {{id: string, kind: "message" | "notice", from?: string, mine?: boolean, to?: string, text: string, at: number, state?: string, title?: string}} Item */

// What this tab remembers: who it is, and what was said.
const memory = {
  read: (key) => JSON.parse(sessionStorage.getItem(`chat/${key}`) ?? "null"),
  write: (key, value) => sessionStorage.setItem(`chat/${key}`, JSON.stringify(value)),
};

/** A node id is a name and a random part; people see the name. */
function nameOf(node) {
  if (node.startsWith("anonymous_")) return `Somebody ${node.slice(10, 14)}`;
  const dot = node.lastIndexOf(".");
  const name = dot > 0 ? node.slice(0, dot) : node;
  const namesakes = [...room.members.keys()].filter((other) => other !== node && other.startsWith(`${name}.`));
  return namesakes.length > 0 ? `${name} (${node.slice(dot + 1)})` : name;
}

/** @type {{client: any, session: any, who: any, members: Map<string, boolean>, items: Item[], steppedAway: boolean}} */
const room = { client: undefined, session: undefined, who: undefined, members: new Map(), items: [], steppedAway: false };

// ---- What is shown -------------------------------------------------------------------------------------------------

function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const TICKS = {
  sending: ["…", "Sending"],
  delivered: ["✓✓", "Delivered to all"],
  stored: ["✓", "Kept for who is away"],
  alone: ["✓", "Nobody else is in this room"],
  dropped: ["!", "Reached nobody"],
  failed: ["!", "Not sent"],
};

/** @param {Item} item */
function draw(item) {
  const line = element("div", item.kind);
  line.dataset.id = item.id;
  if (item.kind === "notice") {
    line.textContent = item.text;
    return line;
  }
  line.classList.toggle("mine", Boolean(item.mine));
  line.classList.toggle("private", item.to !== undefined);
  const meta = element("p", "meta");
  meta.append(element("span", "who", item.mine ? "You" : item.from));
  if (item.to !== undefined) meta.append(element("span", "whisper", item.mine ? `privately to ${item.to}` : "privately to you"));
  const time = element("time", "", new Date(item.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = new Date(item.at).toISOString();
  meta.append(time);
  if (item.state) {
    const [tick, title] = TICKS[item.state];
    const shown = element("span", `tick ${item.state === "dropped" ? "failed" : item.state}`, tick);
    shown.setAttribute("role", "img");
    shown.setAttribute("aria-label", item.title ?? title);
    shown.title = item.title ?? title;
    meta.append(shown);
  }
  line.append(meta, element("p", "", item.text));
  return line;
}

/** Adds an item, or shows what became of it. @param {Item} item */
function put(item) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  const known = room.items.findIndex((other) => other.id === item.id);
  if (known >= 0) {
    room.items[known] = item;
    [...log.children].find((line) => line.dataset.id === item.id)?.replaceWith(draw(item));
  } else {
    room.items.push(item);
    log.append(draw(item));
    while (room.items.length > KEPT) {
      room.items.shift();
      log.firstChild.remove();
    }
  }
  memory.write("items", room.items);
  if (atEnd || item.mine) log.scrollTop = log.scrollHeight;
}

function notice(text) {
  put({ id: crypto.randomUUID(), kind: "notice", text, at: Date.now() });
}

function showPeople() {
  const focused = document.activeElement?.closest?.("#members li")?.dataset.node;
  const others = [...room.members].filter(([node]) => node !== room.session.me);
  others.sort(([a, here], [b, there]) => Number(there) - Number(here) || a.localeCompare(b));
  const list = $("members");
  list.replaceChildren();
  if (room.session.me) {
    const me = element("li", room.client.state === "connected" ? "online" : "");
    me.append(element("span", "dot"), element("span", "me", nameOf(room.session.me)), element("span", "tag", "you"));
    list.append(me);
  }
  for (const [node, isOnline] of others) {
    const line = element("li", isOnline ? "online" : "");
    line.dataset.node = node;
    const button = element("button", "", nameOf(node));
    button.type = "button";
    button.setAttribute("aria-label", `Write privately to ${nameOf(node)}, ${isOnline ? "here" : "away"}`);
    button.addEventListener("click", () => address(node));
    line.append(element("span", "dot"), button, element("span", "tag", isOnline ? "here" : "away"));
    list.append(line);
    if (node === focused) button.focus();
  }
  const to = $("to");
  const chosen = to.value;
  to.replaceChildren(new Option("everyone", ""), ...others.map(([node]) => new Option(nameOf(node), node)));
  to.value = room.members.has(chosen) ? chosen : "";
  $("compose").classList.toggle("private", to.value !== "");
  $("reveal").hidden = !room.session.me?.startsWith("anonymous_");
}

function address(node) {
  $("to").value = node;
  $("compose").classList.toggle("private", node !== "");
  $("text").focus();
}

// ---- What happens --------------------------------------------------------------------------------------------------

let asking;
/** All members, and who is here; asked at most once at a time, and once more if something happened meanwhile. */
function askForPeople() {
  asking ??= (async () => {
    await new Promise((resolve) => setTimeout(resolve, 30));
    asking = undefined;
    try {
      const members = await room.session.presence();
      room.members = new Map(members.map(({ node_id, online }) => [node_id, online]));
      showPeople();
    } catch {
      // The next connection asks again.
    }
  })();
  return asking;
}

function listen(client, session) {
  session.on("message", ({ envelope }) => {
    if (typeof envelope.payload !== "string") return;
    const from = nameOf(envelope.src_id);
    const to = envelope.dest_id === undefined ? undefined : "you";
    put({ id: `${envelope.src_id} ${envelope.id}`, kind: "message", from, to, text: envelope.payload, at: envelope.timestamp });
  });
  session.on("joined", ({ node }) => {
    notice(`${nameOf(node)} came in`);
    askForPeople();
  });
  session.on("left", ({ node }) => {
    notice(`${nameOf(node)} left`);
    room.members.delete(node);
    showPeople();
  });
  session.on("revealed", ({ node, revealed }) => {
    notice(`${nameOf(node)} is ${nameOf(revealed)}`);
    askForPeople();
  });
  for (const type of ["online", "offline"]) {
    session.on(type, ({ node }) => {
      if (!room.members.has(node)) return void askForPeople();
      room.members.set(node, type === "online");
      showPeople();
    });
  }
  client.on("connected", ({ offer }) => {
    const waited = offer.pending === 1 ? "one message waited for you" : `${offer.pending} messages waited for you`;
    say(offer.pending > 0 ? `Connected; ${waited}` : "Connected");
    // Before joining it is none of our business.
    if (session.me) askForPeople();
  });
  client.on("disconnected", ({ error, retryInMs }) => {
    say(`${error.message}. Trying again in ${Math.ceil(retryInMs / 1000)} s; what you write is kept.`);
    showPeople();
  });
  client.on("goingaway", () => say("The server is going away; looking for another."));
  client.on("closed", ({ error }) => {
    if (!room.steppedAway) say(error ? `Disconnected: ${error.message}` : "");
    showPeople();
  });
  client.on("fault", ({ error }) => say(String(error?.message ?? error)));
  client.on("confirmed", ({ envelope, confirmation }) => {
    const alone = confirmation.delivered + confirmation.stored + confirmation.dropped === 0;
    mark(envelope.id, alone ? "alone" : confirmation.status);
  });
  client.on("refused", ({ envelope, error }) => mark(envelope.id, "failed", error.message));
}

/** Says of a message of one's own what became of it. */
function mark(id, state, problem) {
  const item = room.items.find((other) => other.id === id);
  if (item) put({ ...item, state, ...(problem && { title: `Not sent: ${problem}` }) });
}

async function send(text, to) {
  const id = crypto.randomUUID();
  put({ id, kind: "message", mine: true, ...(to && { to: nameOf(to) }), text, at: Date.now(), state: "sending" });
  try {
    await room.session.send(text, { id, ...(to && { dest_id: to }) });
  } catch (error) {
    // Closed: it is kept, and goes out when this tab is back.
    if (error.name !== "ClosedError") mark(id, "failed", error.message);
  }
}

// ---- Coming and going ----------------------------------------------------------------------------------------------

async function getKey(who, signal) {
  const answer = await fetch(new URL("/dev/key", location.origin), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ node_id: who.node, client_id: who.name }),
    signal,
  });
  if (answer.status === 404) throw new Error("this server gives no keys: the chat is for `sparkmesh serve --dev`");
  if (!answer.ok) throw new Error(`the server gave no key (HTTP status ${answer.status})`);
  return (await answer.json()).key;
}

/** Joins the room; the first to come makes it. */
async function joined(client, who) {
  const id = `room.${who.room}`;
  for (let tries = 0; ; tries++) {
    try {
      return await client.joinSession(id, { is_anonymous: who.anonymous });
    } catch (error) {
      if (!(error instanceof RefusedError) || error.code !== "not_found" || tries > 2) throw error;
    }
    try {
      const options = { session_id: id, anyone_can_join: true, presence: true, is_anonymous: who.anonymous };
      return (await client.createSession(options)).session;
    } catch (error) {
      // Somebody else was a moment faster.
      if (error.code !== "conflict") throw error;
    }
  }
}

function showRoom(who) {
  $("problem").textContent = "";
  $("entrance").hidden = true;
  $("conversation").hidden = $("actions").hidden = false;
  $("place").textContent = `#${who.room}`;
  document.title = `#${who.room} – sparkmesh chat`;
  showPeople();
  $("log").scrollTop = $("log").scrollHeight;
  $("text").focus();
}

/** `first`: this device has never been here, and what goes wrong is told at the entrance. `again`: it goes on trying. */
async function enter(who, time) {
  say("Connecting …");
  const client = new Sparkmesh({
    url: location.origin,
    key: ({ signal }) => getKey(who, signal),
    storage: new WebStorage("sparkmesh", sessionStorage),
    backoff: { first: 500, longest: 10_000 },
  });
  Object.assign(room, { client, who, members: new Map(), session: client.session(`room.${who.room}`), steppedAway: false });
  room.items = memory.read("items") ?? [];
  $("log").replaceChildren(...room.items.map(draw));
  // What waits is taken from the first moment on.
  listen(client, room.session);
  try {
    if (time === "again") {
      showRoom(who);
      await client.connect();
    } else {
      // The key first: without one there is nothing to wait for.
      await getKey(who, AbortSignal.timeout(10_000));
      await client.connect({ signal: AbortSignal.timeout(20_000) });
    }
    await joined(client, who);
    await room.session.info();
  } catch (error) {
    if (time === "again") return say(`That did not work: ${error.message}`);
    room.steppedAway = true;
    await client.close();
    throw error;
  }
  if (time === "first") {
    memory.write("who", who);
    showRoom(who);
  }
  await askForPeople();
}

/** A device of a person of this name: the one of this tab, if it was that person before. */
function deviceOf(name, roomName, anonymous) {
  const random = [...crypto.getRandomValues(new Uint8Array(4))].map((byte) => byte.toString(36).padStart(2, "0")).join("");
  return { name, room: roomName, anonymous, node: `${name}.${random}` };
}

function forgetAll() {
  for (const key of Object.keys(sessionStorage)) sessionStorage.removeItem(key);
}

/** A tab that was duplicated has the memory of the other one, and must become a device of its own. */
async function isOwn(node) {
  if (!navigator.locks) return true;
  return new Promise((resolve) => {
    const options = { signal: AbortSignal.timeout(1500) };
    navigator.locks.request(`sparkmesh/${node}`, options, () => (resolve(true), new Promise(() => {}))).catch(() => resolve(false));
  });
}

$("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  $("problem").textContent = "";
  const wrong = [$("name"), $("room")].find((field) => !field.validity.valid);
  if (wrong) {
    const label = wrong.labels[0].textContent;
    $("problem").textContent = wrong.value ? `${label}: only letters, digits, _ and -, please.` : `${label}: please fill it in.`;
    wrong.focus();
    return;
  }
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    forgetAll();
    const who = deviceOf($("name").value, $("room").value, $("anonymous").checked);
    await isOwn(who.node);
    await enter(who, "first");
  } catch (error) {
    say("");
    $("problem").textContent = `That did not work: ${error.message}`;
  } finally {
    button.disabled = false;
  }
});

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  $("text").value = "";
  grow();
  void send(text, $("to").value);
});

function grow() {
  $("text").rows = Math.min(5, $("text").value.split("\n").length);
}
$("text").addEventListener("input", grow);
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Escape") return address("");
  // While a character is being composed, Enter belongs to that.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("compose").requestSubmit();
});
$("to").addEventListener("change", () => address($("to").value));

$("away").addEventListener("click", async () => {
  room.steppedAway = !room.steppedAway;
  $("away").setAttribute("aria-pressed", String(room.steppedAway));
  $("away").textContent = room.steppedAway ? "Come back" : "Step away";
  $("compose").querySelector("button").disabled = $("text").disabled = room.steppedAway;
  if (room.steppedAway) {
    await room.client.close();
    say("You are away. What is said to you waits.");
  } else {
    say("Connecting …");
    await room.client.connect().catch(() => {});
    $("text").focus();
  }
});

$("reveal").addEventListener("click", async () => {
  try {
    await room.session.reveal();
    notice(`From now on you are ${nameOf(room.session.me)} to all`);
    room.who.anonymous = false;
    memory.write("who", room.who);
    await askForPeople();
    $("text").focus();
  } catch (error) {
    say(`That did not work: ${error.message}`);
  }
});

$("leave").addEventListener("click", async () => {
  room.steppedAway = true;
  await room.session.leave({ signal: AbortSignal.timeout(5000) }).catch(() => {});
  await room.client.close();
  forgetAll();
  location.reload();
});

const before = memory.read("who");
if (before && (await isOwn(before.node))) {
  $("name").value = before.name;
  $("room").value = before.room;
  $("anonymous").checked = before.anonymous;
  await enter(before, "again");
} else {
  if (before) forgetAll();
  $("name").focus();
}
