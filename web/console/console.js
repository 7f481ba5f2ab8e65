// The console: asks every two seconds how the mesh is, and shows it.
import { ask, findKey, keepKey, Refused } from "./api.js";
import { $, copyable, element, say } from "./dom.js";
import { find } from "./find.js";
import { Graph } from "./graph.js";
import { picture, summary } from "./mesh.js";
import { ServerPanel } from "./server.js";
import { bytes, commands, count, span } from "./words.js";

const EVERY_MS = 2000;

let chosen = "";
/** @type {import("./mesh.js").Server[]} */
let servers = [];
/** What was told last about a drain, until the picture shows it. */
let news = "";
let timer = 0;
/** Grows when one signs in or out: what was asked before is of no interest then. */
let life = 0;

const graph = new Graph($("graph"), (name) => choose(name === chosen ? "" : name));
const panel = new ServerPanel($("panel"), (message) => {
  news = message;
  say($("status"), message);
});
panel.closed = () => choose("");
find(graph);

function choose(name) {
  chosen = name;
  const server = servers.find((one) => one.name === name);
  $("stage").classList.toggle("with-panel", Boolean(server));
  if (server) {
    void panel.choose(server);
    $("server-title").focus({ preventScroll: false });
  } else {
    panel.close();
  }
  show();
}

// ---- What is shown -------------------------------------------------------------------------------------------------

let shown = { servers, links: /** @type {any[]} */ ([]) };

function show() {
  graph.show(shown, chosen);
  for (const row of $("servers").tBodies[0].rows) row.classList.toggle("chosen", row.dataset.name === chosen);
}

function showSummary() {
  const all = summary(servers);
  const figures = [
    [["servers", all.gone && `${all.gone} gone`, all.unsettled && `${all.unsettled} coming or going`].filter(Boolean).join(", "), count(all.servers), all.gone > 0 ? "bad" : all.unsettled > 0 ? "warn" : "good"],
    ["devices", count(all.devices)],
    ["messages/s", count(Math.round(all.messages))],
    ["in inboxes", count(all.inbox)],
    ["held", count(all.held), all.held > 0 ? "warn" : ""],
  ];
  const where = $("summary");
  where.hidden = false;
  if (where.children.length === 0) where.append(...figures.map(([name]) => element("div", {}, element("dt", {}, name), element("dd"))));
  figures.forEach(([name, value, mood], index) => {
    const [term, cell] = where.children[index].children;
    say(term, name);
    say(cell, value);
    term.className = cell.className = mood ?? "";
  });
}

/** Rows stay, so that the focus does. */
function showTable() {
  const body = $("servers").tBodies[0];
  const rows = new Map([...body.rows].map((row) => [row.dataset.name, row]));
  servers.forEach((server, index) => {
    let row = rows.get(server.name);
    if (!row) {
      const button = element("button", { type: "button", class: "link", on: { click: () => choose(server.name) } }, server.name);
      row = element("tr", { "data-name": server.name }, element("th", { scope: "row" }, button), ...Array.from({ length: 9 }, () => element("td")));
    }
    rows.delete(server.name);
    const gone = server.standing === "gone";
    const { told } = server;
    const cells = [
      gone ? "not there" : server.standing, gone ? "" : count(server.devices), count(server.messages), gone ? "" : `${Math.round(server.load * 100)} %`,
      count(server.inbox), count(server.held), server.cpu === null ? "–" : `${Math.round(server.cpu * 100)} %`, bytes(server.memory),
      server.asked ? "(asked)" : told.cost_us === null ? "none" : `${span(told.cost_us)}${told.via === server.name ? "" : ` via ${told.via}`}`,
    ];
    cells.forEach((text, column) => say(row.cells[column + 1], text));
    row.cells[1].className = `state ${server.standing}`;
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
  });
  for (const row of rows.values()) row.remove();
}

// ---- What is asked -------------------------------------------------------------------------------------------------

async function look() {
  const [mesh, figures] = await Promise.all([ask("/v1/mesh"), ask("/v1/mesh/history", { query: { points: 3 } })]);
  return { mesh, figures };
}

async function refresh() {
  clearTimeout(timer);
  const mine = life;
  try {
    const { mesh, figures } = await look();
    if (mine !== life) return;
    shown = picture(mesh, figures);
    servers = shown.servers;
    $("mesh").classList.remove("stale");
    const draining = servers.some(({ standing }) => standing === "draining");
    if (!draining && news) news = "";
    say($("status"), news || `As ${mesh.node_id} sees it`);
    show();
    showSummary();
    showTable();
    const server = servers.find(({ name }) => name === chosen);
    if (server) {
      panel.update(server);
      figures.servers.forEach((told) => panel.add(told));
    } else if (chosen) {
      choose("");
    }
  } catch (error) {
    if (mine !== life) return;
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401 || error.status === 403) return signOut(error.message);
    // What is shown is old, and says so.
    $("mesh").classList.add("stale");
    say($("status"), `${error.message} Trying again; this is how it was.`);
  }
  timer = setTimeout(() => void refresh(), document.hidden ? EVERY_MS * 15 : EVERY_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !$("mesh").hidden) void refresh();
});

// ---- Who asks ------------------------------------------------------------------------------------------------------

function signOut(problem = "") {
  life++;
  clearTimeout(timer);
  keepKey(undefined);
  choose("");
  $("mesh").hidden = $("sign-out").hidden = $("summary").hidden = true;
  $("entrance").hidden = false;
  say($("status"), "");
  say($("problem"), problem);
  $("key").value = "";
  $("key").focus();
}

async function signIn() {
  life++;
  $("entrance").hidden = true;
  $("mesh").hidden = $("sign-out").hidden = false;
  say($("status"), "Asking …");
  await refresh();
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  if (!key) return;
  keepKey(key);
  $("problem").textContent = "";
  void signIn();
});
$("sign-out").addEventListener("click", () => signOut());

const both = commands(location.origin, [], { path: "/v1/mesh" });
$("table-shell").append(copyable("with sparkmesh", both.sparkmesh), copyable("with curl", both.curl));

if (findKey()) void signIn();
else signOut();
// A link with a key that is opened in a tab that is here already.
addEventListener("hashchange", () => {
  if (location.hash.startsWith("#key=") && findKey()) void signIn();
});
