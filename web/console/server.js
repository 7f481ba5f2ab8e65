// One server: how it is, its figures over time, its links, and what can be done with it.
import { Refused, ask } from "./api.js";
import { Chart } from "./chart.js";
import { $, element, say, shell } from "./dom.js";
import { SPAN, each, level, merge, rate } from "./rates.js";
import { STANDINGS, bytes, commands, count, span } from "./words.js";

const percent = (value) => (value === null ? "–" : `${Math.round(value * 100)} %`);

/** The panel of the chosen server. */
export class ServerPanel {
  #where;
  /** @type {import("./mesh.js").Server | undefined} */
  #server;
  /** @type {import("./rates.js").History | undefined} */
  #history;
  #drained;
  #parts;

  /** @param {HTMLElement} where @param {(message: string) => void} drained */
  constructor(where, drained) {
    this.#where = where;
    this.#drained = drained;
    $("drain-yes").addEventListener("click", () => void this.#drain());
  }

  get name() {
    return this.#server?.name ?? "";
  }

  /** Another server. @param {import("./mesh.js").Server} server */
  async choose(server) {
    this.#server = server;
    this.#history = undefined;
    this.#build(server);
    this.update(server);
    try {
      const { servers } = await ask("/v1/mesh/history", { query: { server: server.name, points: SPAN } });
      if (this.name === server.name && servers[0]) this.add(servers[0]);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      // It is gone, or about to be: what is known is shown.
    }
  }

  close() {
    this.#server = undefined;
    this.#where.hidden = true;
  }

  #build(server) {
    const charts = {
      messages: new Chart("Messages/s", count, { lines: [{ name: "in", class: "first" }, { name: "out", class: "second" }], least: 10, wide: true }),
      connections: new Chart("Connections", count, { least: 10 }),
      inbox: new Chart("In inboxes", count, { least: 10 }),
      queues: new Chart("In queues", bytes, { least: 10_000 }),
      commit: new Chart("Commit time", span, { least: 1000 }),
      cpu: new Chart("Processor", percent, { least: 0.1 }),
      memory: new Chart("Memory", bytes, { least: 10e6 }),
    };
    const drain = element("button", { type: "button", class: "danger", on: { click: () => this.#askToDrain() } }, "Drain …");
    const close = element("button", { type: "button", class: "small", on: { click: () => this.closed?.() } }, "Close");
    const parts = { charts, drain, standing: element("p", { class: "standing" }), facts: element("dl", { class: "facts" }), links: element("tbody") };
    this.#parts = parts;
    this.#where.hidden = false;
    this.#where.replaceChildren(
      element("div", { class: "panel-head" }, element("h2", { id: "server-title", tabindex: -1 }, server.name), close),
      parts.standing,
      element("div", { class: "charts" }, ...Object.values(charts).map((chart) => chart.element)),
      parts.facts,
      element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Links of ${server.name}` }, element("table", { class: "plain" },
        element("caption", { class: "unseen" }, `Links of ${server.name}`),
        element("thead", {}, element("tr", {}, ...["Link to", "Cost", "Waits", "Not acknowledged"].map((head) => element("th", { scope: "col" }, head)))),
        parts.links)),
      element("div", { class: "do" }, drain),
      shell(commands(location.origin, ["drain", server.name], { method: "POST", path: "/v1/drain", query: { server: server.name } })));
  }

  /** @param {import("./mesh.js").Server} server */
  update(server) {
    this.#server = server;
    const { told } = server;
    const parts = this.#parts;
    parts.standing.className = `standing ${server.standing}`;
    say(parts.standing, `${server.name} ${STANDINGS[server.standing]}${server.silent ? "; it does not tell its figures" : ""}.`);
    parts.drain.disabled = ["gone", "draining"].includes(server.standing);
    const facts = [
      ["Address", told.addr ? `${told.addr}:${told.port}` : "not known"],
      ["Region", told.region],
      ["Start", told.incarnation],
      ["Connections", told.incarnation === null ? undefined : `${told.connections} of ${told.max_connections}`],
      ["Home of", `${(told.homes * 100).toFixed(1)} % of all ids`],
      ["Held mail", server.held === null ? undefined : String(server.held)],
      ["Way there", server.asked ? "(this page is from it)" : told.cost_us === null ? "none" : `${span(told.cost_us)}${told.via === server.name ? "" : ` via ${told.via}`}`],
    ].filter(([, value]) => value !== undefined && value !== null);
    parts.facts.replaceChildren(...facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]));
    parts.links.replaceChildren(...server.links.map((link) => element("tr", { class: link.up ? undefined : "one-sided" },
      element("th", { scope: "row" }, link.peer), element("td", {}, link.up ? span(link.cost) : "one end only"),
      element("td", {}, bytes(link.queue)), element("td", {}, bytes(link.unacknowledged)))));
    this.#draw();
  }

  /** What it has told of itself. */
  add(told) {
    if (told.node_id !== this.name) return;
    this.#history = merge(this.#history, told.history);
    this.#clock = told.now - Date.now();
    this.#draw();
  }

  #clock = 0;

  #draw() {
    const history = this.#history;
    if (!history) return;
    const now = Math.max(history.at.at(-1) ?? 0, Date.now() + this.#clock);
    const { charts } = this.#parts;
    const show = (chart, ...values) => chart.show(history.at, values, now);
    show(charts.messages, rate(history, "received"), rate(history, "delivered"));
    show(charts.connections, level(history, "connections"));
    show(charts.inbox, level(history, "inbox_envelopes"));
    show(charts.queues, level(history, "queue_bytes"));
    show(charts.commit, each(history, "commit_us", "commits"));
    show(charts.cpu, rate(history, "cpu_us").map((value) => (value === null ? null : value / 1e6)));
    show(charts.memory, level(history, "memory_bytes"));
  }

  #askToDrain() {
    const { name, devices } = /** @type {import("./mesh.js").Server} */ (this.#server);
    say($("drain-title"), `Drain ${name}?`);
    say($("drain-text"), `Its ${devices} devices are sent to other servers, what it has not delivered is made durable, and then the server ends. It does not start again by itself.`);
    $("drain-problem").textContent = "";
    $("drain").showModal();
  }

  async #drain() {
    const server = this.name;
    try {
      await ask("/v1/drain", { method: "POST", query: { server } });
      $("drain").close();
      this.#drained(`${server} drains.`);
    } catch (error) {
      say($("drain-problem"), error.message);
    }
  }
}
