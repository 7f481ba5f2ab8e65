// The pure parts of the console and of the presence room.
import assert from "node:assert/strict";
import { test } from "node:test";
import { closest, layout, links } from "../../../web/console/layout.js";
import { picture, standing, summary } from "../../../web/console/mesh.js";
import { SPAN, ceiling, each, latest, level, merge, rate } from "../../../web/console/rates.js";
import { ago, bytes, commands, count, quoted, sighted, span } from "../../../web/console/words.js";
import { SIZE, cornerOf, follow, inside, placeIn, step } from "../../../web/room/walk.js";
import { synthetic } from "./lib/synthetic.mjs";

const pairsOf = (servers) => links(servers).map(({ a, b }) => /** @type {[string, string]} */ ([a, b]));

test("counters become rates, and a process that began anew is no negative rate", () => {
  const history = { at: [1000, 3000, 5000, 7000, 30_000, 32_000], sent: [10, 30, 30, 5, 100, 104] };
  assert.deepEqual(rate(history, "sent"), [null, 10, 0, null, null, 2]);
  assert.deepEqual(rate(history, "unknown"), [null, null, null, null, null, null]);
  assert.deepEqual(level(history, "sent"), [10, 30, 30, 5, 100, 104]);
  assert.equal(latest([1, 2, null]), 2);
  assert.equal(latest([null]), null);
  const commits = { at: [0, 2000, 4000], us: [0, 6000, 6000], commits: [0, 3, 3] };
  assert.deepEqual(each(commits, "us", "commits"), [null, 2000, null]);
});

test("readings are put together without doubles, and no longer than the picture", () => {
  const first = { at: [1, 2, 3], x: [10, 20, 30] };
  assert.deepEqual(merge(undefined, first), first);
  assert.deepEqual(merge(first, { at: [3, 4], x: [31, 40] }), { at: [1, 2, 3, 4], x: [10, 20, 31, 40] });
  assert.deepEqual(merge(first, { at: [], x: [] }), first);
  assert.deepEqual(merge(first, { at: [1], x: [7] }), { at: [1], x: [7] }, "a clock that went back begins anew");
  const long = { at: Array.from({ length: SPAN }, (_, at) => at), x: Array(SPAN).fill(0) };
  assert.equal(merge(long, { at: [SPAN + 5], x: [1] }).at.length, SPAN);
});

test("a picture goes up to a round number", () => {
  for (const [values, top] of /** @type {[(number | null)[], number][]} */ ([[[], 1], [[null, 7.2], 8], [[99], 100], [[101], 150], [[0.02], 1]])) {
    assert.equal(ceiling(values), top);
  }
});

test("the same servers stand in the same places, in whatever order they are told", () => {
  const { mesh } = synthetic(50, "web");
  const pairs = pairsOf(mesh.servers);
  const names = mesh.servers.map(({ node_id }) => node_id);
  const first = layout(names, pairs);
  assert.equal(first.shape, "web");
  assert.deepEqual(layout(names, pairs).places, first.places);
  assert.equal(layout(names.toReversed(), pairs.toReversed(), first), first);
  assert.equal(layout(names, pairs.slice(5), first), first, "links that are lost move nobody");
  for (const { x, y } of first.places.values()) assert.ok(x >= 0 && x <= 1 && y >= 0 && y <= 1);
  assert.ok(closest(first.places.values(), { x: 1200, y: 500 }) > 20, "nobody stands on another");
});

test("a new server finds its place, and the others nearly keep theirs", () => {
  const { mesh } = synthetic(20, "web");
  const names = mesh.servers.map(({ node_id }) => node_id);
  const pairs = pairsOf(mesh.servers);
  const before = layout(names, pairs);
  const after = layout([...names, "s99"], [...pairs, ["s3", "s99"]], before);
  assert.equal(after.places.size, 21);
  const moved = names.map((name) => Math.hypot(before.places.get(name).x - after.places.get(name).x, before.places.get(name).y - after.places.get(name).y));
  assert.ok(moved.reduce((sum, way) => sum + way) / moved.length < 0.15, String(moved));
});

test("those who are all linked stand in a ring, by their names as people count; one stands in the middle", () => {
  const { mesh } = synthetic(50, "full");
  const { shape, places } = layout(mesh.servers.map(({ node_id }) => node_id), pairsOf(mesh.servers));
  assert.equal(shape, "ring");
  assert.deepEqual([...places.keys()].slice(0, 11).join(), "s1,s2,s3,s4,s5,s6,s7,s8,s9,s10,s11");
  assert.deepEqual([...layout(["a"], []).places.values()], [{ x: 0.5, y: 0.5 }]);
  const two = layout(["a", "b"], [["a", "b"]]).places;
  assert.ok(two.get("a").x < two.get("b").x && Math.abs(two.get("a").y - two.get("b").y) < 1e-6);
});

