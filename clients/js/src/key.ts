/** The key: given once, or asked for again whenever the old one no longer holds. */

import { ConfigurationError } from "./errors.js";

/** A key (a JWT), or what gets one from the application's back end. */
export type KeySource = string | ((options: { readonly signal: AbortSignal | undefined }) => Promise<string> | string);

/** A key that ends so soon is not used for anything new. */
const EXPIRY_MARGIN_MS = 30_000;

interface Claims {
  readonly sub: string;
  readonly exp?: number;
  readonly client_id?: string;
}

export class Keys {
  readonly #source: KeySource;
  #current: string | undefined;

  constructor(source: KeySource) {
    if (typeof source !== "string" && typeof source !== "function") {
      throw new ConfigurationError("`key` must be a key, or a function that gets one");
    }
    this.#source = source;
  }

  /** Whether asking again may give another key. */
  get renewable(): boolean {
    return typeof this.#source === "function";
  }

  async get(signal?: AbortSignal): Promise<string> {
    if (this.#current !== undefined && !expires(this.#current)) return this.#current;
    this.#current = typeof this.#source === "string" ? this.#source : await this.#source({ signal });
    claims(this.#current);
    return this.#current;
  }

  /** The server did not take it, or may not have: with `key`, only if that is still the one in use. */
  forget(key?: string): void {
    if (key === undefined || this.#current === key) this.#current = undefined;
  }
}

function expires(key: string): boolean {
  const { exp } = claims(key);
  return exp !== undefined && exp * 1000 - Date.now() < EXPIRY_MARGIN_MS;
}

/**
 * What the key says of itself; whether that is true, the server judges.
 * @throws ConfigurationError where it is no key at all.
 */
export function claims(key: string): Claims {
  const bad = new ConfigurationError("this is no key: a sparkmesh key is a JWT whose `sub` is the device's node id");
  const body = typeof key === "string" ? key.split(".")[1] : undefined;
  if (body === undefined) throw bad;
  try {
    const bytes = Uint8Array.from(atob(body.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    const parsed: Claims = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof parsed.sub !== "string" || parsed.sub === "") throw bad;
    return parsed;
  } catch {
    throw bad;
  }
}
