// What happens when things go wrong, against a server that does as it is told.
import assert from "node:assert/strict";
import { beforeEach, afterEach, describe, test as plain } from "node:test";
import WebSocket from "ws";
import { ConnectionError, MemoryStorage, OutboxFullError, RefusedError, Sparkmesh, TooLargeError } from "../dist/index.js";
import { anyKey, confirm, Fake, send } from "./lib/fake.mjs";
import { collect, event, until } from "./lib/wait.mjs";

/** @param {() => Promise<void>} body */
const test = (name, body) => plain(name, { timeout: 30_000 }, body);

/** @type {Fake} */
let fake;
/** @type {Sparkmesh[]} */
const opened = [];

/** @param {Partial<import("../dist/index.js").ClientOptions>} [options] */
function client(options = {}) {
  const made = new Sparkmesh({ url: fake.url, key: anyKey("me"), WebSocket, backoff: { first: 20, longest: 100 }, ...options });
  opened.push(made);
  return made;
}

/** @type {Fake[]} */
const fakes = [];
async function another() {
  const made = await Fake.start();
  fakes.push(made);
  return made;
}

beforeEach(async () => (fake = await another()));
afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()));
  await Promise.all(fakes.splice(0).map((one) => one.stop()));
});

const message = (id, payload, fields = {}) => ({ dest_id: "me", src_id: "bob", type: 1, timestamp: 1, id, payload, ...fields });

