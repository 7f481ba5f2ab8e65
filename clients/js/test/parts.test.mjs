// Parts that need no server: signs of life, pauses, storages, the service worker, and the bundle of the pages.
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, appendFile, writeFile } from "node:fs/promises";
import { execFileSync, spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { mock, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import { Edge } from "../dist/edge.js";
import { ConfigurationError, disablePush, enablePush, Sparkmesh, WebStorage } from "../dist/index.js";
import { claims } from "../dist/key.js";
import { FileStorage } from "../dist/node.js";
import { backoff } from "../dist/time.js";
import { baseUrl, Servers } from "../dist/servers.js";

test("pauses double, are bounded, and spread", () => {
  assert.equal(backoff(0, 0), 500);
  assert.equal(backoff(0, 1), 1000);
  assert.equal(backoff(3, 1), 8000);
  assert.equal(backoff(50, 1), 60_000);
  assert.equal(backoff(50, 0), 30_000);
});

test("a server that is silent is asked for a sign of life, and left when it gives none", () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  try {
    const sent = [];
    const ends = [];
    let socket;
    class Silent {
      readyState = 1;
      bufferedAmount = 0;
      onopen = /** @type {any} */ (null);
      onmessage = /** @type {any} */ (null);
      onclose = null;
      onerror = null;
      constructor() {
        socket = this;
      }
      send(data) {
        sent.push(JSON.parse(data));
      }
      close() {}
    }
    const edge = new Edge(Silent, "ws://x", {
      opened: () => {}, answered: () => sent.push("answered"), frame: () => {}, ended: (code, reason) => ends.push([code, reason]),
    });
    socket.onopen();
    assert.equal(sent[0].type, -101);
    socket.onmessage({ data: '{"type":-102,"payload":{"server_timestamp_add_diff":0}}' });
    assert.equal(sent[1], "answered");
    mock.timers.tick(24_000);
    socket.onmessage({ data: '{"type":1}' });
    mock.timers.tick(24_999);
    assert.equal(sent.length, 2);
    mock.timers.tick(1);
    assert.equal(sent[2].type, -101);
    mock.timers.tick(9_999);
    assert.deepEqual(ends, []);
    mock.timers.tick(1);
    assert.deepEqual(ends, [[1006, "no sign of life"]]);
    assert.equal(edge.isOpen, false);
  } finally {
    mock.timers.reset();
  }
});

test("a storage in a file outlives its process, a torn line, and its own growth", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sparkmesh-js-"));
  const path = join(directory, "deep", "device.log");
  const first = new FileStorage(path);
  await first.load();
  await first.write(new Map([["a", "1"], ["b", "two\nlines"]]));
  await first.write(new Map(/** @type {[string, string | null][]} */ ([["a", null], ["c", "3"]])));
  await first.close();
  await appendFile(path, '["d","to');
  const second = new FileStorage(path);
  assert.deepEqual(await second.load(), new Map([["b", "two\nlines"], ["c", "3"]]));
  const large = "x".repeat(100_000);
  for (let n = 0; n < 20; n++) await second.write(new Map([["e", large]]));
  await second.close();
  assert.ok((await readFile(path)).length < 1_500_000);
  assert.equal((await new FileStorage(path).load()).get("e"), large);
  await rm(directory, { recursive: true });
});

test("a storage of the web keeps to its own records", async () => {
  const records = new Map([["other", "x"]]);
  const area = /** @type {any} */ ({
    get length() { return records.size; },
    key: (index) => [...records.keys()][index],
    getItem: (key) => records.get(key),
    setItem: (key, value) => records.set(key, value),
    removeItem: (key) => records.delete(key),
  });
  const storage = new WebStorage("me", area);
  await storage.write(new Map(/** @type {[string, string | null][]} */ ([["a", "1"], ["b", "2"], ["a", null]])));
  assert.deepEqual(await storage.load(), new Map([["b", "2"]]));
  assert.equal(records.get("other"), "x");
});

test("addresses and keys are looked at", () => {
  assert.equal(baseUrl("ws://h:1").href, "http://h:1/");
  assert.equal(baseUrl("wss://h/mesh").href, "https://h/mesh/");
  assert.throws(() => baseUrl("ftp://h"), ConfigurationError);
  assert.throws(() => baseUrl("h:8080/x y"), ConfigurationError);
  assert.throws(() => claims("not a key"), ConfigurationError);
  assert.throws(() => claims("e30.e30.x"), ConfigurationError);
  assert.throws(() => new Sparkmesh({ url: "http://h", key: "k", WebSocket: 1 }), ConfigurationError);
});

test("servers are asked in turn: those that were given, and those that offers have named", () => {
  const servers = new Servers(["http://a:1", "ws://b:2/mesh"]);
  const round = () => servers.round().map(({ href }) => href);
  assert.deepEqual(round(), ["http://a:1/", "http://b:2/mesh/"]);
  servers.told(["http://c:3", "https://d:4", "nonsense", 7, "http://a:1", "http://e:5", "http://f:6"]);
  assert.deepEqual(servers.all.map(({ host }) => host), ["a:1", "b:2", "c:3", "e:5", "f:6"]);
  servers.failed(new URL("http://a:1/"));
  assert.equal(round()[0], "http://b:2/mesh/");
  servers.answered(new URL("http://e:5/"));
  servers.failed(new URL("http://b:2/mesh/"));
  assert.equal(round()[0], "http://e:5/");
  servers.told(undefined);
  servers.told([]);
  assert.equal(servers.all.length, 5);
  // One that is gone from the mesh comes last, and is forgotten when it is named no more.
  servers.failed(new URL("http://e:5/"));
  servers.told(["http://c:3"]);
  assert.deepEqual(servers.all.map(({ host }) => host), ["a:1", "b:2", "c:3"]);
  assert.throws(() => new Servers([]), ConfigurationError);
  assert.throws(() => new Servers(["http://a", "https://b"]), { name: "ConfigurationError", message: /all be https/ });
});

