/**
 * What was sent and is not yet confirmed, in the order in which it was sent. RELIABLE envelopes outlive the connection
 * and, through the journal, the page; FAST ones neither.
 */

import { ClosedError, LostError, OutboxFullError } from "./errors.js";
import { isFast, type Confirmation, type Outgoing } from "./protocol.js";
import type { Journal } from "./keeper.js";
import { Deferred } from "./time.js";

const PREFIX = "out/";

export interface Entry {
  readonly id: string;
  readonly envelope: Outgoing;
  /** As it goes over the wire, the same each time. */
  readonly frame: string;
  readonly bytes: number;
  readonly fast: boolean;
  /** Whether it outlives a reload. */
  readonly keep: Keep;
  readonly outcome: Deferred<Confirmation>;
  /** Written on the connection that stands now. */
  written: boolean;
}

/** A request is fleeting: after a reload nobody waits for its reply. */
export type Keep = "kept" | "fleeting";

export interface OutboxLimits {
  readonly maxCount: number;
  readonly maxBytes: number;
}

const encoder = new TextEncoder();

export function byteLength(text: string): number {
  return encoder.encode(text).length;
}

export class Outbox {
  readonly #limits: OutboxLimits;
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  #next = 0;
  #journal: Journal | undefined;

  constructor(limits: OutboxLimits) {
    this.#limits = limits;
  }

  /**
   * Takes up what an earlier life did not finish, and writes down what is here already; a record is `number frame`.
   * What was taken up is given back: it has not been written on any connection.
   */
  restore(records: ReadonlyMap<string, string>, journal: Journal): Entry[] {
    const own = this.entries().filter(({ id, keep }) => keep === "kept" && !records.has(PREFIX + id));
    this.#journal = journal;
    const taken: Entry[] = [];
    const found: [number, string, string][] = [];
    for (const [name, value] of records) {
      if (!name.startsWith(PREFIX)) continue;
      const space = value.indexOf(" ");
      found.push([Number(value.slice(0, space)), name.slice(PREFIX.length), value.slice(space + 1)]);
    }
    found.sort(([left], [right]) => left - right);
    for (const [number, id, frame] of found) {
      const envelope = parse(frame);
      if (envelope === undefined || !Number.isSafeInteger(number)) {
        void journal.put(PREFIX + id, null);
        continue;
      }
      this.#next = Math.max(this.#next, number + 1);
      if (!this.#entries.has(id)) taken.push(this.#insert(id, envelope, frame, "kept"));
    }
    for (const { id, frame } of own) void journal.put(PREFIX + id, `${this.#next++} ${frame}`);
    return taken;
  }

  /** From now on nothing is written down: the storage may be another page's. */
  detach(): void {
    this.#journal = undefined;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(id: string): Entry | undefined {
    return this.#entries.get(id);
  }

  /** In the order in which they were sent. */
  entries(): Entry[] {
    return [...this.#entries.values()];
  }

  /**
   * The same id again is the same envelope.
   * @throws OutboxFullError
   */
  add(id: string, envelope: Outgoing, frame: string, keep: Keep): Entry {
    const known = this.#entries.get(id);
    if (known) return known;
    const { maxCount, maxBytes } = this.#limits;
    const full = this.#entries.size >= maxCount || this.#bytes + byteLength(frame) > maxBytes;
    if (full && this.#entries.size > 0) {
      throw new OutboxFullError(
        `${this.#entries.size} envelopes (${this.#bytes} bytes) wait for confirmation already: wait until some are confirmed`,
      );
    }
    const entry = this.#insert(id, envelope, frame, isFast(envelope) ? "fleeting" : keep);
    if (entry.keep === "kept") void this.#journal?.put(PREFIX + id, `${this.#next++} ${frame}`);
    return entry;
  }

  /** It is settled, one way or another, and never sent again. */
  remove(id: string): Entry | undefined {
    const entry = this.#entries.get(id);
    if (!entry) return undefined;
    this.#entries.delete(id);
    this.#bytes -= entry.bytes;
    if (entry.keep === "kept") void this.#journal?.put(PREFIX + id, null);
    return entry;
  }

  /** The connection is gone: RELIABLE ones are to be written again, of FAST ones nobody knows. */
  disconnected(): void {
    for (const entry of this.entries()) {
      entry.written = false;
      if (!entry.fast) continue;
      this.remove(entry.id);
      entry.outcome.reject(new LostError(`the connection ended before the FAST envelope ${entry.id} was confirmed`));
    }
  }

  /** Nobody waits any more. What is RELIABLE stays for the next time. */
  abandon(error: ClosedError): void {
    this.disconnected();
    for (const entry of this.#entries.values()) entry.outcome.reject(error);
  }

  /** Of those written on this connection, the one with most bytes. */
  largestWritten(): Entry | undefined {
    let largest: Entry | undefined;
    for (const entry of this.#entries.values()) {
      if (entry.written && entry.bytes > (largest?.bytes ?? 0)) largest = entry;
    }
    return largest;
  }

  #insert(id: string, envelope: Outgoing, frame: string, keep: Keep): Entry {
    const bytes = byteLength(frame);
    const outcome = new Deferred<Confirmation>();
    const entry = { id, envelope, frame, bytes, fast: isFast(envelope), keep, outcome, written: false };
    this.#entries.set(id, entry);
    this.#bytes += bytes;
    return entry;
  }
}

function parse(frame: string): Outgoing | undefined {
  try {
    const value: unknown = JSON.parse(frame);
    return typeof value === "object" && value !== null ? (value as Outgoing) : undefined;
  } catch {
    return undefined;
  }
}