describe("connecting", () => {
  test("with the keys and options in the address, and when the offer says", async () => {
    fake.answers.push((offer) => ({ body: { ...offer, start_after_ms: 300 } }));
    const me = client({ sessionHint: "room-1", needPort80: true });
    await me.connect();
    const edge = await fake.edge(0);
    assert.deepEqual(Object.fromEntries(edge.query), { auth_key: anyKey("me"), validation_key: "v1", inbox: "auto", ack: "app" });
    assert.equal(fake.asked[0].path, "/v1/connect-info?session_id=room-1&need_80_port=1");
    assert.ok(edge.at - fake.asked[0].at >= 295);
    assert.ok(Math.abs(me.serverNow() - Date.now() - 5000) < 500);
  });

  test("a full server is asked again when it says", async () => {
    fake.answers.push(() => ({ status: 503, headers: { "retry-after": "1" }, body: { error: { code: "full", message: "no room" } } }));
    const me = client();
    const told = event(me, "disconnected");
    await me.connect();
    const { error } = await told;
    assert.ok(error instanceof RefusedError);
    assert.deepEqual([error.code, error.retryAfterMs], ["full", 1000]);
    assert.ok(fake.asked[1].at - fake.asked[0].at >= 990);
  });

  test("what is forbidden is not tried again", async () => {
    fake.answers.push(() => ({ status: 403, body: { error: { code: "forbidden", message: "not you" } } }));
    await assert.rejects(client().connect(), { code: "forbidden", message: "not you" });
    assert.equal(fake.asked.length, 1);
  });

  test("a key that the socket refuses is renewed once", async () => {
    const keys = [];
    fake.onEdge = (edge) => edge.query.get("auth_key") === keys[0] && edge.socket.close(4401, "bad key");
    const me = client({ key: () => (keys.push(anyKey("me", 4_000_000_000 + keys.length)), keys.at(-1)) });
    await event(Object.assign(me, { started: me.connect() }), "connected", () => fake.edges.length === 2);
    assert.equal(keys.length, 2);
  });

  test("a key that is refused again is the end, with the server's words", async () => {
    fake.onEdge = (edge) => {
      send(edge, { type: -8, code: "unauthorized", message: "the key has expired" });
      edge.socket.close(4401, "bad key");
    };
    const me = client();
    const closed = event(me, "closed");
    me.connect().catch(() => {});
    const { error } = await closed;
    assert.ok(error instanceof ConnectionError);
    assert.equal(error.closeCode, 4401);
    assert.match(error.message, /the key has expired/);
    assert.equal(fake.edges.length, 2);
  });

  for (const code of [1000, 1003, 4403, 4410]) {
    test(`close code ${code} is the end`, async () => {
      const me = client();
      await me.connect();
      const closed = event(me, "closed");
      (await fake.edge(0)).socket.close(code);
      assert.equal((await closed).error.closeCode, code);
      assert.equal(me.state, "closed");
      await assert.rejects(me.send({ dest_id: "bob", payload: 1 }), { name: "ClosedError" });
    });
  }

  for (const code of [1001, 1008, 1011, 4408]) {
    test(`after close code ${code} it connects again`, async () => {
      const me = client();
      await me.connect();
      (await fake.edge(0)).socket.close(code);
      await fake.edge(1);
      assert.equal(fake.asked.length, 2);
    });
  }

  test("GOING_AWAY with an offer: there, at the time it names, and without asking", async () => {
    const other = await another();
    const me = client();
    await me.connect();
    const from = await fake.edge(0);
    const begin = Date.now();
    send(from, { type: -9, reconnect_after_ms: 200, offer: other.offer() });
    from.socket.close(1001);
    const to = await other.edge(0);
    assert.ok(to.at - begin >= 195);
    assert.equal(other.asked.length, 0);
    await until("connected", () => me.state === "connected");
    await me.close();
  });

  test("GOING_AWAY with an offer that is stale: a new one is asked for", async () => {
    const me = client();
    await me.connect();
    fake.onEdge = (edge) => edge.query.get("validation_key") === "stale" && edge.socket.close(4401);
    const edge = await fake.edge(0);
    send(edge, { type: -9, reconnect_after_ms: 0, offer: { ...fake.offer(), validation_key: "stale" } });
    await fake.edge(2);
    assert.equal(fake.asked.length, 2);
    await until("connected", () => me.state === "connected");
  });

  test("GOING_AWAY and a server that forgets to close: the client goes by itself", async () => {
    const me = client();
    await me.connect();
    send(await fake.edge(0), { type: -9, reconnect_after_ms: 50 });
    await fake.edge(1);
  });

  test("an address that is dead, or another program's, is passed over", async () => {
    const [dead, stranger] = [await another(), await another()];
    await dead.stop();
    stranger.answers.push(() => ({ body: "I am no mesh" }));
    const me = client({ url: [dead.url, stranger.url, fake.url] });
    await me.connect();
    assert.equal(fake.asked.length, 1);
    // From now on the one that answers is asked first.
    await me.inbox();
    assert.deepEqual([stranger.asked.length, fake.asked.length], [1, 2]);
  });

  test("when no address answers it says which, and goes on trying", async () => {
    const dead = await another();
    await dead.stop();
    const me = client({ url: [dead.url, `${dead.url}/again`] });
    const told = event(me, "disconnected");
    const controller = new AbortController();
    const connecting = me.connect({ signal: controller.signal });
    const { error } = await told;
    assert.equal(error.name, "UnreachableError");
    assert.equal(error.message.split(dead.url).length, 3);
    await event(me, "disconnected");
    controller.abort();
    await assert.rejects(connecting, { name: "AbortError" });
  });

  test("one that was told a single address survives that server, by those that its offer named", async () => {
    const other = await another();
    fake.answers.push((offer) => ({ body: { ...offer, servers: [fake.url, other.url] } }));
    const me = client();
    await me.connect();
    assert.deepEqual(me.servers, [fake.url, other.url]);
    const connected = event(me, "connected");
    await fake.stop();
    await other.edge(0);
    assert.equal((await connected).offer.ws_url, other.offer().ws_url);
    await me.session("room").info();
    assert.equal(other.asked.at(-1).path, "/v1/sessions/room");
  });

  test("a session is made once, also where the first answer is lost", async () => {
    const other = await another();
    const me = client({ url: [fake.url, other.url] });
    fake.answers.push(() => ({ lost: true }));
    let id;
    other.answers.push((_, body) => {
      id = JSON.parse(body).session_id;
      return { status: 409, body: { error: { code: "conflict", message: "taken" } } };
    });
    const record = (session_id, node_id) => ({ session_id, node_id, members: [], current_node_info: ["me", null] });
    other.answers.push(() => ({ body: record(id, "me") }));
    const { session } = await me.createSession();
    assert.equal(session.id, id);
    assert.equal(session.me, "me");

    // Somebody else's is a conflict, and so is one of the first attempt.
    fake.answers.push(() => ({ lost: true }));
    other.answers.push(() => ({ status: 409, body: { error: { code: "conflict", message: "taken" } } }));
    other.answers.push(() => ({ body: record("taken", "bob") }));
    const third = client({ url: [fake.url, other.url] });
    await assert.rejects(third.createSession({ session_id: "taken" }), { code: "conflict" });
    other.answers.push(() => ({ status: 409, body: { error: { code: "conflict", message: "taken" } } }));
    await assert.rejects(client({ url: other.url }).createSession({ session_id: "taken" }), { code: "conflict" });
  });

  test("a clock that is set back or forth changes neither pauses nor what is measured", async () => {
    const now = Date.now;
    const me = client();
    await me.connect();
    try {
      for (const hours of [-3, 5]) {
        const edge = fake.edges.at(-1);
        send(edge, { type: -9, reconnect_after_ms: 200, offer: fake.offer() });
        await event(me, "goingaway");
        Date.now = () => now() + hours * 3_600_000;
        const [connected, began] = [event(me, "connected"), performance.now()];
        edge.socket.close(1001);
        await connected;
        const took = performance.now() - began;
        assert.ok(took > 100 && took < 5000, `${took} ms`);
        assert.ok(me.latencyMs >= 0 && me.latencyMs < 5000, `${me.latencyMs} ms`);
      }
    } finally {
      Date.now = now;
    }
  });

  test("a client that goes on for long leaves nothing behind at its signals", async () => {
    const warned = [];
    const warn = (warning) => warned.push(warning.message);
    process.on("warning", warn);
    const me = client();
    await me.connect();
    for (let n = 1; n <= 15; n++) {
      fake.edges.at(-1).socket.terminate();
      await fake.edge(n);
    }
    process.off("warning", warn);
    assert.deepEqual(warned, []);
  });

  test("over TLS no key goes where there is none", async () => {
    const answer = { ...fake.offer(), ws_url: "ws://elsewhere/v1/connect" };
    const me = client({ url: "https://secure.example", fetch: async () => new Response(JSON.stringify(answer)) });
    await assert.rejects(me.connect(), { name: "BadAnswerError", message: /without TLS/ });
  });
});

