// The mesh as it is shown: what the servers' answers say, put together. Pure.
import { latest, rate } from "./rates.js";
import { links } from "./layout.js";

/** Bytes that wait for a link from which on that is worth a look. */
export const QUEUED = 64 * 1024;

/**
 * @typedef {object} Server
 * @property {string} name
 * @property {keyof typeof import("./words.js").STANDINGS} standing
 * @property {boolean} asked Whether this is the server that tells.
 * @property {boolean} silent It can be reached, and did not tell its figures.
 * @property {any} told As `/v1/mesh` has it.
 * @property {number} devices
 * @property {number} load Of the connections that it takes, the share that is taken.
 * @property {number | null} messages A second.
 * @property {number | null} cpu Of one processor.
 * @property {number | null} memory
 * @property {number | null} inbox
 * @property {number | null} held
 * @property {{peer: string, cost: number, queue: number, unacknowledged: number, up: boolean}[]} links
 */

/** `draining` and the like; what is not there is gone, whatever it said last. */
export function standing(server) {
  if (!server.reachable || server.standing === "departed") return "gone";
  return server.standing;
}

/** How many messages a second come in from senders. @param {import("./rates.js").History} history */
export const messages = (history) => latest(rate(history, "received"));

/**
 * @param {any} mesh `/v1/mesh` @param {any} figures `/v1/mesh/history`
 * @returns {{servers: Server[], links: ReturnType<typeof links>}}
 */
export function picture(mesh, figures) {
  const told = new Map(figures.servers.map((server) => [server.node_id, server]));
  const silent = new Set(figures.silent);
  const servers = mesh.servers.map((server) => {
    const of = told.get(server.node_id);
    const history = of?.history ?? { at: [] };
    const last = (figure) => history[figure]?.at(-1) ?? null;
    const cpu = latest(rate(history, "cpu_us"));
    const level = new Map((of?.links ?? []).map((link) => [link.peer, link]));
    return {
      name: server.node_id,
      standing: standing(server),
      asked: server.node_id === mesh.node_id,
      silent: silent.has(server.node_id),
      told: server,
      devices: server.attachments,
      load: server.max_connections > 0 ? server.connections / server.max_connections : 0,
      messages: of ? messages(history) : null,
      cpu: cpu === null ? null : cpu / 1e6,
      memory: last("memory_bytes"),
      inbox: last("inbox_envelopes"),
      held: last("held_envelopes"),
      links: server.links.map((link) => ({
        peer: link.peer,
        cost: link.cost_us,
        up: link.state === "up",
        queue: level.get(link.peer)?.queue_bytes ?? link.queue_bytes ?? 0,
        unacknowledged: level.get(link.peer)?.unacknowledged_bytes ?? link.unacknowledged_bytes ?? 0,
      })),
    };
  });
  const gone = new Set(servers.filter((server) => server.standing === "gone").map((server) => server.name));
  const drawn = links(mesh.servers).filter(({ a, b }) => !gone.has(a) && !gone.has(b));
  for (const link of drawn) {
    const ends = servers.filter((server) => server.name === link.a || server.name === link.b);
    const queues = ends.flatMap((server) => server.links.filter(({ peer }) => peer === link.a || peer === link.b));
    link.queue = queues.reduce((sum, { queue }) => sum + queue, 0);
  }
  return { servers, links: drawn };
}

/** The mesh in a sentence. @param {Server[]} servers */
export function summary(servers) {
  const sum = (pick) => servers.reduce((all, server) => all + (pick(server) ?? 0), 0);
  const gone = servers.filter((server) => server.standing === "gone").length;
  return {
    servers: servers.length,
    gone,
    unsettled: servers.filter((server) => !["gone", "serving"].includes(server.standing)).length,
    devices: sum((server) => server.devices),
    messages: sum((server) => server.messages),
    inbox: sum((server) => server.inbox),
    held: sum((server) => server.held),
  };
}
