/**
 * What arrives, on its way to the application: repetitions are dropped, RELIABLE envelopes are handled one after the
 * other in the order in which they came, and each is acknowledged when it has been handled and that is remembered.
 *
 * An envelope whose handler failed is tried again, with growing pauses, before anything newer. The queue outlives the
 * connection; the server sends no more than its window (1 MB) of unacknowledged bytes.
 */

import { isFast, type Envelope } from "./protocol.js";
import { keyOf, type Seen } from "./seen.js";
import { backoff, sleep } from "./time.js";

export interface IntakeHandlers {
  /** Resolves when the application is done with it. */
  dispatch(envelope: Envelope): Promise<void>;
  acknowledge(envelope: Envelope): void;
  failed(error: unknown, envelope: Envelope, retryInMs: number | undefined): void;
}

export class Intake {
  readonly #seen: Seen;
  readonly #handlers: IntakeHandlers;
  readonly #queue = new Map<string, Envelope>();
  #running: Promise<void> | undefined;
  #stop: AbortSignal | undefined;

  constructor(seen: Seen, handlers: IntakeHandlers) {
    this.#seen = seen;
    this.#handlers = handlers;
  }

  /** Goes on until `signal` is aborted. What is not handled then comes again on another connection. */
  start(signal: AbortSignal): void {
    this.#stop = signal;
    signal.addEventListener("abort", () => this.#queue.clear(), { once: true });
  }

  /** Resolves when no handler runs. */
  async idle(): Promise<void> {
    await this.#running;
  }

  take(envelope: Envelope): void {
    if (this.#stop?.aborted) return;
    if (isFast(envelope)) {
      this.#handlers.dispatch(envelope).catch((error: unknown) => this.#handlers.failed(error, envelope, undefined));
      // Without a reference nobody waits to hear of it.
      if (envelope.reference !== undefined) this.#handlers.acknowledge(envelope);
      return;
    }
    const key = keyOf(envelope.src_id, envelope.id);
    if (this.#seen.has(envelope.src_id, envelope.id)) {
      this.#handlers.acknowledge(envelope);
    } else if (!this.#queue.has(key)) {
      this.#queue.set(key, envelope);
      this.#running ??= this.#run().finally(() => (this.#running = undefined));
    }
  }

  /** Somebody else has handled it: a reply, which must not wait behind the handler that waits for it. */
  async settled(envelope: Envelope): Promise<void> {
    if (isFast(envelope)) {
      if (envelope.reference !== undefined) this.#handlers.acknowledge(envelope);
      return;
    }
    await this.#seen.add(envelope.src_id, envelope.id);
    this.#handlers.acknowledge(envelope);
  }

  isRepetition(envelope: Envelope): boolean {
    return this.#seen.has(envelope.src_id, envelope.id);
  }

  async #run(): Promise<void> {
    for (;;) {
      const first = this.#queue.entries().next();
      if (first.done || this.#stop?.aborted) return;
      const [key, envelope] = first.value;
      if (!(await this.#handle(envelope))) return;
      await this.#seen.add(envelope.src_id, envelope.id);
      this.#queue.delete(key);
      this.#handlers.acknowledge(envelope);
    }
  }

  /** Whether it is handled; not if all is stopped before that. */
  async #handle(envelope: Envelope): Promise<boolean> {
    for (let failures = 0; ; failures++) {
      try {
        await this.#handlers.dispatch(envelope);
        return true;
      } catch (error) {
        const pause = backoff(failures, Math.random());
        this.#handlers.failed(error, envelope, pause);
        try {
          await sleep(pause, this.#stop);
        } catch {
          return false;
        }
      }
    }
  }
}
