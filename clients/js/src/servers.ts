/** Where to ask: the addresses that were given, and those that offers have named. Decides; does nothing. */

import { ConfigurationError } from "./errors.js";

/** One address of a server, or several: one that is dead is passed over. */
export type ServerAddress = string | URL | readonly (string | URL)[];

/** So many that offers have named are tried in one round: they may all be out of reach from here. */
const TOLD_PER_ROUND = 3;

export class Servers {
  readonly #given: readonly URL[];
  #told: readonly URL[] = [];
  /** The one that answered last, or is to be asked next. */
  #current: URL;

  /** @throws ConfigurationError */
  constructor(addresses: ServerAddress) {
    const given = (typeof addresses === "string" || addresses instanceof URL ? [addresses] : [...addresses]).map(baseUrl);
    const [first] = given;
    if (!first) throw new ConfigurationError("`url` must have at least one address");
    if (given.some(({ protocol }) => protocol !== first.protocol)) {
      throw new ConfigurationError("the addresses in `url` must all be https, or all http: a key is as safe as the worst of them");
    }
    this.#given = given;
    this.#current = first;
  }

  /** Whether keys go over TLS alone. */
  get secure(): boolean {
    return this.#current.protocol === "https:";
  }

  /** All that are known, those that were given first. */
  get all(): URL[] {
    return distinct([...this.#given, ...this.#told]);
  }

  /** Whom to ask, one after the other until one answers. */
  round(): URL[] {
    return distinct([this.#current, ...this.#given, ...this.#told.slice(0, TOLD_PER_ROUND)]);
  }

  answered(server: URL): void {
    this.#current = server;
  }

  /** The next round begins with another, where there is one. */
  failed(server: URL): void {
    this.#told = [...this.#told.filter((told) => told.href !== server.href), ...this.#told.filter((told) => told.href === server.href)];
    if (server.href !== this.#current.href) return;
    const all = this.all;
    const at = all.findIndex(({ href }) => href === server.href);
    this.#current = all[(at + 1) % all.length] ?? server;
  }

  /** What an offer names; what is not as safe as what was given is left out. */
  told(addresses: unknown): void {
    if (!Array.isArray(addresses)) return;
    const usable = addresses.flatMap((address: unknown) => {
      try {
        const url = baseUrl(String(address));
        return url.protocol === this.#current.protocol ? [url] : [];
      } catch {
        return [];
      }
    });
    // An offer that names none, as of an older server, takes none away.
    if (usable.length > 0) this.#told = distinct(usable);
  }
}

function distinct(urls: readonly URL[]): URL[] {
  return [...new Map(urls.map((url) => [url.href, url])).values()];
}

/** `http`, `https`, `ws` or `wss`; in a browser relative to the page. */
export function baseUrl(url: string | URL): URL {
  let base: URL;
  try {
    base = new URL(url, globalThis.location?.href);
  } catch {
    throw new ConfigurationError(`\`url\` must be like https://HOST:PORT, not ${JSON.stringify(String(url))}`);
  }
  if (base.protocol === "ws:") base.protocol = "http:";
  if (base.protocol === "wss:") base.protocol = "https:";
  if (!/^https?:$/.test(base.protocol)) {
    throw new ConfigurationError(`\`url\` must be like https://HOST:PORT, not ${JSON.stringify(String(url))}`);
  }
  base.search = base.hash = base.username = base.password = "";
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return base;
}
