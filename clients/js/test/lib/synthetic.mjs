// The answers of a mesh that nobody has to run: as many servers as one likes, in all states.

/** The same each time. @param {number} seed */
function chance(seed) {
  let state = seed >>> 0 || 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * @param {number} count of servers, of which the last is gone, and those before it drain and return
 * @param {"full" | "web"} shape each linked to all, or to a few
 */
export function synthetic(count, shape) {
  const random = chance(count);
  const name = (index) => `s${index + 1}`;
  const state = (index) => (index === count - 1 ? "departed" : index === count - 2 ? "draining" : index === count - 3 ? "returning" : "serving");
  const linked = (a, b) => {
    if (a === b || state(a) === "departed" || state(b) === "departed") return false;
    if (shape === "full") return true;
    const apart = Math.abs(a - b);
    return apart === 1 || apart === 7 || (Math.min(a, b) % 9 === 0 && apart === 13);
  };
  const cost = (a, b) => 300 + ((Math.min(a, b) * 7919 + Math.max(a, b) * 104729) % 40) * 100;
  const servers = Array.from({ length: count }, (_, index) => ({
    node_id: name(index),
    member: true,
    reachable: state(index) !== "departed",
    standing: state(index),
    incarnation: state(index) === "departed" ? null : 3,
    addr: state(index) === "departed" ? null : `10.0.0.${index + 1}`,
    port: state(index) === "departed" ? null : 8080,
    tls: false,
    region: null,
    connections: Math.floor(random() * 9000),
    max_connections: 10_000,
    attachments: state(index) === "departed" ? 0 : Math.floor(random() * 9000),
    attachment_number: 1,
    homes: 1 / count,
    cost_us: index === 0 ? 0 : state(index) === "departed" ? null : cost(0, index),
    via: index === 0 || state(index) === "departed" ? null : name(index),
    links: Array.from({ length: count }, (_, other) => other).filter((other) => linked(index, other)).map((other) => ({
      peer: name(other),
      cost_us: cost(index, other),
      state: "up",
      ...(index === 0 && { queue_bytes: other === 4 ? 2_500_000 : 0, unacknowledged_bytes: 0, clock_offset_ms: 0 }),
    })),
  }));
  const mesh = { node_id: "s1", servers, members: servers.map(({ node_id }) => node_id), forgotten: [], pins: [], other_pins: [] };

  /** @param {URLSearchParams} query */
  function history(query) {
    const points = Number(query.get("points") ?? 30);
    const wanted = servers.filter(({ node_id, reachable }) => reachable && (!query.get("server") || query.get("server") === node_id));
    const now = Date.now();
    const told = wanted.map((server) => {
      const index = servers.indexOf(server);
      const at = Array.from({ length: points }, (_, point) => now - (points - 1 - point) * 2000);
      // Of the time, so that readings of one time are the same whenever they are told.
      const wave = (time, factor) => 1 + 0.5 * Math.sin(time / 40_000 + index) + 0.2 * Math.sin(time / (3100 * factor));
      const counter = (perSecond) => at.map((time) => Math.round(perSecond * (time / 1000 + 20 * Math.sin(time / 40_000 + index)) ) % 1e12);
      const level = (size, factor = 1) => at.map((time) => Math.round(size * wave(time, factor)));
      return {
        node_id: server.node_id,
        version: "0.1.0",
        now,
        links: [],
        history: {
          at, received: counter(400 + index * 20), delivered: counter(900 + index * 31), stored: counter(9), dropped: counter(1), relayed: counter(20),
          connections: level(server.connections), queue_bytes: level(90_000), inbox_envelopes: level(1200 + 70 * index), inbox_bytes: level(500_000),
          held_envelopes: at.map(() => 0), commits: counter(40), commit_us: counter(90_000), cpu_us: counter(180_000 + index * 4000), memory_bytes: level(90e6, 7),
        },
      };
    });
    return { servers: told, silent: [] };
  }
  return { mesh, history };
}
