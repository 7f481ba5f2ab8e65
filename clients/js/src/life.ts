/** The life of a client's connections: get an offer, connect, talk, and when it ends get the next one. */

import { Edge, socketUrl, type Frame, type WebSocketConstructor } from "./edge.js";
import { ConnectionError, RefusedError, SparkmeshError, UnreachableError, messageOf } from "./errors.js";
import type { Http } from "./http.js";
import type { Keys } from "./key.js";
import { Type, type Offer } from "./protocol.js";
import { Reconnect, type Sent } from "./reconnect.js";
import { LONGEST_HINT_MS, sleep, steady, type BackoffOptions } from "./time.js";

export interface LifeOptions {
  readonly socket: WebSocketConstructor;
  readonly inbox: "auto" | "manual";
  readonly ack: "app" | "pong";
  readonly query: Readonly<Record<string, string | number | undefined>>;
  readonly backoff: BackoffOptions;
}

export interface LifeHandlers {
  /** A key is there: before the first connection, and before each further one. */
  prepared(key: string): Promise<void>;
  opened(edge: Edge): void;
  /** The first answer on a connection. */
  connected(offer: Offer): void;
  measured(latencyMs: number, clockOffsetMs: number): void;
  frame(frame: Frame): void;
  goingAway(afterMs: number): void;
  /** The edge is gone. */
  ended(error: ConnectionError): void;
  waiting(error: SparkmeshError, retryInMs: number): void;
}

interface Talk {
  readonly error: ConnectionError;
  readonly stoodMs: number | undefined;
  readonly sent: Sent | undefined;
}

export class Life {
  readonly #http: Http;
  readonly #keys: Keys;
  readonly #options: LifeOptions;
  readonly #handlers: LifeHandlers;
  #edge: Edge | undefined;
  #wake: (() => void) | undefined;

  constructor(http: Http, keys: Keys, options: LifeOptions, handlers: LifeHandlers) {
    this.#http = http;
    this.#keys = keys;
    this.#options = options;
    this.#handlers = handlers;
  }

  /** Until `signal` is aborted, or an end that no further attempt would change: that is what it resolves with. */
  async run(signal: AbortSignal): Promise<SparkmeshError> {
    const reconnect = new Reconnect(this.#options.backoff);
    let hint: Offer | undefined;
    for (;;) {
      const hinted = hint !== undefined;
      let end: { error: SparkmeshError; stoodMs: number | undefined; sent: Sent | undefined };
      try {
        const key = await this.#key(signal);
        await this.#handlers.prepared(key);
        const offer = hint ?? (await this.#offer(signal));
        // The key of an offer may be a newer one by now.
        end = await this.#talk(offer, await this.#key(signal), reconnect, signal);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        end = { error: asError(error), stoodMs: undefined, sent: undefined };
      }
      if (signal.aborted) throw signal.reason;
      const next = reconnect.after({ ...end, hinted }, steady(), Math.random());
      if (next.then === "give up") return end.error;
      if (next.renewKey) this.#keys.forget();
      hint = next.offer;
      this.#handlers.waiting(end.error, next.inMs);
      const asked = end.sent !== undefined || (end.error instanceof RefusedError && end.error.retryAfterMs !== undefined);
      await this.#pause(next.inMs, asked ? "as asked" : "as long as there is no hope", signal);
    }
  }

  /** The network is back, or somebody looks at the page again: do not wait, and do not trust what stands. */
  wake(): void {
    this.#wake?.();
    this.#edge?.probe();
  }

  async #key(signal: AbortSignal): Promise<string> {
    try {
      return await this.#keys.get(signal);
    } catch (error) {
      if (error instanceof SparkmeshError) throw error;
      throw new UnreachableError(`no key: ${messageOf(error)}`, { cause: error });
    }
  }

  async #offer(signal: AbortSignal): Promise<Offer> {
    const offer = await this.#http.offer(this.#options.query, signal);
    await sleep(Math.min(offer.start_after_ms, LONGEST_HINT_MS), signal);
    return offer;
  }

  /** One connection, from its opening to its end. */
  #talk(offer: Offer, key: string, reconnect: Reconnect, signal: AbortSignal): Promise<Talk> {
    const { promise, resolve } = withResolvers<Talk>();
    let standsSince: number | undefined;
    let sent: Sent | undefined;
    let refusal: string | undefined;
    let leaving: ReturnType<typeof setTimeout> | undefined;

    const goAway = (frame: Frame): void => {
      const afterMs = Math.min(Math.max(Number(frame["reconnect_after_ms"]) || 0, 0), LONGEST_HINT_MS);
      sent = { at: steady() + afterMs, offer: this.#usable(frame["offer"]) };
      clearTimeout(leaving);
      leaving = setTimeout(() => edge.end(1001, "going away"), afterMs);
      this.#handlers.goingAway(afterMs);
    };

    const edge = new Edge(this.#options.socket, socketUrl(offer, key, this.#options), {
      opened: () => this.#handlers.opened(edge),
      answered: (latencyMs, clockOffsetMs) => {
        this.#handlers.measured(latencyMs, clockOffsetMs);
        if (standsSince !== undefined) return;
        standsSince = steady();
        reconnect.stands();
        this.#handlers.connected(offer);
      },
      frame: (frame) => {
        if (frame.type === Type.GOING_AWAY) goAway(frame);
        else {
          if (frame.type === Type.ERROR && frame["id"] === undefined) refusal = String(frame["message"]);
          this.#handlers.frame(frame);
        }
      },
      ended: (code, reason) => {
        clearTimeout(leaving);
        signal.removeEventListener("abort", close);
        this.#edge = undefined;
        const why = isRefusal(code) && refusal ? refusal : reason || "the connection broke";
        const error = new ConnectionError(code, `${why} (close code ${code})`);
        this.#handlers.ended(error);
        resolve({ error, stoodMs: standsSince === undefined ? undefined : steady() - standsSince, sent });
      },
    });
    const close = (): void => edge.end(1000, "closed");
    signal.addEventListener("abort", close, { once: true });
    if (signal.aborted) close();
    this.#edge = edge;
    return promise;
  }

  /** An offer that may not be taken is as good as none. */
  #usable(offer: unknown): Offer | undefined {
    try {
      return offer ? this.#http.checked(offer) : undefined;
    } catch {
      return undefined;
    }
  }

  /** What the server asked for is kept to; a wait of our own choosing ends when there is reason to hope. */
  async #pause(ms: number, how: "as asked" | "as long as there is no hope", signal: AbortSignal): Promise<void> {
    const woken = new AbortController();
    const stop = (): void => woken.abort();
    signal.addEventListener("abort", stop, { once: true, signal: woken.signal });
    if (how !== "as asked") this.#wake = stop;
    await sleep(ms, woken.signal).catch(() => {});
    woken.abort();
    signal.throwIfAborted();
    this.#wake = undefined;
  }
}

/** The close follows an ERROR that says more. */
function isRefusal(code: number): boolean {
  return code >= 4400 || [1003, 1007, 1008, 1009].includes(code);
}

function asError(error: unknown): SparkmeshError {
  return error instanceof SparkmeshError ? error : new UnreachableError(messageOf(error), { cause: error });
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((done) => (resolve = done));
  return { promise, resolve };
}
