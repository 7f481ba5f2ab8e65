// What is asked of the server that has served this page. The key goes in a header and nowhere else.

/** The server said no, or nothing. */
export class Refused extends Error {
  /** @param {number} status 0: there was no answer. @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const KEPT = "sparkmesh/console/key";

/** The key of this tab: from a link, whose part behind `#` no server sees, or from before a reload. */
export function findKey() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (given) {
    sessionStorage.setItem(KEPT, given);
    // Not to stay in sight, nor in the browser's history.
    history.replaceState(undefined, "", location.pathname);
  }
  return sessionStorage.getItem(KEPT);
}

export function keepKey(key) {
  if (key) sessionStorage.setItem(KEPT, key);
  else sessionStorage.removeItem(KEPT);
}

/**
 * @param {string} path @param {{method?: string, query?: Record<string, string | number>, patience?: number}} [how]
 */
export async function ask(path, { method = "GET", query = {}, patience = 8000 } = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, String(value));
  let answer;
  try {
    const headers = { authorization: `Bearer ${sessionStorage.getItem(KEPT)}` };
    answer = await fetch(url, { method, headers, cache: "no-store", signal: AbortSignal.timeout(patience) });
  } catch (error) {
    const why = error.name === "TimeoutError" ? `has not answered for ${patience / 1000} s` : "cannot be reached";
    throw new Refused(0, `The server at ${location.host} ${why}.`);
  }
  const body = await answer.json().catch(() => undefined);
  if (!answer.ok) throw new Refused(answer.status, body?.error?.message ?? `The server answers with status ${answer.status}.`);
  return body;
}
