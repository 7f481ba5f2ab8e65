// What this browser remembers: whom one has been in which room, and what was said there. Each tab is one of these people,
// a device of its own, also after a reload; who is nobody's tab now can come back.

/** So many people are remembered, and so much of what was said to each. */
const PEOPLE = 5;
const ITEMS = 200;

/** @typedef {{node: string, name: string, room: string, anonymous: boolean}} Who */
/** @typedef {{id: string, kind: "message" | "notice", from?: string, node?: string, mine?: boolean, to?: string, text: string, at: number, state?: string, title?: string}} Item */

const read = (key) => JSON.parse(localStorage.getItem(`chat/${key}`) ?? "null");
const write = (key, value) => localStorage.setItem(`chat/${key}`, JSON.stringify(value));

/** The newest first. @returns {Who[]} */
export const people = () => read("people") ?? [];

/** Who this tab is, if it has been somebody. */
export function thisTab() {
  const node = sessionStorage.getItem("chat/me");
  return people().find((who) => who.node === node);
}

/** From now on this tab is `who`. @param {Who} who */
export function become(who) {
  sessionStorage.setItem("chat/me", who.node);
  const [others, older] = [people().filter(({ node }) => node !== who.node), []];
  while (others.length >= PEOPLE) older.push(others.pop());
  write("people", [who, ...others]);
  older.forEach(({ node }) => erase(node));
}

/** @param {Who} who */
export function forget(who) {
  sessionStorage.removeItem("chat/me");
  write("people", people().filter(({ node }) => node !== who.node));
  erase(who.node);
}

function erase(node) {
  localStorage.removeItem(`chat/items/${node}`);
  indexedDB.deleteDatabase(`sparkmesh-${node}`);
}

/** @returns {Item[]} */
export const itemsOf = (node) => read(`items/${node}`) ?? [];

/** Keeps the newest, and fewer where the browser has no room for so many. @param {Item[]} items */
export function keepItems(node, items) {
  for (let count = ITEMS; count > 0; count >>= 1) {
    try {
      return write(`items/${node}`, items.slice(-count));
    } catch {
      // Over the browser's quota.
    }
  }
}

/** A new device of a person of this name. */
export function deviceOf(name, room, anonymous) {
  const random = [...crypto.getRandomValues(new Uint8Array(4))].map((byte) => byte.toString(36).padStart(2, "0")).join("");
  return { node: `${name}.${random}`, name, room, anonymous };
}

const lockOf = (node) => `chat/${node}`;

/** Makes this tab the only one that is `node`. A tab that was duplicated thinks that it is the other one: false then. */
export async function claim(node) {
  if (!navigator.locks) return true;
  return new Promise((resolve) => {
    const options = { signal: AbortSignal.timeout(1500) };
    navigator.locks.request(lockOf(node), options, () => (resolve(true), new Promise(() => {}))).catch(() => resolve(false));
  });
}

/** Who is nobody's tab now. */
export async function idle() {
  const { held = [] } = (await navigator.locks?.query()) ?? {};
  const names = new Set(held.map(({ name }) => name));
  return people().filter(({ node }) => !names.has(lockOf(node)));
}
