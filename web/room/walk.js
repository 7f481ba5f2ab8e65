// How people move: where a step leads, what lies between two positions that were told, and in which corner somebody is. Pure.

/** The room, in its own units. */
export const SIZE = { width: 1000, height: 600 };
/** As near as an avatar comes to a wall. */
const MARGIN = 34;
/** Units in a second. */
const SPEED = 340;
/** How fast a picture follows what was told: most of the way in so many milliseconds. */
const FOLLOW_MS = 70;
/** A jump further than this is not walked. */
const FAR = 420;

export const CORNERS = [
  { name: "at the desks", title: "Desks", x: 30, y: 30, width: 430, height: 300 },
  { name: "in the meeting room", title: "Meeting room", x: 620, y: 30, width: 350, height: 210 },
  { name: "in the kitchen", title: "Kitchen", x: 700, y: 370, width: 270, height: 200 },
  { name: "on the sofa", title: "Sofa", x: 30, y: 420, width: 300, height: 150 },
];

const within = (value, least, most) => Math.min(most, Math.max(least, value));

/** Inside the walls. @param {{x: number, y: number}} place */
export function inside({ x, y }) {
  return { x: within(x, MARGIN, SIZE.width - MARGIN), y: within(y, MARGIN, SIZE.height - MARGIN) };
}

/** What somebody has told, if it is a place: nothing that a peer sends is trusted. @param {any} told */
export function placeIn(told) {
  if (!told || typeof told !== "object" || !Number.isFinite(told.x) || !Number.isFinite(told.y)) return undefined;
  return inside(told);
}

/**
 * One step, by the keys that are held down or towards a goal.
 * @param {{x: number, y: number}} at @param {{x: number, y: number}} direction of keys, -1..1 each
 * @param {{x: number, y: number} | undefined} goal @param {number} ms
 */
export function step(at, direction, goal, ms) {
  const reach = (SPEED * Math.min(ms, 100)) / 1000;
  const wish = direction.x || direction.y ? { x: direction.x * 1e4, y: direction.y * 1e4 } : goal && { x: goal.x - at.x, y: goal.y - at.y };
  if (!wish) return at;
  const length = Math.hypot(wish.x, wish.y);
  if (length <= reach || length === 0) return inside({ x: at.x + wish.x, y: at.y + wish.y });
  return inside({ x: at.x + (wish.x / length) * reach, y: at.y + (wish.y / length) * reach });
}

/** Where to show somebody who was shown at `shown` and has told to be at `told`. */
export function follow(shown, told, ms) {
  const [x, y] = [told.x - shown.x, told.y - shown.y];
  const distance = Math.hypot(x, y);
  if (distance > FAR || distance < 0.3) return { ...told };
  const share = 1 - Math.exp(-ms / FOLLOW_MS);
  return { x: shown.x + x * share, y: shown.y + y * share };
}

/** @param {{x: number, y: number} | undefined} place */
export function cornerOf(place) {
  if (!place) return "somewhere";
  const corner = CORNERS.find(({ x, y, width, height }) => place.x >= x && place.x <= x + width && place.y >= y && place.y <= y + height);
  return corner?.name ?? "in the open";
}

/** A colour of one's own, the same for everybody. @param {string} node */
export function hueOf(node) {
  let hash = 0;
  for (const letter of node) hash = (hash * 31 + letter.codePointAt(0)) >>> 0;
  return (hash * 137) % 360;
}
