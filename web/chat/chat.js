// The chat: one room, the people in it, and what they say.
import { RefusedError, Sparkmesh } from "./sparkmesh.js";
import { become, claim, deviceOf, forget, idle, itemsOf, keepItems, thisTab } from "./memory.js";
import { draw, nameOf as plainNameOf, person, returning } from "./view.js";

const $ = (id) => document.getElementById(id);
/** What is shown of a conversation. */
const SHOWN = 200;

/** @type {{client: any, session: any, who: any, members: Map<string, boolean>, items: import("./memory.js").Item[], steppedAway: boolean, server: string}} */
const room = { client: undefined, session: undefined, who: undefined, members: new Map(), items: [], steppedAway: false, server: "" };

const nameOf = (node) => plainNameOf(node, room.members.keys());

// ---- What is shown -------------------------------------------------------------------------------------------------

function say(text) {
  const status = $("status");
  if (status.textContent !== text) status.textContent = text;
  status.dataset.state = room.client?.state ?? "idle";
}

/** Adds an item, or shows what became of it. @param {import("./memory.js").Item} item */
function put(item) {
  const log = $("log");
  const known = room.items.findIndex((other) => other.id === item.id);
  if (known >= 0) {
    room.items[known] = item;
    [...log.children].find((line) => line.dataset.id === item.id)?.replaceWith(draw(item, room.items[known - 1]));
  } else {
    log.append(draw(item, room.items.at(-1)));
    room.items.push(item);
    while (room.items.length > SHOWN) {
      room.items.shift();
      log.firstChild.remove();
    }
    if (item.kind === "message" && !item.mine && document.hidden) unread(1);
  }
  keepItems(room.who.node, room.items);
  if (item.mine) atEnd = true;
  toEnd();
}

/** Whether the newest is in view, and is to stay there when more comes or when a phone's keyboard takes half of the room. */
let atEnd = true;
function toEnd() {
  if (atEnd) $("log").scrollTop = $("log").scrollHeight;
}
$("log").addEventListener("scroll", ({ target }) => (atEnd = target.scrollHeight - target.scrollTop - target.clientHeight < 80));
new ResizeObserver(toEnd).observe($("log"));

let unseen = 0;
/** In the title, for who looks at another tab. */
function unread(more) {
  unseen = more === 0 ? 0 : unseen + more;
  document.title = `${unseen > 0 ? `(${unseen}) ` : ""}#${room.who.room} – sparkmesh chat`;
}
document.addEventListener("visibilitychange", () => !document.hidden && room.who && unread(0));

function notice(text) {
  put({ id: crypto.randomUUID(), kind: "notice", text, at: Date.now() });
}

function showPeople() {
  const focused = document.activeElement?.closest?.("#members li")?.dataset.node;
  const others = [...room.members].filter(([node]) => node !== room.session.me);
  others.sort(([a, here], [b, there]) => Number(there) - Number(here) || a.localeCompare(b));
  const to = $("to");
  const chosen = room.members.has(to.value) ? to.value : "";
  const list = $("members");
  list.replaceChildren();
  if (room.session.me) list.append(person(nameOf(room.session.me), "you", { online: room.client.state === "connected" }));
  for (const [node, online] of others) {
    const line = person(nameOf(node), online ? "here" : "away", { online, chosen: node === chosen, onClick: () => address(node) });
    line.dataset.node = node;
    list.append(line);
    if (node === focused) line.querySelector("button").focus();
  }
  to.replaceChildren(new Option("everyone", ""), ...others.map(([node]) => new Option(nameOf(node), node)));
  to.value = chosen;
  $("compose").classList.toggle("private", chosen !== "");
  $("reveal").hidden = !room.session.me?.startsWith("anonymous_");
}

/** From now on to this one alone; `""`: to everyone. */
function address(node) {
  $("to").value = node;
  showPeople();
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
    const { src_id, id, payload, timestamp } = envelope;
    const to = envelope.dest_id === undefined ? undefined : "you";
    put({ id: `${src_id} ${id}`, kind: "message", from: nameOf(src_id), node: src_id, to, text: payload, at: timestamp });
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
    room.server = offer.node_id;
    say(`Connected to ${room.server}${offer.pending > 0 ? `; ${waited}` : ""}`);
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

/** From the server that gave this page, or from another one that was heard of since. */
async function getKey(who, signal) {
  let problem;
  for (const server of new Set([location.origin, ...(room.client?.servers ?? [])])) {
    try {
      const answer = await fetch(new URL("/dev/key", server), {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ node_id: who.node, client_id: who.name }),
        signal,
      });
      if (answer.ok) return (await answer.json()).key;
      const isNoDemo = answer.status === 404;
      problem ??= new Error(isNoDemo ? "this server gives no keys: the chat is for `sparkmesh serve --dev`" : `no key (HTTP status ${answer.status})`);
    } catch (error) {
      signal?.throwIfAborted();
      problem ??= new Error("no server answers", { cause: error });
    }
  }
  throw problem;
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
  unread(0);
  showPeople();
  toEnd();
  $("text").focus();
}

/** `first`: this device has never been here, and what goes wrong is told at the entrance. `again`: it goes on trying. */
async function enter(who, time) {
  const client = new Sparkmesh({ url: location.origin, key: ({ signal }) => getKey(who, signal), backoff: { first: 500, longest: 10_000 } });
  Object.assign(room, { client, who, members: new Map(), session: client.session(`room.${who.room}`), steppedAway: false });
  say("Connecting …");
  room.items = itemsOf(who.node);
  $("log").replaceChildren(...room.items.map((item, index) => draw(item, room.items[index - 1])));
  // What waits is taken from the first moment on.
  listen(client, room.session);
  try {
    if (time === "again") {
      become(who);
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
    become(who);
    showRoom(who);
  }
  await askForPeople();
}

/** Who is nobody's tab can come back. */
async function showReturning() {
  const known = await idle();
  const back = async (who) => {
    if (await claim(who.node)) await enter(who, "again");
    else await showReturning();
  };
  $("known").replaceChildren(...known.map((who) => returning(who, () => back(who))));
  $("returning").hidden = known.length === 0;
}

$("enter").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("problem").textContent = "";
  const wrong = [$("name"), $("room")].find((field) => !field.validity.valid);
  if (wrong) {
    const label = wrong.labels[0].textContent;
    $("problem").textContent = wrong.value ? `${label}: only letters, digits, _ and -, please.` : `${label}: please fill it in.`;
    wrong.focus();
    return;
  }
  const button = event.target.querySelector("button");
  button.disabled = true;
  try {
    const who = deviceOf($("name").value, $("room").value, $("anonymous").checked);
    await claim(who.node);
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
    room.who = { ...room.who, anonymous: false };
    become(room.who);
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
  forget(room.who);
  location.reload();
});

const before = thisTab();
if (before && (await claim(before.node))) {
  await enter(before, "again");
} else {
  await showReturning();
  $("name").focus();
}
