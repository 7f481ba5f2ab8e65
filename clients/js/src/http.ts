/** The server's HTTP API, as one function that calls it and one table of calls. */

import { BadAnswerError, ConfigurationError, RefusedError, UnreachableError, messageOf } from "./errors.js";
import type { Keys } from "./key.js";
import type {
  ErrorWord,
  InboxPage,
  JoinOptions,
  MemberPresence,
  Membership,
  Offer,
  PushProvider,
  PushTokens,
  SessionOptions,
  SessionRecord,
} from "./protocol.js";

/** No single call waits longer. */
const PATIENCE_MS = 15_000;

type Fetch = typeof globalThis.fetch;

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

interface Call extends CallOptions {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE";
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
}

export class Http {
  readonly #base: URL;
  readonly #keys: Keys;
  readonly #fetch: Fetch;

  constructor(url: string | URL, keys: Keys, fetch: Fetch) {
    this.#base = baseUrl(url);
    this.#keys = keys;
    this.#fetch = fetch;
  }

  /** Asks where to connect. */
  async offer(query: Call["query"], signal?: AbortSignal): Promise<Offer> {
    return this.checked(await this.call("v1/connect-info", { ...(query && { query }), signal }));
  }

  /**
   * An offer as it should be; who came over TLS is not sent on in the clear, or the key would be read on the way.
   * @throws BadAnswerError
   */
  checked(answer: unknown): Offer {
    const offer = answer as Partial<Offer> | null;
    if (typeof offer?.ws_url !== "string" || typeof offer.validation_key !== "string" || !/^wss?:/.test(offer.ws_url)) {
      throw new BadAnswerError(`${this.#base} gave no offer: is it a sparkmesh server?`);
    }
    if (this.#base.protocol === "https:" && !offer.ws_url.startsWith("wss:")) {
      throw new BadAnswerError(`${this.#base} offers ${offer.ws_url}, without TLS: the key is not sent there`);
    }
    const { node_id = "", ws_url, validation_key, pending = 0, start_after_ms = 0 } = offer;
    return { node_id, ws_url, validation_key, pending, start_after_ms };
  }

  /** One call. A key that is refused is asked for anew, once. */
  async call<T>(path: string, call: Call = {}): Promise<T> {
    const key = await this.#keys.get(call.signal);
    try {
      return await this.#once<T>(path, call, key);
    } catch (error) {
      if (!(error instanceof RefusedError) || error.status !== 401) throw error;
      this.#keys.forget(key);
      if (!this.#keys.renewable) throw error;
      return this.#once<T>(path, call, await this.#keys.get(call.signal));
    }
  }

  async #once<T>(path: string, { method = "GET", query = {}, body, signal }: Call, key: string): Promise<T> {
    const url = new URL(path, this.#base);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const patience = AbortSignal.timeout(PATIENCE_MS);
    let response: Response;
    let text: string;
    try {
      response = await this.#fetch(url, {
        method,
        headers: { authorization: `Bearer ${key}`, ...(body !== undefined && { "content-type": "application/json" }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        // A redirect would carry the key to wherever it points.
        redirect: "error",
        credentials: "omit",
        cache: "no-store",
        signal: signal ? either(signal, patience) : patience,
      });
      text = await response.text();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new UnreachableError(`${this.#base.origin} does not answer: ${messageOf(error)}`, { cause: error });
    }
    const answer = parse(text);
    if (response.ok && answer !== undefined) return answer as T;
    if (response.ok) throw new BadAnswerError(`${url.origin}${url.pathname} did not answer with JSON`);
    throw refusal(response, answer, `${url.origin}${url.pathname}`);
  }

  readonly sessions = {
    create: (options: SessionOptions, call?: CallOptions): Promise<SessionRecord> =>
      this.call("v1/sessions", { method: "POST", body: options, ...call }),
    info: (id: string, call?: CallOptions): Promise<SessionRecord> => this.call(sessionPath(id), { ...call }),
    join: (id: string, options: JoinOptions & { node_id?: string }, call?: CallOptions): Promise<Membership> =>
      this.call(`${sessionPath(id)}/join`, { method: "POST", body: options, ...call }),
    leave: (id: string, node: string | undefined, call?: CallOptions): Promise<unknown> =>
      this.call(`${sessionPath(id)}/leave`, { method: "POST", body: node === undefined ? {} : { node_id: node }, ...call }),
    reveal: (id: string, call?: CallOptions): Promise<unknown> =>
      this.call(`${sessionPath(id)}/reveal`, { method: "POST", body: {}, ...call }),
    presence: (id: string, call?: CallOptions): Promise<{ members: MemberPresence[] }> =>
      this.call(`${sessionPath(id)}/presence`, { ...call }),
  };

  readonly inbox = {
    page: (range: { after?: number; limit?: number }, call?: CallOptions): Promise<InboxPage> =>
      this.call("v1/inbox", { query: { ...range }, ...call }),
    acknowledge: (to: number, call?: CallOptions): Promise<{ acknowledged: number; pending: number }> =>
      this.call("v1/inbox", { method: "DELETE", query: { to }, ...call }),
  };

  readonly pushTokens = {
    get: (call?: CallOptions): Promise<PushTokens> => this.call("v1/push-tokens", { ...call }),
    put: (provider: PushProvider, token: string, call?: CallOptions): Promise<unknown> =>
      this.call("v1/push-tokens", { method: "PUT", body: { provider, token }, ...call }),
    delete: (provider: PushProvider, token: string, call?: CallOptions): Promise<unknown> =>
      this.call("v1/push-tokens", { method: "DELETE", body: { provider, token }, ...call }),
  };
}

function sessionPath(id: string): string {
  return `v1/sessions/${encodeURIComponent(id)}`;
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
  base.search = base.hash = "";
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return base;
}

/** `AbortSignal.any`, which Node has only since 20.3 and older browsers lack. */
function either(left: AbortSignal, right: AbortSignal): AbortSignal {
  const controller = new AbortController();
  for (const signal of [left, right]) {
    if (signal.aborted) controller.abort(signal.reason);
    signal.addEventListener("abort", () => controller.abort(signal.reason), { once: true, signal: controller.signal });
  }
  return controller.signal;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

const WORDS: Readonly<Record<number, ErrorWord>> = {
  400: "bad_request",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
  409: "conflict",
  413: "too_large",
  429: "rate_limited",
};

function refusal(response: Response, answer: unknown, what: string): RefusedError {
  const error = (answer as { error?: { code?: ErrorWord; message?: string } } | undefined)?.error;
  // Something before the server, like a proxy, may answer in its own words.
  const code = error?.code ?? WORDS[response.status] ?? (response.status < 500 ? "bad_request" : "unavailable");
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return new RefusedError(code, error?.message ?? `${what} answered with HTTP status ${response.status}`, {
    status: response.status,
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : undefined,
  });
}
