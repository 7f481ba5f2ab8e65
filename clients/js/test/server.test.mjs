// The client against a real server, which is killed and started again under it.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test as plain } from "node:test";
import WebSocket from "ws";
import { ClosedError, MemoryStorage, RefusedError, Sparkmesh, TimeoutError, Type } from "../dist/index.js";
import { FileStorage } from "../dist/node.js";
import { key, Server } from "./lib/server.mjs";
import { collect, event, until } from "./lib/wait.mjs";

/** @type {Server} */
let server;
/** @type {Sparkmesh[]} */
const opened = [];
let count = 0;

/** @param {() => Promise<void>} body */
const test = (name, body) => plain(name, { timeout: 60_000 }, body);
const unique = (name) => `${name}-${++count}`;

/** @param {string} node @param {Partial<import("../dist/index.js").ClientOptions> & {claims?: object}} [options] */
function client(node, { claims, ...options } = /** @type {{claims?: object}} */ ({})) {
  const made = new Sparkmesh({ url: server.url, key: key(node, claims), WebSocket, backoff: { first: 50, longest: 500 }, ...options });
  opened.push(made);
  return made;
}

async function online(node, options = {}) {
  const made = client(node, options);
  await made.connect();
  return made;
}

before(async () => (server = await Server.start()));
after(async () => {
  await Promise.all(opened.map((one) => one.close()));
  await server.stop();
});

describe("messages", () => {
  test("delivered to who is there, stored for who is not, dropped for nobody", async () => {
    // Bob first: until the server knows that nothing waits for a newcomer, "stored" is right too.
    const bob = await online(unique("bob"));
    const alice = await online(unique("alice"), { claims: { client_id: "alice" } });
    const arrived = event(bob, "message");
    const delivered = await alice.send({ dest_id: bob.nodeId, payload: { text: "hi", zero: 0 }, trace: "passes" });
    assert.equal(delivered.status, "delivered");
    const { envelope } = await arrived;
    assert.deepEqual(envelope.payload, { text: "hi", zero: 0 });
    assert.equal(envelope.src_id, alice.nodeId);
    assert.equal(envelope.src_client_id, "alice");
    assert.equal(envelope.trace, "passes");
    assert.equal(envelope.type, 1);

    const away = event(alice, "away");
    const carol = unique("carol");
    const stored = await alice.send({ dest_id: carol, payload: "later" });
    assert.equal(stored.status, "stored");
    assert.equal((await away).node, carol);
    assert.equal((await alice.send({ dest_client_id: unique("nobody"), payload: "?" })).status, "dropped");
  });

  test("what waits comes in order, once, and is gone when it was handled", async () => {
    const [alice, name] = [await online(unique("alice")), unique("bob")];
    for (let n = 0; n < 5; n++) await alice.send({ dest_id: name, payload: n });
    const bob = client(name);
    const got = collect(bob);
    const connected = event(bob, "connected");
    await bob.connect();
    assert.equal((await connected).offer.pending, 5);
    await until("five arrive", () => got.length === 5);
    assert.deepEqual(got, [0, 1, 2, 3, 4]);
    await until("the inbox is empty", async () => (await bob.inbox()).messages.length === 0);
    await bob.close();
    const again = client(name);
    const more = collect(again);
    await again.connect();
    await alice.send({ dest_id: name, payload: "new" });
    await until("it arrives", () => more.length > 0);
    assert.deepEqual(more, ["new"]);
  });

  test("what is not handled is not acknowledged, and is tried again before anything newer", async () => {
    const [alice, bob] = [await online(unique("alice")), client(unique("bob"))];
    const order = [];
    bob.on("message", async ({ envelope }) => {
      order.push(envelope.payload);
      if (order.length === 1) throw new Error("not now");
    });
    const fault = event(bob, "fault");
    await bob.connect();
    await Promise.all([alice.send({ dest_id: bob.nodeId, payload: "a" }), alice.send({ dest_id: bob.nodeId, payload: "b" })]);
    assert.equal((await fault).envelope.payload, "a");
    await until("both are handled", () => order.length === 3);
    assert.deepEqual(order, ["a", "a", "b"]);
  });

  test("a message whose handler is under way when the client closes comes again", async () => {
    const [alice, name] = [await online(unique("alice")), unique("bob")];
    const bob = client(name);
    const begun = new Promise((resolve) => bob.on("message", () => (resolve(undefined), new Promise(() => {}))));
    await bob.connect();
    const sent = alice.send({ dest_id: name, payload: "keep me" });
    await begun;
    await bob.close();
    assert.equal((await sent).status, "stored");
    const again = client(name);
    const got = collect(again);
    await again.connect();
    await until("it comes again", () => got.length === 1);
  });

  test("FAST goes to who is there, and is dropped for who is not", async () => {
    const [alice, bob] = [await online(unique("alice")), await online(unique("bob"))];
    const arrived = event(bob, "message");
    assert.equal(alice.fast({ dest_id: bob.nodeId, payload: { x: 1 } }), true);
    assert.deepEqual((await arrived).envelope.payload, { x: 1 });
    assert.equal((await alice.send({ dest_id: bob.nodeId, type: 0, payload: 1 })).status, "delivered");
    await bob.close();
    await until("it is dropped", async () => (await alice.send({ dest_id: bob.nodeId, type: 0, payload: 1 })).status === "dropped");
  });

  test("a refused envelope rejects with the server's words, and the connection stays", async () => {
    const alice = await online(unique("alice"));
    const told = event(alice, "refused");
    const error = await alice.send({ dest_id: "not an id", payload: 1 }).catch((reason) => reason);
    assert.ok(error instanceof RefusedError);
    assert.equal(error.code, "bad_envelope");
    assert.match(error.message, /dest_id/);
    assert.equal((await told).error, error);
    const stranger = await alice.session(unique("no-such")).send(1).catch((reason) => reason);
    assert.equal(stranger.code, "session_unauthorized");
    assert.equal(alice.state, "connected");
    assert.deepEqual(alice.unconfirmed, []);
  });

  test("an aborted send is not sent", async () => {
    const alice = client(unique("alice"));
    const controller = new AbortController();
    const sent = alice.send({ dest_id: unique("bob"), payload: 1 }, { signal: controller.signal });
    controller.abort(new Error("changed my mind"));
    await assert.rejects(sent, /changed my mind/);
    await alice.connect();
    assert.deepEqual(alice.unconfirmed, []);
  });
});