describe("what arrives", () => {
  test("repetitions are acknowledged and not shown, also after a reload", async () => {
    const storage = new MemoryStorage();
    let me = client({ storage });
    let got = collect(me);
    await me.connect();
    let edge = await fake.edge(0);
    for (const id of ["a", "b"]) send(edge, message(id, id));
    await until("two acknowledgements", () => edge.frames.length === 2);
    send(edge, message("a", "a"));
    await until("a third one", () => edge.frames.length === 3);
    assert.deepEqual(got, ["a", "b"]);
    assert.deepEqual(edge.frames[0], { type: -6, src_id: "bob", id: "a" });
    await me.close();

    me = client({ storage });
    got = collect(me);
    await me.connect();
    edge = await fake.edge(1);
    for (const id of ["a", "b", "c"]) send(edge, message(id, id));
    send(edge, message("a", "another's", { src_id: "carol" }));
    await until("four acknowledgements", () => edge.frames.length === 4);
    assert.deepEqual(got, ["c", "another's"]);
  });

  test("only so many ids are remembered, the newest", async () => {
    const storage = new MemoryStorage();
    for (const part of [["a", "b", "c"], ["d", "a", "d", "c"]]) {
      const me = client({ storage, remember: 3 });
      const got = collect(me);
      await me.connect();
      const edge = fake.edges.at(-1);
      for (const [index, id] of part.entries()) {
        send(edge, message(id, id));
        await until("it is acknowledged", () => edge.frames.length === index + 1);
      }
      // In the second life d pushes out a, and a, new again, pushes out b; d and c are still known.
      assert.deepEqual(got, part[0] === "a" ? ["a", "b", "c"] : ["d", "a"]);
      await me.close();
    }
    assert.equal((await storage.load()).size, 3);
  });

  test("nothing is acknowledged before its handler is done, and an envelope that comes again meanwhile is one", async () => {
    const me = client();
    let finish;
    const calls = [];
    me.on("message", ({ envelope }) => {
      calls.push(envelope.id);
      return envelope.id === "a" ? new Promise((resolve) => (finish = resolve)) : undefined;
    });
    await me.connect();
    const first = await fake.edge(0);
    send(first, message("a", 1));
    await until("it is handled", () => calls.length === 1);
    first.socket.terminate();
    const second = await fake.edge(1);
    send(second, message("a", 1));
    send(second, { type: 0, src_id: "bob", id: "ephemeral", timestamp: 1 });
    await until("what came later is there", () => calls.length === 2);
    assert.deepEqual([first.frames, second.frames], [[], []]);
    finish();
    await until("it is acknowledged", () => second.frames.length === 1);
    assert.deepEqual(second.frames, [{ type: -6, src_id: "bob", id: "a" }]);
    assert.deepEqual(calls, ["a", "ephemeral"]);
  });

  test("frames of kinds unknown, broken ones and binary ones disturb nobody", async () => {
    const me = client();
    const got = collect(me);
    await me.connect();
    const edge = await fake.edge(0);
    for (const raw of ["", "null", "[]", "{", '{"type":-77}', '{"type":"x"}', '{"type":1}', Buffer.from([1, 2])]) edge.socket.send(raw);
    send(edge, message("later", "reserved", { type: 150 }));
    send(edge, message("a", "fine", { new_field: 1 }));
    await until("both are acknowledged", () => edge.frames.length === 2);
    assert.deepEqual(got, ["fine"]);
  });

  test("with ack=pong nothing is acknowledged by frames", async () => {
    const me = client({ ack: "pong" });
    const got = collect(me);
    await me.connect();
    const edge = await fake.edge(0);
    send(edge, message("a", 1));
    await me.send({ dest_id: "bob", type: 0, payload: 1 }, { signal: AbortSignal.timeout(100) }).catch(() => {});
    assert.deepEqual(got, [1]);
    assert.deepEqual(edge.frames.filter(({ type }) => type === -6), []);
  });
});

