/** Waiting: how long, and waiting itself. */

export interface BackoffOptions {
  /** The first step in ms; 1000 where absent. */
  readonly first?: number;
  /** The longest step in ms; 60 000 where absent. */
  readonly longest?: number;
}

/**
 * The wait before the attempt after `failures` failures in a row; `chance` is a random number in 0..1. Between half and
 * all of a step that doubles: a mesh that lost a server must not meet all its clients again in the same second.
 */
export function backoff(failures: number, chance: number, { first = 1000, longest = 60_000 }: BackoffOptions = {}): number {
  const step = Math.min(first * 2 ** Math.min(failures, 30), longest);
  return step * (0.5 + chance / 2);
}

/** Milliseconds that only ever go forward: what the clock on the wall does, by hand or by NTP, is nothing to a pause. */
export function steady(): number {
  return performance.now();
}

/** No server may make a client wait longer than this. */
export const LONGEST_HINT_MS = 300_000;

/** Resolves after `ms`; rejects with the signal's reason as soon as that is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** A promise with its ends outside. */
export class Deferred<T> {
  readonly promise: Promise<T>;
  resolve!: (value: T) => void;
  reject!: (reason: unknown) => void;

  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    // Somebody may look only later, or never; the outcome is told by events too.
    this.promise.catch(() => {});
  }
}

/** `promise`, given up as soon as `signal` is aborted. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