describe("requests", () => {
  test("are answered by who was asked, also while a handler waits for one", async () => {
    const [alice, bob, carol] = [await online(unique("alice")), await online(unique("bob")), await online(unique("carol"))];
    carol.on("message", (event) => event.reply("from carol"));
    bob.on("message", async (event) => {
      const { payload } = await bob.request(carol.nodeId, "?");
      await event.reply({ asked: event.envelope.payload, heard: payload });
    });
    const reply = await alice.request(bob.nodeId, 7);
    assert.deepEqual(reply.payload, { asked: 7, heard: "from carol" });
  });

  test("end when nobody replies, when nobody is there, and when nobody waits", async () => {
    const [alice, bob] = [await online(unique("alice")), await online(unique("bob"))];
    await assert.rejects(alice.request(bob.nodeId, "?", { timeout: 50 }), TimeoutError);
    await assert.rejects(alice.request({ dest_client_id: unique("nobody") }, "?"), { name: "UndeliveredError" });
    await assert.rejects(alice.request(bob.nodeId, "?", { signal: AbortSignal.timeout(50) }), { name: "TimeoutError" });
    assert.deepEqual(alice.unconfirmed, []);
  });

  test("a late reply is no message", async () => {
    const [alice, bob] = [await online(unique("alice")), await online(unique("bob"))];
    const late = event(bob, "message");
    const got = collect(alice);
    await assert.rejects(alice.request(bob.nodeId, "?", { timeout: 50 }), TimeoutError);
    assert.equal((await (await late).reply("too late")).status, "delivered");
    await bob.send({ dest_id: alice.nodeId, payload: "a message" });
    await until("the message is there", () => got.length > 0);
    assert.deepEqual(got, ["a message"]);
  });
});