test("a file is one client's at a time: of another process, of this one, and not of a dead one's", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sparkmesh-js-"));
  const path = join(directory, "device.log");
  const first = new FileStorage(path);
  await first.claim();
  await assert.rejects(new FileStorage(path).claim(), { name: "StorageError", message: new RegExp(`process ${process.pid}`) });
  await first.close();
  // A process that lives, and one that is over.
  await writeFile(`${path}.lock`, String(process.ppid));
  await assert.rejects(new FileStorage(path).claim(), { name: "StorageError", message: /remove .*device\.log\.lock/ });
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  await writeFile(`${path}.lock`, String(pid));
  const second = new FileStorage(path);
  await second.claim();
  await second.close();
  assert.deepEqual(await readdir(directory), []);
  await rm(directory, { recursive: true });
});

/** What the service worker does with a push. */
async function pushed(data, pages = []) {
  const [shown, listeners] = [[], /** @type {Record<string, (event: object) => void>} */ ({})];
  const self = {
    addEventListener: (type, listener) => (listeners[type] = listener),
    clients: { matchAll: async () => pages },
    registration: { showNotification: async (title, options) => shown.push({ title, ...options }) },
  };
  runInContext(await readFile(new URL("../push-worker.js", import.meta.url), "utf8"), createContext({ self }));
  let work;
  listeners.push({ data: data === undefined ? null : { json: () => JSON.parse(data) }, waitUntil: (promise) => (work = promise) });
  await work;
  return shown;
}

test("the service worker shows what a push says, unless the person looks at the page", async () => {
  const notice = JSON.stringify({ notification_type: "101", pending: 3, payload1: "alice", session_id: "room-1" });
  const [shown] = await pushed(notice);
  assert.deepEqual([shown.title, shown.body, shown.tag], ["alice", "3 messages wait", "room-1"]);
  assert.equal((await pushed(JSON.stringify({ pending: 1, message: "hi" })))[0].body, "hi");
  assert.equal((await pushed("no JSON"))[0].title, "New message");
  assert.equal((await pushed(undefined)).length, 1);
  const told = [];
  const page = { focused: true, postMessage: (message) => told.push(message) };
  assert.deepEqual(await pushed(notice, [page]), []);
  assert.equal(told[0].notice.payload1, "alice");
});

test("a browser subscribes with the server's key, renews an old subscription, and says when it cannot", async () => {
  const calls = [];
  const client = /** @type {any} */ ({
    pushTokens: async () => ({ providers: [], vapid_public_key: "AQID" }),
    addPushToken: async (provider, token) => calls.push(["add", provider, JSON.parse(token).endpoint]),
    removePushToken: async (provider, token) => calls.push(["remove", provider, JSON.parse(token).endpoint]),
  });
  await assert.rejects(enablePush(client, { serviceWorker: "/w.js" }), { name: "PushUnavailableError", message: /this browser/ });

  const subscription = (endpoint, applicationServerKey) => ({
    endpoint, options: { applicationServerKey }, toJSON: () => ({ endpoint }), unsubscribe: async () => (calls.push(["unsubscribe", endpoint]), true),
  });
  let current = subscription("old", new Uint8Array([9]).buffer);
  const pushManager = {
    getSubscription: async () => current,
    subscribe: async ({ applicationServerKey }) => (current = subscription("new", applicationServerKey.buffer)),
  };
  const serviceWorker = /** @type {any} */ ({ pushManager });
  Object.defineProperty(globalThis, "navigator", { value: { serviceWorker: {} }, configurable: true });
  globalThis.PushManager = /** @type {any} */ (class {});
  try {
    await enablePush(client, { serviceWorker });
    await enablePush(client, { serviceWorker });
    assert.deepEqual([...new Uint8Array(current.options.applicationServerKey)], [1, 2, 3]);
    assert.equal(await disablePush(client, { serviceWorker }), true);
    assert.deepEqual(calls, [
      ["unsubscribe", "old"], ["add", "webpush", "new"], ["add", "webpush", "new"], ["remove", "webpush", "new"], ["unsubscribe", "new"],
    ]);
    pushManager.getSubscription = async () => null;
    pushManager.subscribe = async () => Promise.reject(new Error("denied"));
    await assert.rejects(enablePush(client, { serviceWorker }), { name: "PushUnavailableError", message: /denied/ });
    client.pushTokens = async () => ({ providers: [], vapid_public_key: null });
    await assert.rejects(enablePush(client, { serviceWorker }), { message: /the server has no Web Push/ });
  } finally {
    Reflect.deleteProperty(globalThis, "navigator");
    Reflect.deleteProperty(globalThis, "PushManager");
  }
});

test("the bundle of the pages is the one that is built from here", async () => {
  const directory = await mkdtemp(join(tmpdir(), "sparkmesh-js-"));
  const bundle = join(directory, "sparkmesh.js");
  execFileSync(process.execPath, [fileURLToPath(new URL("../scripts/build.mjs", import.meta.url)), "--bundle-only", bundle]);
  const committed = await readFile(new URL("../../../web/chat/sparkmesh.js", import.meta.url), "utf8");
  assert.ok((await readFile(bundle, "utf8")) === committed, "web/chat/sparkmesh.js is outdated: run `npm run build`");
  await rm(directory, { recursive: true });
});
