/** Requests that wait for their reply: an envelope from whom was asked, with the request's `reference`. */

import { SparkmeshError, TimeoutError, UndeliveredError } from "./errors.js";
import type { Envelope } from "./protocol.js";
import { Deferred } from "./time.js";

/** Marks references of requests, so that a late reply can be told from a message. */
const MARK = "rq:";
/** So many references of requests that are over are remembered. */
const OVER = 1024;

interface Waiting {
  /** The envelope's own id: a request to oneself is not its own reply. */
  readonly id: string;
  /** Who alone may reply; undefined if anybody who got it. */
  readonly from: string | undefined;
  readonly reply: Deferred<Envelope>;
}

export class Requests {
  readonly #waiting = new Map<string, Waiting>();
  readonly #over = new Set<string>();

  /** `id` is the request's, and its reference follows from it. */
  static reference(id: string): string {
    return MARK + id;
  }

  wait(id: string, from: string | undefined): Promise<Envelope> {
    const reply = new Deferred<Envelope>();
    this.#waiting.set(Requests.reference(id), { id, from, reply });
    return reply.promise;
  }

  /** `reply`: it was waited for. `late`: it was, but not any more. Else it is no reply. */
  take(envelope: Envelope): "reply" | "late" | undefined {
    const { reference } = envelope;
    if (reference === undefined) return undefined;
    const waiting = this.#waiting.get(reference);
    if (waiting && envelope.id !== waiting.id && (waiting.from === undefined || waiting.from === envelope.src_id)) {
      this.#end(reference);
      waiting.reply.resolve(envelope);
      return "reply";
    }
    return !waiting && this.#over.has(reference) ? "late" : undefined;
  }

  timedOut(id: string, ms: number): void {
    this.fail(id, new TimeoutError(`no reply came within ${ms} ms`));
  }

  undelivered(id: string): void {
    this.fail(id, new UndeliveredError("nobody got the request"));
  }

  fail(id: string, reason: unknown): void {
    const reference = Requests.reference(id);
    this.#waiting.get(reference)?.reply.reject(reason);
    this.#end(reference);
  }

  failAll(error: SparkmeshError): void {
    for (const { id } of this.#waiting.values()) this.fail(id, error);
  }

  #end(reference: string): void {
    if (!this.#waiting.delete(reference)) return;
    this.#over.add(reference);
    const [oldest] = this.#over;
    if (this.#over.size > OVER && oldest !== undefined) this.#over.delete(oldest);
  }
}
