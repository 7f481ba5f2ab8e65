/** What follows the end of a connection, or of an attempt at one. Decides; does nothing. */

import { BadAnswerError, ConfigurationError, ConnectionError, RefusedError, type SparkmeshError } from "./errors.js";
import { isFinalClose, type Offer } from "./protocol.js";
import { backoff, LONGEST_HINT_MS, type BackoffOptions } from "./time.js";

/** A connection that stood so long was a good one: the next wait starts small again. */
const SETTLED_MS = 10_000;

/** Where the server sent its devices. */
export interface Sent {
  /** When to be there, in `steady()` milliseconds. */
  readonly at: number;
  readonly offer: Offer | undefined;
}

export interface End {
  readonly error: SparkmeshError;
  /** How long the server had been answering; undefined if it never did. */
  readonly stoodMs: number | undefined;
  readonly sent: Sent | undefined;
  /** The offer came with a GOING_AWAY, and may have been stale. */
  readonly hinted: boolean;
}

export type Next =
  | { readonly then: "give up" }
  | { readonly then: "retry"; readonly inMs: number; readonly offer: Offer | undefined; readonly renewKey: boolean };

export class Reconnect {
  readonly #backoff: BackoffOptions;
  #failures = 0;
  #badKeys = 0;

  constructor(backoff: BackoffOptions) {
    this.#backoff = backoff;
  }

  /** The server answered: the key was good. */
  stands(): void {
    this.#badKeys = 0;
  }

  /** `chance` is a random number in 0..1. */
  after(end: End, now: number, chance: number): Next {
    if ((end.stoodMs ?? 0) >= SETTLED_MS) this.#failures = 0;
    if (end.sent && (end.error instanceof ConnectionError) && !isFatalWhenSent(end.error.closeCode)) {
      const hint = Math.min(end.sent.at - now, LONGEST_HINT_MS);
      // Without another server this one has to come back first.
      const least = end.sent.offer ? 0 : backoff(0, chance, this.#backoff);
      return { then: "retry", inMs: Math.max(hint, least), offer: end.sent.offer, renewKey: false };
    }
    if (end.hinted && end.stoodMs === undefined) return { then: "retry", inMs: 0, offer: undefined, renewKey: false };
    if (isBadKey(end.error)) {
      // Once: the key, or the offer's validation key, may have expired on the way.
      if (this.#badKeys++ > 0) return { then: "give up" };
      return { then: "retry", inMs: 0, offer: undefined, renewKey: true };
    }
    if (isFinal(end.error)) return { then: "give up" };
    const hint = end.error instanceof RefusedError ? Math.min(end.error.retryAfterMs ?? 0, LONGEST_HINT_MS) : 0;
    const pause = backoff(this.#failures++, chance, this.#backoff);
    return { then: "retry", inMs: Math.max(pause, hint), offer: undefined, renewKey: false };
  }
}

/** A device that was sent away is closed with 1001, or by itself; these say something else. */
function isFatalWhenSent(code: number): boolean {
  return isFinalClose(code) && code !== 1000;
}

function isBadKey(error: SparkmeshError): boolean {
  if (error instanceof ConnectionError) return error.closeCode === 4401;
  return error instanceof RefusedError && error.status === 401;
}

function isFinal(error: SparkmeshError): boolean {
  if (error instanceof ConnectionError) return isFinalClose(error.closeCode);
  if (error instanceof ConfigurationError || error instanceof BadAnswerError) return true;
  if (!(error instanceof RefusedError)) return false;
  return error.status !== undefined && error.status < 500 && error.status !== 429 && error.status !== 408;
}