test("answers become a picture: who is gone has no links, queues of both ends count", () => {
  const { mesh, history } = synthetic(6, "full");
  const shown = picture(mesh, history(new URLSearchParams("points=3")));
  assert.deepEqual(shown.servers.map((server) => server.standing), ["serving", "serving", "serving", "returning", "draining", "gone"]);
  assert.equal(shown.links.length, 10);
  assert.equal(shown.links.find(({ a, b }) => a === "s1" && b === "s5")?.queue, 2_500_000);
  assert.ok(shown.servers[0].messages > 0 && shown.servers[0].cpu > 0 && shown.servers[5].messages === null);
  const { servers, gone, unsettled } = summary(shown.servers);
  assert.deepEqual([servers, gone, unsettled], [6, 1, 2]);
  assert.equal(standing({ reachable: false, standing: "serving" }), "gone");
  const alone = picture(mesh, { servers: [], silent: ["s2"] });
  assert.deepEqual([alone.servers[1].silent, alone.servers[1].messages, alone.servers[0].silent], [true, null, false]);
});

test("figures are said as people say them", () => {
  assert.deepEqual([0, 7, 7.25, 812, 12_345, 4_560_000, null].map(count), ["0", "7", "7.3", "812", "12 k", "4.6 M", "–"]);
  assert.deepEqual([12, 1500, 49e6, 2.5e9, null].map(bytes), ["12 B", "1.5 kB", "49 MB", "2.5 GB", "–"]);
  assert.deepEqual([80, 1500, 25_000, 2e6].map(span), ["80 µs", "1.5 ms", "25 ms", "2.0 s"]);
  assert.deepEqual([3, 200, 8000].map((s) => ago(0, s * 1000)), ["3 s ago", "3 min ago", "2 h ago"]);
});

test("commands are fit for a shell, whatever an id is", () => {
  assert.equal(quoted("it's; rm -rf $HOME"), "'it'\\''s; rm -rf $HOME'");
  const both = commands("http://h:1", ["where", "--id", "a b"], { path: "/v1/mesh/where", query: { id: "a&b" } });
  assert.equal(both.sparkmesh, "sparkmesh mesh http://h:1 where --id 'a b'");
  assert.equal(both.curl, `curl -H "Authorization: Bearer $SPARKMESH_KEY" 'http://h:1/v1/mesh/where?id=a%26b'`);
  assert.match(commands("http://h:1", ["drain", "s2"], { method: "POST", path: "/v1/drain" }).curl, /^curl -X POST /);
});

test("every state of a message has its sentence", () => {
  for (const state of ["waits", "written", "sent_on", "asks_for_devices", "posted", "storing", "inbox", "held", "delivered", "stored", "dropped", "failed"]) {
    const words = sighted({ node_id: "s1", state, device: "bob", to: "s2", seq: 4 });
    assert.ok(words.includes("s1") && !words.includes("undefined"), words);
  }
  assert.equal(sighted({ node_id: "s1", state: "new" }), "new at s1");
});

test("nobody walks through walls, faster than others, or where a peer says nonsense", () => {
  assert.deepEqual(inside({ x: -50, y: 9e9 }), { x: 34, y: SIZE.height - 34 });
  for (const told of [undefined, 7, {}, { x: 1 }, { x: "1", y: 2 }, { x: NaN, y: 1 }, { x: Infinity, y: 1 }]) assert.equal(placeIn(told), undefined);
  assert.deepEqual(placeIn({ x: 500, y: 300 }), { x: 500, y: 300 });
  const from = { x: 500, y: 300 };
  const straight = step(from, { x: 1, y: 0 }, undefined, 100).x - 500;
  const slanted = step(from, { x: 1, y: 1 }, undefined, 100);
  assert.ok(Math.abs(Math.hypot(slanted.x - 500, slanted.y - 300) - straight) < 1e-6);
  assert.ok(step(from, { x: 1, y: 0 }, undefined, 60_000).x - 500 <= straight + 1e-6, "after a pause nobody jumps");
  assert.deepEqual(step(from, { x: 0, y: 0 }, { x: 501, y: 300 }, 100), { x: 501, y: 300 });
  assert.equal(step(from, { x: 0, y: 0 }, undefined, 100), from);
});

test("who is told to be elsewhere is seen on the way there, and arrives", () => {
  let shown = { x: 100, y: 100 };
  const first = follow(shown, { x: 200, y: 100 }, 16);
  assert.ok(first.x > 110 && first.x < 140, String(first.x));
  for (let frame = 0; frame < 60; frame++) shown = follow(shown, { x: 200, y: 100 }, 16);
  assert.deepEqual(shown, { x: 200, y: 100 });
  assert.deepEqual(follow({ x: 0, y: 0 }, { x: 900, y: 500 }, 16), { x: 900, y: 500 }, "too far to have been walked");
  assert.equal(cornerOf({ x: 800, y: 450 }), "in the kitchen");
  assert.equal(cornerOf({ x: 550, y: 330 }), "in the open");
  assert.equal(cornerOf(undefined), "somewhere");
});
