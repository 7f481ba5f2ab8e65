// Where servers stand in the picture: the same servers always in the same places. Pure; places are within 0..1.

/** @typedef {{x: number, y: number}} Place */
/** @typedef {{key: string, shape: "ring" | "web", places: Map<string, Place>}} Layout */

/** Names with numbers in them, as people count. */
const byName = (a, b) => a.localeCompare(b, "en", { numeric: true });

/** From this share of all possible links on, a ring with its chords says more than a web. */
const DENSE = 0.4;

/** How strongly all are held in the middle of a web. */
const GRAVITY = 4;

/**
 * The layout for these servers and links. What was there before stays where it was; it is only laid out anew when the servers
 * are others, or linked in a way that was not known.
 * @param {readonly string[]} servers @param {readonly (readonly [string, string])[]} links @param {Layout | undefined} before
 * @returns {Layout}
 */
export function layout(servers, links, before = undefined) {
  const names = [...servers].sort(byName);
  const key = names.join("\n");
  if (before?.key === key && before.shape === "ring") return before;
  const linked = new Set(links.flat());
  const alive = names.filter((name) => linked.has(name)).length;
  const pairs = (alive * (alive - 1)) / 2;
  const unknown = !before || links.some(([a, b]) => !before.places.has(a) || !before.places.has(b));
  if (before?.key === key && !unknown) return before;
  const dense = names.length <= 3 || pairs === 0 || links.length >= DENSE * pairs;
  return dense ? { key, shape: "ring", places: ring(names) } : { key, shape: "web", places: web(names, links, before) };
}

/** @param {readonly string[]} names @returns {Map<string, Place>} */
function ring(names) {
  if (names.length === 1) return new Map([[names[0], { x: 0.5, y: 0.5 }]]);
  return spread(names, names.map((_, index) => {
    // The first on top, then clockwise; two stand side by side.
    const angle = (2 * Math.PI * index) / names.length - (names.length === 2 ? Math.PI : Math.PI / 2);
    return { x: Math.cos(angle), y: Math.sin(angle) };
  }));
}

/**
 * Links pull, servers push each other away (Fruchterman and Reingold). Begins on a ring, so that it is the same each time.
 * @param {readonly string[]} names @param {readonly (readonly [string, string])[]} links @param {Layout | undefined} before
 * @returns {Map<string, Place>}
 */
function web(names, links, before) {
  const start = ring(names);
  const known = before?.shape === "web" ? before.places : new Map();
  const at = names.map((name) => ({ ...(known.get(name) ?? start.get(name)) }));
  const index = new Map(names.map((name, number) => [name, number]));
  const ends = links.map(([a, b]) => [index.get(a), index.get(b)]).filter(([a, b]) => a !== undefined && b !== undefined);
  const distance = Math.sqrt(1 / names.length);
  const rounds = known.size > 0 ? 80 : 400;
  for (let round = 0; round < rounds; round++) {
    const moves = at.map(() => ({ x: 0, y: 0 }));
    for (let a = 0; a < at.length; a++) {
      for (let b = a + 1; b < at.length; b++) {
        const [x, y] = [at[a].x - at[b].x || 1e-3, at[a].y - at[b].y || 1e-3];
        const force = (distance * distance) / Math.max(x * x + y * y, 1e-4);
        moves[a].x += x * force;
        moves[a].y += y * force;
        moves[b].x -= x * force;
        moves[b].y -= y * force;
      }
    }
    for (const [a, b] of ends) {
      const [x, y] = [at[a].x - at[b].x, at[a].y - at[b].y];
      const force = Math.hypot(x, y) / distance;
      moves[a].x -= x * force;
      moves[a].y -= y * force;
      moves[b].x += x * force;
      moves[b].y += y * force;
    }
    // Those that nobody is linked to must not drift away, nor the others from each other.
    at.forEach((place, number) => {
      moves[number].x -= (place.x - 0.5) * GRAVITY;
      moves[number].y -= (place.y - 0.5) * GRAVITY;
    });
    const heat = (known.size > 0 ? 0.02 : 0.1) * (1 - round / rounds);
    at.forEach((place, number) => {
      const length = Math.hypot(moves[number].x, moves[number].y) || 1;
      place.x += (moves[number].x / length) * Math.min(length, heat);
      place.y += (moves[number].y / length) * Math.min(length, heat);
    });
  }
  return spread(names, at);
}

/** The smallest distance between two of these places, in the units of `scale`. @param {Iterable<Place>} places */
export function closest(places, scale = { x: 1, y: 1 }) {
  const all = [...places].map(({ x, y }) => [x * scale.x, y * scale.y]);
  let least = Infinity;
  for (let a = 0; a < all.length; a++) {
    for (let b = a + 1; b < all.length; b++) least = Math.min(least, Math.hypot(all[a][0] - all[b][0], all[a][1] - all[b][1]));
  }
  return least;
}

/** As far apart as there is room. */
function spread(names, at) {
  const range = (pick) => {
    const values = at.map(pick);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    return { least, size: most - least };
  };
  const [x, y] = [range((place) => place.x), range((place) => place.y)];
  const within = (value, { least, size }) => (size > 1e-6 ? (value - least) / size : 0.5);
  return new Map(names.map((name, number) => [name, { x: within(at[number].x, x), y: within(at[number].y, y) }]));
}

/** Each link once, though both ends tell of it. @returns {{a: string, b: string, cost: number, up: boolean, queue: number}[]} */
export function links(servers) {
  const found = new Map();
  for (const server of servers) {
    for (const link of server.links) {
      const [a, b] = [server.node_id, link.peer].sort(byName);
      const one = found.get(`${a} ${b}`) ?? { a, b, cost: 0, up: true, queue: 0 };
      one.cost = Math.max(one.cost, link.cost_us);
      one.up &&= link.state === "up";
      one.queue += link.queue_bytes ?? 0;
      found.set(`${a} ${b}`, one);
    }
  }
  return [...found.values()];
}
