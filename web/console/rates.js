// Figures over time: from counters to rates, and how readings of a server are put together. Pure.

/**
 * Readings as a server tells them: columns of equal length, one of them `at`.
 * @typedef {{at: number[], [figure: string]: number[]}} History
 */

/** Readings that are shown: ten minutes. */
export const SPAN = 300;
/** Readings further apart than this are not of one line: the server was away, or nobody asked. */
export const GAP_MS = 10_000;

/**
 * `known` and what has come since; what both have is taken from `news`. A clock that went back begins anew.
 * @param {History | undefined} known @param {History} news @returns {History}
 */
export function merge(known, news) {
  if (!known || known.at.length === 0 || news.at.length === 0) return news.at.length === 0 && known ? known : news;
  const first = news.at[0];
  const last = news.at[news.at.length - 1];
  if (last < known.at[known.at.length - 1]) return news;
  const keep = known.at.filter((at) => at < first).length;
  const merged = {};
  for (const figure of Object.keys(news)) {
    merged[figure] = [...(known[figure] ?? []).slice(0, keep), ...news[figure]].slice(-SPAN);
  }
  return /** @type {History} */ (merged);
}

/**
 * How fast a counter grows, per second, between each reading and the one before; `null` where that is not known: at the
 * beginning, after a gap, and where the process has started anew.
 * @param {History} history @param {string} figure @returns {(number | null)[]}
 */
export function rate(history, figure) {
  const counts = history[figure] ?? [];
  return history.at.map((at, index) => {
    if (index === 0 || index >= counts.length) return null;
    const [time, more] = [at - history.at[index - 1], counts[index] - counts[index - 1]];
    return time > 0 && time <= GAP_MS && more >= 0 ? (more * 1000) / time : null;
  });
}

/**
 * Of two counters: how much of `total` came for each of `count` since the reading before; `null` where nothing came.
 * @param {History} history @param {string} total @param {string} count @returns {(number | null)[]}
 */
export function each(history, total, count) {
  const [totals, counts] = [rate(history, total), rate(history, count)];
  return totals.map((sum, index) => (sum !== null && counts[index] ? sum / /** @type {number} */ (counts[index]) : null));
}

/** A level as it was told. @param {History} history @param {string} figure @returns {(number | null)[]} */
export function level(history, figure) {
  const values = history[figure] ?? [];
  return history.at.map((_, index) => values[index] ?? null);
}

/** The last that is known. @param {(number | null)[]} values @returns {number | null} */
export function latest(values) {
  return values.findLast((value) => value !== null) ?? null;
}

/** What a picture of these goes up to: a round number that none exceeds. @param {(number | null)[]} values */
export function ceiling(values, least = 1) {
  const most = Math.max(least, ...values.map((value) => value ?? 0));
  const unit = 10 ** Math.floor(Math.log10(most));
  const step = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((factor) => factor * unit >= most) ?? 10;
  return step * unit;
}