describe("sessions", () => {
  test("joining, talking, presence, private words, revealing, leaving", async () => {
    const [alice, bob, carol] = [await online(unique("alice")), await online(unique("bob")), await online(unique("carol"))];
    const { session: room, record } = await alice.createSession({ anyone_can_join: true, presence: true, session_type: "normal" });
    assert.deepEqual(record.members, [alice.nodeId]);
    const joined = event(room, "joined");
    const hers = await bob.joinSession(room.id);
    assert.equal((await joined).node, bob.nodeId);
    await until("bob sees alice", () => hers.online.has(alice.nodeId));
    const fox = await carol.joinSession(room.id, { anonymous_id: "the-fox" });
    assert.equal(fox.me, "the-fox");
    await until("alice sees the fox", async () => (await room.presence()) && room.online.has("the-fox") && room.online.has(bob.nodeId));

    const said = event(hers, "message");
    assert.equal((await fox.send("hello all")).delivered, 2);
    const { envelope } = await said;
    assert.deepEqual([envelope.src_id, envelope.payload, envelope.src_client_id], ["the-fox", "hello all", undefined]);
    assert.equal(typeof envelope.session_seq, "number");

    const whispered = event(fox, "message");
    await room.sendTo("the-fox", "psst");
    const whisper = await whispered;
    assert.equal(whisper.envelope.payload, "psst");
    const answered = event(room, "message");
    await whisper.reply("yes?");
    assert.equal((await answered).envelope.src_id, "the-fox");
    fox.on("message", (question) => question.reply("a fox"));
    assert.equal((await room.request("the-fox", "who?")).payload, "a fox");

    const revealed = event(room, "revealed");
    await fox.reveal();
    assert.equal((await revealed).revealed, carol.nodeId);
    assert.equal(fox.me, carol.nodeId);
    assert.deepEqual((await room.presence()).map((member) => [member.node_id, member.online]), [
      [alice.nodeId, true], [bob.nodeId, true], [carol.nodeId, true],
    ]);
    const gone = event(room, "offline");
    await bob.close();
    assert.equal((await gone).node, bob.nodeId);
    assert.equal(room.online.has(bob.nodeId), false);
    const left = event(room, "left");
    await fox.leave();
    assert.equal((await left).node, carol.nodeId);
    await assert.rejects(fox.send("still here?"), { code: "session_unauthorized" });
    const info = await room.info();
    assert.deepEqual(info.members, [alice.nodeId, bob.nodeId]);
  });

  test("a closed session takes whom its owner adds; refusals have their words", async () => {
    const [alice, bob] = [await online(unique("alice")), await online(unique("bob"))];
    const { session } = await alice.createSession();
    await assert.rejects(bob.joinSession(session.id), { name: "RefusedError", code: "forbidden", status: 403 });
    const { session: open } = await alice.createSession({ anyone_can_join: true, anonymous_id: "the-owl" });
    await assert.rejects(bob.joinSession(open.id, { anonymous_id: "the-owl" }), { code: "conflict", status: 409 });
    await assert.rejects(bob.session(unique("none")).info(), { code: "not_found", status: 404 });
    await session.add(bob.nodeId);
    assert.equal((await bob.session(session.id).send("in")).status, "delivered");
    await session.remove(bob.nodeId);
    await assert.rejects(bob.session(session.id).send("out"), RefusedError);
  });
});

describe("keys and ends", () => {
  test("a bad key is the end, told as such", async () => {
    const alice = client("alice", { key: `${key("alice").slice(0, -4)}AAAA` });
    const closed = event(alice, "closed");
    await assert.rejects(alice.connect(), { code: "unauthorized" });
    assert.equal((await closed).error.code, "unauthorized");
    await assert.rejects(alice.send({ dest_id: "bob", payload: 1 }), ClosedError);
  });

  test("an expired key is asked for anew", async () => {
    const name = unique("alice");
    let asked = 0;
    const alice = client(name, { key: async () => key(name, ++asked === 1 ? { exp: 1 } : {}) });
    await alice.connect();
    assert.ok(asked >= 2);
    assert.equal(alice.nodeId, name);
  });

  test("an application that disconnects a device means it", async () => {
    const alice = await online(unique("alice"));
    const closed = event(alice, "closed");
    const answer = await fetch(`${server.url}/v1/nodes/${alice.nodeId}/disconnect`, {
      method: "POST", headers: { authorization: `Bearer ${key("app", { role: "app" })}` },
    });
    assert.equal(answer.status, 200);
    assert.equal((await closed).error.closeCode, 4410);
  });

  test("push tokens", async () => {
    const alice = await online(unique("alice"));
    await alice.addPushToken("fcm", "token-1");
    assert.deepEqual((await alice.pushTokens()).providers, ["fcm"]);
    await alice.removePushToken("fcm", "token-1");
    assert.deepEqual((await alice.pushTokens()).providers, []);
    await assert.rejects(alice.addPushToken(/** @type {any} */ ("pigeon"), "x"), { code: "bad_request", status: 400 });
  });

  test("the inbox by hand", async () => {
    const [alice, name] = [await online(unique("alice")), unique("bob")];
    await alice.send({ dest_id: name, payload: 1 });
    await alice.send({ dest_id: name, payload: 2 });
    const bob = client(name, { inbox: "manual" });
    const got = collect(bob);
    await bob.connect();
    const page = await bob.inbox({ limit: 1 });
    assert.deepEqual([page.messages[0].payload, page.more], [1, true]);
    assert.deepEqual((await bob.inbox({ after: page.to_seq })).messages.map(({ payload }) => payload), [2]);
    assert.deepEqual(await bob.acknowledge(page.to_seq), { acknowledged: 1, pending: 1 });
    assert.deepEqual(got, []);
  });

  test("the server's clock is known", async () => {
    const alice = await online(unique("alice"));
    assert.ok(Math.abs(alice.serverNow() - Date.now()) < 2000);
    assert.ok(alice.latencyMs >= 0);
  });
});

