/** The server's HTTP API, as one function that calls it and one table of calls. */

import { BadAnswerError, RefusedError, UnreachableError, messageOf } from "./errors.js";
import { newId } from "./id.js";
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
import type { Servers } from "./servers.js";

/** No single call waits longer for a server ... */
const PATIENCE_MS = 15_000;
/** ... and not so long where there are others to ask. */
const PATIENCE_WITH_OTHERS_MS = 5_000;

type Fetch = typeof globalThis.fetch;

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

interface Call extends CallOptions {
  readonly method?: "GET" | "POST" | "PUT" | "DELETE";
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
  /** A server may have done it without an answer reaching us, and now another one is asked to. */
  readonly repeated?: () => void;
  /** Makes of the answer what is given back, or throws a BadAnswerError: then the next server is asked. */
  readonly check?: (answer: unknown) => unknown;
}

export class Http {
  readonly #servers: Servers;
  readonly #keys: Keys;
  readonly #fetch: Fetch;

  constructor(servers: Servers, keys: Keys, fetch: Fetch) {
    this.#servers = servers;
    this.#keys = keys;
    this.#fetch = fetch;
  }

  /** Asks where to connect. */
  async offer(query: Call["query"], signal?: AbortSignal): Promise<Offer> {
    return this.call("v1/connect-info", { ...(query && { query }), signal, check: (answer) => this.checked(answer) });
  }

  /**
   * An offer as it should be; who came over TLS is not sent on in the clear, or the key would be read on the way.
   * @throws BadAnswerError
   */
  checked(answer: unknown): Offer {
    const offer = answer as Partial<Offer> | null;
    if (typeof offer?.ws_url !== "string" || typeof offer.validation_key !== "string" || !/^wss?:/.test(offer.ws_url)) {
      throw new BadAnswerError("what came is no offer: is it a sparkmesh server?");
    }
    if (this.#servers.secure && !offer.ws_url.startsWith("wss:")) {
      throw new BadAnswerError(`${offer.ws_url} is offered, without TLS: the key is not sent there`);
    }
    const { node_id = "", ws_url, validation_key, pending = 0, start_after_ms = 0 } = offer;
    this.#servers.told(offer.servers);
    const servers = this.#servers.all.map(({ href }) => href);
    return { node_id, ws_url, validation_key, pending, start_after_ms, servers };
  }

  /**
   * One call, of the first server that answers. All that is called may be repeated: only `create` looks what the first
   * attempt has done. A key that is refused is asked for anew, once.
   */
  async call<T>(path: string, call: Call = {}): Promise<T> {
    const key = await this.#keys.get(call.signal);
    try {
      return await this.#anywhere<T>(path, call, key);
    } catch (error) {
      if (!(error instanceof RefusedError) || error.status !== 401) throw error;
      this.#keys.forget(key);
      if (!this.#keys.renewable) throw error;
      return this.#anywhere<T>(path, call, await this.#keys.get(call.signal));
    }
  }

  async #anywhere<T>(path: string, call: Call, key: string): Promise<T> {
    const round = this.#servers.round();
    const silent: (UnreachableError | BadAnswerError)[] = [];
    for (const server of round) {
      try {
        const answer = await this.#once<T>(server, path, call, key, round.length > 1 ? PATIENCE_WITH_OTHERS_MS : PATIENCE_MS);
        const checked = call.check ? (call.check(answer) as T) : answer;
        this.#servers.answered(server);
        return checked;
      } catch (error) {
        // One that has no time now (5xx) has said so for all: the next attempt begins with another.
        if (!(error instanceof RefusedError) || (error.status ?? 0) >= 500) this.#servers.failed(server);
        if (!(error instanceof UnreachableError) && !(error instanceof BadAnswerError)) throw error;
        silent.push(error);
        call.repeated?.();
      }
    }
    const [first] = silent;
    // If one did not answer, there is something to hope for.
    const error = silent.find((one) => one instanceof UnreachableError) ?? first;
    if (silent.length === 1 || !(error instanceof UnreachableError)) throw error;
    throw new UnreachableError(`no server answers: ${silent.map(({ message }) => message).join("; ")}`, { cause: error });
  }

  async #once<T>(server: URL, path: string, { method = "GET", query = {}, body, signal }: Call, key: string, ms: number): Promise<T> {
    const url = new URL(path, server);
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(name, String(value));
    }
    const patience = either(signal, AbortSignal.timeout(ms));
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
        signal: patience.signal,
      });
      text = await response.text();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new UnreachableError(`${server.origin} does not answer: ${messageOf(error)}`, { cause: error });
    } finally {
      patience.settle();
    }
    const answer = parse(text);
    if (response.ok && answer !== undefined) return answer as T;
    if (response.ok) throw new BadAnswerError(`${url.origin}${url.pathname} did not answer with JSON`);
    throw refusal(response, answer, `${url.origin}${url.pathname}`);
  }

  readonly sessions = {
    /** The id is ours, so that a session is made once even where the first answer is lost. */
    create: async (options: SessionOptions, call?: CallOptions): Promise<SessionRecord> => {
      const { session_id = newId() } = options;
      let isRepeated = false;
      const repeated = (): void => void (isRepeated = true);
      try {
        return await this.call("v1/sessions", { method: "POST", body: { ...options, session_id }, repeated, ...call });
      } catch (error) {
        if (!isRepeated || !(error instanceof RefusedError) || error.code !== "conflict") throw error;
        const record = await this.sessions.info(session_id, call).catch(() => undefined);
        if (!record?.current_node_info?.includes(record.node_id)) throw error;
        return record;
      }
    },
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

/**
 * `AbortSignal.any`, which Node has only since 20.3 and older browsers lack; to be settled when it is not needed any more,
 * since the one signal lives as long as the client.
 */
function either(long: AbortSignal | undefined, short: AbortSignal): { signal: AbortSignal; settle(): void } {
  const controller = new AbortController();
  const listeners = [long, short].flatMap((signal) => {
    if (!signal) return [];
    const abort = (): void => controller.abort(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    return [() => signal.removeEventListener("abort", abort)];
  });
  return { signal: controller.signal, settle: () => listeners.forEach((remove) => remove()) };
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
