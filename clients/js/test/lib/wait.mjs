// Waiting for what should happen, with an end to patience.

/** The first event of this type that `accept`s. @returns {Promise<any>} */
export function event(target, type, accept = (_) => true, ms = 15_000) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no "${type}" within ${ms} ms`)), ms);
    const off = target.on(type, (found) => {
      if (!accept(found)) return;
      clearTimeout(timer);
      off();
      resolve(found);
    });
  });
}

export async function until(what, holds, ms = 15_000) {
  const end = Date.now() + ms;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Collects the payloads of what arrives. */
export function collect(target) {
  const payloads = [];
  target.on("message", ({ envelope }) => void payloads.push(envelope.payload));
  return payloads;
}