describe("what is sent", () => {
  test("goes again with the same ids, in order, until it is confirmed", async () => {
    const me = client();
    const sent = [1, 2, 3].map((payload) => me.send({ dest_id: "bob", payload }));
    await me.connect();
    const first = await fake.edge(0);
    await until("three frames", () => first.frames.length === 3);
    confirm(first, first.frames[1], "stored");
    assert.equal((await sent[1]).status, "stored");
    first.socket.terminate();
    const second = await fake.edge(1);
    await until("two frames", () => second.frames.length === 2);
    assert.deepEqual(second.frames, [first.frames[0], first.frames[2]]);
    for (const frame of second.frames) confirm(second, frame);
    assert.deepEqual((await Promise.all(sent)).map(({ status }) => status), ["delivered", "stored", "delivered"]);
    assert.deepEqual(me.unconfirmed, []);
  });

  test("outlives a reload, and its outcome is told then", async () => {
    const storage = new MemoryStorage();
    const old = client({ storage });
    await old.connect();
    const lost = [1, 2].map((payload) => old.send({ dest_id: "bob", payload }));
    const fast = old.send({ dest_id: "bob", type: 0, payload: "now or never" });
    const first = await fake.edge(0);
    await until("all are written", () => first.frames.length === 3);
    await old.close();
    for (const one of lost) await assert.rejects(one, { name: "ClosedError" });
    await assert.rejects(fast, { name: "LostError" });

    const me = client({ storage });
    fake.onFrame = confirm;
    const outcomes = [];
    me.on("confirmed", ({ envelope, confirmation }) => outcomes.push([envelope.payload, confirmation.status]));
    const third = me.send({ dest_id: "bob", payload: 3 });
    await me.connect();
    await third;
    assert.deepEqual((await fake.edge(1)).frames, [...first.frames.slice(0, 2), { ...first.frames[0], payload: 3, id: (await third).id, reference: (await third).id }]);
    assert.deepEqual(outcomes, [[1, "delivered"], [2, "delivered"], [3, "delivered"]]);
    await me.close();
    assert.deepEqual([...(await storage.load()).keys()].filter((name) => name.startsWith("out/")), []);
  });

  test("has bounds", async () => {
    const me = client({ outbox: { maxCount: 2 }, maxMessageBytes: 1000 });
    await me.connect();
    const sent = [1, 2].map((payload) => me.send({ dest_id: "bob", payload }));
    await assert.rejects(me.send({ dest_id: "bob", payload: 3 }), OutboxFullError);
    await assert.rejects(me.send({ dest_id: "bob", payload: "ä".repeat(500) }), TooLargeError);
    assert.throws(() => me.fast({ dest_id: "bob", payload: "x".repeat(1000) }), TooLargeError);
    await assert.rejects(me.send({ payload: 1 }), { name: "ConfigurationError", message: /to whom/ });
    const edge = await fake.edge(0);
    await until("two frames", () => edge.frames.length === 2);
    for (const frame of edge.frames) confirm(edge, frame);
    await Promise.all(sent);
    fake.onFrame = confirm;
    await me.send({ dest_id: "bob", payload: 4 });
  });

  test("what a server finds too large does not end every connection", async () => {
    const storage = new MemoryStorage();
    const me = client({ storage });
    await me.connect();
    const small = me.send({ dest_id: "bob", payload: "small" });
    const large = me.send({ dest_id: "bob", payload: "x".repeat(5000) });
    const edge = await fake.edge(0);
    await until("both are written", () => edge.frames.length === 2);
    const closed = event(me, "closed");
    edge.socket.close(1009);
    await assert.rejects(large, TooLargeError);
    await assert.rejects(small, { name: "ClosedError" });
    assert.equal((await closed).error.closeCode, 1009);
    fake.onFrame = confirm;
    await me.connect();
    await until("the small one goes again", () => me.unconfirmed.length === 0);
    assert.equal(fake.edges[1].frames.length, 1);
  });

  test("a storage that is slow is waited for: nothing newer overtakes what it has", async () => {
    const slow = new MemoryStorage();
    const [load, wait] = [slow.load.bind(slow), () => new Promise((resolve) => setTimeout(resolve, 1200))];
    await slow.write(new Map([["out/old", `0 ${JSON.stringify({ dest_id: "bob", type: 1, payload: "older", id: "old", reference: "old" })}`]]));
    const storage = Object.assign(slow, { claim: wait, load: () => wait().then(load) });
    const me = client({ storage });
    void me.send({ dest_id: "bob", payload: "newer" }).catch(() => {});
    await me.connect();
    const edge = await fake.edge(0);
    await until("two frames", () => edge.frames.length === 2);
    assert.deepEqual(edge.frames.map(({ payload }) => payload), ["older", "newer"]);
  });

  test("a storage that fails is told of, and the message goes out all the same", async () => {
    class Full extends MemoryStorage {
      /** @override @returns {Promise<void>} */
      async write() {
        throw new Error("the disk is full");
      }
    }
    fake.onFrame = confirm;
    const me = client({ storage: new Full() });
    const fault = event(me, "fault");
    await me.connect();
    assert.equal((await me.send({ dest_id: "bob", payload: 1 })).status, "delivered");
    assert.match((await fault).error.message, /the disk is full/);
  });

  test("a reply counts only from who was asked", async () => {
    const me = client();
    await me.connect();
    fake.onFrame = (edge, frame) => {
      if (frame.dest_id !== "bob") return;
      send(edge, message("x", "false", { src_id: "mallory", reference: frame.reference }));
      send(edge, message("y", "true", { src_id: "bob", reference: frame.reference }));
    };
    const got = collect(me);
    assert.equal((await me.request("bob", "?")).payload, "true");
    await until("the other is a message", () => got.length === 1);
    assert.deepEqual(got, ["false"]);
  });
});
