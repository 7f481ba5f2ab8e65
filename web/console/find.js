// Looking for a device, and for a message: the answer in words, and in the picture.
import { ask } from "./api.js";
import { $, element, say, shell } from "./dom.js";
import { ago, bytes, commands, count, sighted } from "./words.js";

const IN_PUSH = { sent: "was sent", retried: "failed, and is tried again", dead_token: "failed: the token is dead", refused: "was refused", gave_up: "was given up", broken: "failed: push is not set up right" };

function facts(pairs) {
  return element("dl", { class: "facts" }, ...pairs.filter(([, value]) => value !== undefined).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

/** What is known of a device. @param {any} told */
function device(told) {
  const edges = told.servers.flatMap((server) => server.edges.map((edge) => ({ server: server.node_id, ...edge })));
  const sent = told.servers.filter((server) => server.sent_on?.envelopes > 0);
  const last = told.last_push;
  const parts = [
    element("p", { class: "verdict" }, edges.length === 0 ? `${told.node_id} is not connected.` : `${told.node_id} is connected at ${[...new Set(edges.map(({ server }) => server))].join(", ")}.`),
    facts([
      ["Client", told.client_id ?? undefined],
      ["Inbox", `${count(told.pending)} waiting, at ${told.home}`],
      ["Acting", told.acting === told.home ? undefined : told.acting ? `${told.acting}, while ${told.home} cannot be reached` : "nobody: its home cannot be reached, and neither can its deputy"],
      ["Push", told.push_providers.length > 0 ? told.push_providers.join(", ") : "no tokens"],
      ["Last push", last ? `by ${last.provider} ${ago(last.at, Date.now())}: it ${IN_PUSH[last.outcome] ?? last.outcome}` : "none that is remembered"],
    ]),
  ];
  if (edges.length > 0) {
    parts.push(element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Connections of the device" }, element("table", { class: "plain" },
      element("caption", { class: "unseen" }, "Connections of the device"),
      element("thead", {}, element("tr", {}, ...["At", "State", "Waiting", "Not acknowledged", "Queue"].map((head) => element("th", { scope: "col" }, head)))),
      element("tbody", {}, ...edges.map((edge) => element("tr", {}, element("th", { scope: "row" }, edge.server), element("td", {}, edge.state),
        element("td", {}, count(edge.waiting)), element("td", {}, count(edge.unacknowledged)), element("td", {}, bytes(edge.queue_bytes))))))));
  }
  for (const { node_id, sent_on } of sent) {
    parts.push(element("p", {}, `${node_id} has sent ${count(sent_on.envelopes)} messages (${bytes(sent_on.bytes)}) to ${sent_on.to} that are not answered for.`));
  }
  const marks = new Map(edges.map(({ server }) => [server, "connected here"]));
  marks.set(told.home, marks.has(told.home) ? "connected, inbox here" : "inbox here");
  return { parts, marks, path: [] };
}

/** Those that are about now, before those that are remembered. */
const REMEMBERED = ["delivered", "stored", "dropped", "failed"];

/** Where a message is. @param {any} told */
function message(told) {
  const found = [...told.found].sort((a, b) => Number(REMEMBERED.includes(a.state)) - Number(REMEMBERED.includes(b.state)));
  const parts = [];
  if (found.length === 0) {
    parts.push(element("p", { class: "verdict" }, `No server knows of message ${told.id} of ${told.sender} any more: it was confirmed and forgotten, or it was never here.`),
      element("p", { class: "hint" }, "What was delivered is remembered for five minutes, and only where its sender gave it an id. The sender is named as recipients see it."));
  } else {
    parts.push(element("p", { class: "verdict" }, `Message ${told.id} of ${told.sender}:`),
      element("ul", { class: "found" }, ...found.map((one) => {
        const way = one.path?.length > 1 ? ` Way: ${one.path.join(" → ")}.` : "";
        const answers = one.custodian === true && one.state !== "sent_on" && one.state !== "posted" ? ` ${one.node_id} answers for it.` : "";
        return element("li", { class: REMEMBERED.includes(one.state) ? "was" : "is" }, `${sighted(one)}.${answers}${way}`);
      })));
  }
  const marks = new Map();
  for (const one of found) {
    if (!marks.has(one.node_id)) marks.set(one.node_id, { inbox: "in an inbox", held: "held", delivered: "delivered" }[one.state] ?? "knows of it");
  }
  return { parts, marks, path: found.find((one) => one.path)?.path ?? [] };
}

function unsure(told) {
  const parts = [];
  if (told.silent?.length > 0) parts.push(element("p", { class: "hint" }, `Did not answer: ${told.silent.join(", ")}.`));
  if (told.incomplete?.length > 0) parts.push(element("p", { class: "hint" }, `Too much mail to look through all of it in time at ${told.incomplete.join(", ")}: name the recipient.`));
  return parts;
}

/** Wires the two forms. @param {import("./graph.js").Graph} graph */
export function find(graph) {
  const result = $("found");
  let latest = 0;

  const look = async (what, request, words, show) => {
    const number = ++latest;
    say($("find-status"), "Asking all servers …");
    try {
      const told = await ask(request.path, request);
      if (number !== latest) return;
      const { parts, marks, path } = show(told);
      const again = element("button", { type: "button", class: "small", on: { click: () => void look(what, request, words, show) } }, "Look again");
      const close = element("button", { type: "button", class: "small", on: { click: clear } }, "Close");
      result.hidden = false;
      result.replaceChildren(element("div", { class: "panel-head" }, element("h3", {}, what), again, close), ...parts, ...unsure(told),
        element("p", { class: "hint" }, `As of ${new Date().toLocaleTimeString()}.`), shell(commands(location.origin, words, request)));
      graph.mark(marks, path);
      say($("find-status"), "");
    } catch (error) {
      if (number !== latest) return;
      clear();
      say($("find-status"), error.message);
    }
  };
  const clear = () => {
    latest++;
    result.hidden = true;
    result.replaceChildren();
    graph.mark();
    say($("find-status"), "");
  };

  $("find-device").addEventListener("submit", (event) => {
    event.preventDefault();
    const id = $("device").value.trim();
    if (id) void look("Device", { path: `/v1/nodes/${encodeURIComponent(id)}/edges` }, ["device", id], device);
  });
  $("find-message").addEventListener("submit", (event) => {
    event.preventDefault();
    const [sender, id, recipient] = ["sender", "message", "recipient"].map((name) => $(name).value.trim());
    if (!sender || !id) return say($("find-status"), "A message is named by its sender and its id.");
    const query = { sender, id, ...(recipient && { device: recipient }) };
    const words = ["where", "--sender", sender, "--id", id, ...(recipient ? ["--device", recipient] : [])];
    void look("Message", { path: "/v1/mesh/where", query }, words, message);
  });
}