describe("a server that is killed", () => {
  test("all that was sent across three deaths arrives once, in order, across reloads of both sides", async () => {
    const directory = await mkdtemp(join(tmpdir(), "sparkmesh-js-"));
    const [a, b] = [unique("alice"), unique("bob")];
    const storage = (name) => ({ storage: new FileStorage(join(directory, name)) });
    const got = [];
    const receiver = () => {
      const bob = client(b, storage("bob"));
      bob.on("message", async ({ envelope }) => void got.push(envelope.payload));
      return bob;
    };
    let [alice, bob] = [client(a, storage("alice")), receiver()];
    await Promise.all([alice.connect(), bob.connect()]);
    const TOTAL = 300;
    let sent = 0;
    const outcomes = [];
    for (let round = 0; round < 3; round++) {
      const batch = Array.from({ length: TOTAL / 3 }, () => alice.send({ dest_id: b, payload: sent++ }).catch((error) => error));
      outcomes.push(...batch);
      // In the middle of it all.
      await batch[10];
      await server.kill();
      if (round === 1) {
        // A reload on both sides while the server is away.
        await Promise.all([alice.close(), bob.close()]);
        [alice, bob] = [client(a, storage("alice")), receiver()];
        void alice.connect();
        void bob.connect();
      }
      await server.run();
    }
    await until("nothing is unconfirmed", () => alice.state === "connected" && alice.unconfirmed.length === 0, 60_000);
    await until("all are there", () => new Set(got).size === TOTAL, 60_000);
    assert.deepEqual(got, Array.from({ length: TOTAL }, (_, n) => n));
    const settled = await Promise.all(outcomes);
    assert.ok(settled.every((outcome) => outcome instanceof ClosedError || ["delivered", "stored"].includes(outcome.status)));
    await Promise.all([alice.close(), bob.close()]);
    await rm(directory, { recursive: true });
  });

  test("a drained server says so, and its return is noticed", async () => {
    const alice = await online(unique("alice"));
    const [away, disconnected] = [event(alice, "goingaway"), event(alice, "disconnected")];
    await server.kill("SIGTERM");
    assert.ok((await away).reconnectAfterMs >= 0);
    assert.equal((await disconnected).error.closeCode, 1001);
    const connected = event(alice, "connected");
    const sent = alice.send({ dest_id: unique("bob"), payload: "waits for the server" });
    await server.run();
    await connected;
    assert.equal((await sent).status, "stored");
  });

  test("a session is joined for good", async () => {
    const [alice, bob] = [await online(unique("alice")), await online(unique("bob"))];
    const { session } = await alice.createSession({ anyone_can_join: true, presence: true });
    const his = await bob.joinSession(session.id);
    await server.kill();
    await server.run();
    await until("they see each other again", () => his.online.has(alice.nodeId) && session.online.has(bob.nodeId));
    const arrived = event(his, "message");
    await session.send("back again");
    assert.equal((await arrived).envelope.payload, "back again");
  });
});

test("a storage that is shared by two lives of a device keeps what was heard", async () => {
  const [alice, name, storage] = [await online(unique("alice")), unique("bob"), new MemoryStorage()];
  const bob = client(name, { storage, ack: "app" });
  const got = collect(bob);
  await bob.connect();
  const id = "the-same-id";
  await alice.send({ dest_id: name, payload: 1, id });
  await until("it is there", () => got.length === 1);
  await bob.close();
  const [records] = [await storage.load()];
  assert.ok([...records.values()].some((value) => value.endsWith(` ${alice.nodeId} ${id}`)));
  assert.equal(Type.ACK, -6);
});
