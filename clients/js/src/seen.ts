/**
 * Which envelopes were handled already, by (`src_id`, `id`). The last so many are remembered, in a ring of slots, so
 * that each costs one small record, which replaces the oldest.
 */

import type { Journal } from "./keeper.js";

const PREFIX = "seen/";

export class Seen {
  readonly #capacity: number;
  readonly #slots: (string | undefined)[] = [];
  readonly #keys = new Set<string>();
  #next = 0;
  #journal: Journal | undefined;

  /** Remembers at least 1. */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /**
   * Takes up what an earlier life remembered, and writes down what is known here already; a record is `number key`, and
   * its slot follows from the number.
   */
  restore(records: ReadonlyMap<string, string>, journal: Journal): void {
    const own = [...this.#keys];
    this.#keys.clear();
    this.#slots.length = this.#next = 0;
    this.#journal = journal;
    const known: [number, string][] = [];
    for (const [name, value] of records) {
      if (!name.startsWith(PREFIX)) continue;
      const space = value.indexOf(" ");
      const number = Number(value.slice(0, space));
      if (space > 0 && Number.isSafeInteger(number)) known.push([number, value.slice(space + 1)]);
      if (Number(name.slice(PREFIX.length)) >= this.#capacity) void journal.put(name, null);
    }
    known.sort(([left], [right]) => left - right);
    for (const [number, key] of known.slice(-this.#capacity)) {
      this.#next = number;
      this.#remember(key);
    }
    for (const key of own) void this.#add(key);
  }

  /** From now on nothing is written down: the storage may be another page's. */
  detach(): void {
    this.#journal = undefined;
  }

  has(source: string, id: string): boolean {
    return this.#keys.has(keyOf(source, id));
  }

  /** Resolves when it will outlive a reload. */
  add(source: string, id: string): Promise<void> {
    return this.#add(keyOf(source, id));
  }

  async #add(key: string): Promise<void> {
    if (this.#keys.has(key)) return;
    const number = this.#next;
    this.#remember(key);
    await this.#journal?.put(PREFIX + (number % this.#capacity), `${number} ${key}`);
  }

  #remember(key: string): void {
    const slot = this.#next % this.#capacity;
    const oldest = this.#slots[slot];
    if (oldest !== undefined) this.#keys.delete(oldest);
    this.#slots[slot] = key;
    this.#keys.add(key);
    this.#next++;
  }
}

/** Node ids have no spaces, so that this is unique. */
export function keyOf(source: string, id: string): string {
  return `${source} ${id}`;
}
