// The client on a mesh of three servers, which are killed, drained and started again under it.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test as plain } from "node:test";
import WebSocket from "ws";
import { Sparkmesh } from "../dist/index.js";
import { FileStorage } from "../dist/node.js";
import { key, Mesh } from "./lib/server.mjs";
import { collect, event, until } from "./lib/wait.mjs";

/** @type {Mesh} */
let mesh;
/** @type {Sparkmesh[]} */
const opened = [];
let count = 0;

/** @param {() => Promise<void>} body */
const test = (name, body) => plain(name, { timeout: 60_000 }, body);
const unique = (name) => `${name}-${++count}`;

/** @param {string} node @param {Partial<import("../dist/index.js").ClientOptions>} [options] */
function client(node, options = {}) {
  const url = mesh.servers[0].url;
  const made = new Sparkmesh({ url, key: key(node), WebSocket, backoff: { first: 50, longest: 500 }, ...options });
  opened.push(made);
  return made;
}

/** Connected, and where: `at` follows the client about. */
async function online(node, options = {}) {
  const made = Object.assign(client(node, options), { at: "" });
  made.on("connected", ({ offer }) => (made.at = offer.node_id));
  await made.connect();
  return made;
}

/** Two devices that are on different servers. */
async function apart() {
  const one = await online(unique("alice"));
  for (let tries = 0; tries < 20; tries++) {
    const other = await online(unique("bob"));
    if (other.at !== one.at) return [one, other];
    await other.close();
  }
  throw new Error("all are sent to the same server");
}

before(async () => (mesh = await Mesh.start(3, "--drain-deadline", "5s")));
after(async () => {
  await Promise.all(opened.map((one) => one.close()));
  await mesh.stop();
});

test("one address is enough, and a dead one among several does not matter", async () => {
  const alice = await online(unique("alice"));
  assert.deepEqual([...alice.servers].sort(), mesh.servers.map(({ url }) => url).sort());
  await mesh.servers[0].kill();
  try {
    const bob = await online(unique("bob"), { url: [mesh.servers[0].url, mesh.servers[1].url] });
    await until("alice is there", () => alice.state === "connected" && alice.at !== "s1");
    assert.notEqual(bob.at, "s1");
    const got = collect(bob);
    await alice.send({ dest_id: bob.nodeId, payload: "over the dead" });
    await until("it arrives", () => got.length === 1);
    const { session } = await alice.createSession({ anyone_can_join: true });
    await bob.joinSession(session.id);
    assert.deepEqual((await session.info()).members, [alice.nodeId, bob.nodeId]);
  } finally {
    await mesh.servers[0].run();
  }
});

test("each server is killed in turn and returns: all that was sent arrives, once, also across a reload", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sparkmesh-js-"));
  const [a, b] = [unique("alice"), unique("bob")];
  const got = [];
  const sender = () => online(a, { storage: new FileStorage(join(directory, "alice")) });
  const bob = client(b, { storage: new FileStorage(join(directory, "bob")) });
  bob.on("message", async ({ envelope }) => void got.push(envelope.payload));
  await bob.connect();
  let alice = await sender();
  let sent = 0;
  const statuses = [];
  for (const server of mesh.servers) {
    const batch = Array.from({ length: 40 }, () => alice.send({ dest_id: b, payload: sent++ }).then(({ status }) => status, ({ name }) => name));
    statuses.push(...batch);
    await batch[5];
    await server.kill();
    statuses.push(...Array.from({ length: 10 }, () => alice.send({ dest_id: b, payload: sent++ }).then(({ status }) => status, ({ name }) => name)));
    if (server === mesh.servers[1]) {
      await alice.close();
      alice = await sender();
    }
    await until("what can be is confirmed", () => alice.state === "connected" && alice.unconfirmed.length === 0);
    await server.run();
  }
  await until("all are there", () => new Set(got).size === sent, 40_000);
  assert.equal(got.length, sent, "none came twice");
  const settled = new Set(await Promise.all(statuses));
  assert.deepEqual([...settled].filter((status) => !["delivered", "stored", "ClosedError"].includes(status)), []);
  await Promise.all([alice.close(), bob.close()]);
  await rm(directory, { recursive: true });
});

test("a server drains: its devices go where it sends them, and nothing waits", async () => {
  const [alice, bob] = await apart();
  const { at } = alice;
  const got = collect(bob);
  const { session } = await alice.createSession({ anyone_can_join: true, presence: true });
  const his = await bob.joinSession(session.id);
  const [away, connected] = [event(alice, "goingaway"), event(alice, "connected", ({ offer }) => offer.node_id !== at)];
  const ended = mesh.named(at).kill("SIGTERM");
  try {
    await away;
    const numbers = Array.from({ length: 30 }, (_, n) => n);
    const sent = numbers.map((payload) => alice.send({ dest_id: bob.nodeId, payload }));
    await connected;
    assert.ok((await Promise.all(sent)).every(({ status }) => ["delivered", "stored"].includes(status)));
    await until("all are there", () => got.length === numbers.length);
    assert.deepEqual(got, numbers);
    await until("he sees that she is there", () => his.online.has(alice.nodeId));
    assert.equal((await bob.request(alice.nodeId, "?", { timeout: 200 }).catch(({ name }) => name)), "TimeoutError");
    alice.on("message", (question) => question.reply("still here"));
    assert.equal((await bob.request(alice.nodeId, "?")).payload, "still here");
    await ended;
  } finally {
    await ended;
    await mesh.named(at).run();
  }
});

test("all are gone for long, and the clients are not: what was said meanwhile arrives when they return", async () => {
  const [alice, bob] = await apart();
  const got = collect(bob);
  await Promise.all(mesh.servers.map((server) => server.kill()));
  const attempts = [];
  alice.on("disconnected", ({ retryInMs }) => attempts.push(retryInMs));
  const sent = [1, 2, 3].map((payload) => alice.send({ dest_id: bob.nodeId, payload }));
  const asked = alice.request(bob.nodeId, "?", { timeout: 300 }).catch(({ name }) => name);
  assert.equal(await asked, "TimeoutError");
  assert.equal(alice.fast({ dest_id: bob.nodeId, payload: 0 }), false);
  await until("the pauses have grown", () => attempts.some((ms) => ms > 250) && attempts.length > 8, 20_000);
  assert.ok(attempts.every((ms) => ms <= 500), String(attempts));
  await Promise.all(mesh.servers.map((server) => server.run()));
  assert.ok((await Promise.all(sent)).every(({ status }) => ["delivered", "stored"].includes(status)));
  await until("all are there", () => got.length === 3);
  assert.deepEqual(got, [1, 2, 3]);
});
