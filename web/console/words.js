// How figures and states are said to a person, and commands to a shell. Pure.

/** @param {number | null | undefined} value */
export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10_000_000) return `${Math.round(value / 1e6)} M`;
  if (value >= 1_000_000) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 10_000) return `${Math.round(value / 1000)} k`;
  if (value >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return value.toFixed(1);
}

/** @param {number | null | undefined} value */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  for (const [unit, size] of /** @type {const} */ ([["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])) {
    if (value >= size) return `${(value / size).toFixed(value >= 10 * size ? 0 : 1)} ${unit}`;
  }
  return `${Math.round(value)} B`;
}

/** A time in microseconds. @param {number | null | undefined} us */
export function span(us) {
  if (us === null || us === undefined) return "–";
  if (us < 1000) return `${Math.round(us)} µs`;
  return us < 1e6 ? `${(us / 1000).toFixed(us < 10_000 ? 1 : 0)} ms` : `${(us / 1e6).toFixed(1)} s`;
}

/** @param {number} then @param {number} now */
export function ago(then, now) {
  const seconds = Math.max(0, Math.round((now - then) / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86_400)} days ago`;
}

/** A word of the command line, whatever is in it. @param {string} word */
export function quoted(word) {
  return /^[A-Za-z0-9_.:@%+=/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

const parameters = (query) => new URLSearchParams(query).toString();

/**
 * The same from a shell: with our program, and with curl. The key is in the environment, not in the command.
 * @param {string} url @param {string[]} words @param {{method?: string, path: string, query?: Record<string, string>}} request
 */
export function commands(url, words, { method = "GET", path, query = {} }) {
  const full = `${url}${path}${Object.keys(query).length > 0 ? `?${parameters(query)}` : ""}`;
  const verb = method === "GET" ? "" : ` -X ${method}`;
  return {
    sparkmesh: ["sparkmesh", "mesh", url, ...words].map(quoted).join(" "),
    curl: `curl${verb} -H "Authorization: Bearer $SPARKMESH_KEY" ${quoted(full)}`,
  };
}

/** What a state of a server means. */
export const STANDINGS = {
  serving: "serves",
  returning: "returning: takes over what others did for it",
  draining: "draining: sends its devices away, then ends",
  leaving: "leaving: gives away what it keeps",
  empty: "empty: may be stopped",
  gone: "not there: it has ended, or cannot be reached",
};

/** One place of an envelope, in a sentence. */
export function sighted(found) {
  const at = found.node_id;
  const whose = found.device ? ` for ${found.device}` : "";
  switch (found.state) {
    case "waits": return `waits at ${at}${whose}, for the device's connection to take it`;
    case "written": return `was written to the connection at ${at}${whose}, and is not acknowledged yet`;
    case "sent_on": return `is with ${found.to}${whose}: ${at} has sent it there, answers for it and waits to hear`;
    case "asks_for_devices": return `waits at ${at} until it is known which devices its recipient has`;
    case "posted": return `is with whoever acts for ${found.to}; ${at} answers for it until then`;
    case "storing": return `is on its way from ${at} into the inbox${whose}${found.to ? ` at ${found.to}` : ""}`;
    case "inbox": return `is on disk at ${at}, in the inbox${whose}, place ${found.seq}`;
    case "held": return `is held on disk at ${at}${whose}, until the inbox's home can be reached`;
    case "delivered": return `was delivered${whose}: ${at} has its acknowledgement`;
    case "stored": return `went into the inbox${whose}: ${at} was told that it is on disk`;
    case "dropped": return `was dropped at ${at}${whose}: nobody was there for it, or its time was over`;
    case "failed": return `came to nothing at ${at}${whose}: its sender was told so`;
    default: return `${found.state} at ${at}${whose}`;
  }
}
