/**
 * The way from a client to its storage. Of several pages of one device one has the storage, and the others work in memory;
 * when that page goes, another takes over what it left unsent.
 */

import { StorageError, messageOf } from "./errors.js";
import type { Storage } from "./storage.js";

/**
 * Writes to a storage one after the other: what is put while a write is under way goes out together with the next.
 * A failure is told to `fault` once for each write, and those who wait go on: what is in memory still counts.
 */
export class Journal {
  readonly #storage: Storage;
  readonly #fault: (error: StorageError) => void;
  #next = new Map<string, string | null>();
  #last: Promise<void> = Promise.resolve();
  #queued: Promise<void> | undefined;

  constructor(storage: Storage, fault: (error: StorageError) => void) {
    this.#storage = storage;
    this.#fault = fault;
  }

  /** Resolves when it is written, or could not be. */
  put(key: string, value: string | null): Promise<void> {
    this.#next.set(key, value);
    return this.flush();
  }

  /** Resolves when all that was put is written, or could not be. */
  flush(): Promise<void> {
    this.#queued ??= this.#last = this.#last.then(() => this.#write());
    return this.#queued;
  }

  async #write(): Promise<void> {
    const changes = this.#next;
    this.#next = new Map();
    this.#queued = undefined;
    if (changes.size === 0) return;
    try {
      await this.#storage.write(changes);
    } catch (error) {
      this.#fault(new StorageError(`could not keep it: ${messageOf(error)}`, { cause: error }));
    }
  }
}

/** What the storage held when it was this client's. */
export type Restore = (records: ReadonlyMap<string, string>, journal: Journal) => void;

export class Keeper {
  readonly #storage: Storage;
  readonly #fault: (error: StorageError) => void;
  readonly #restore: Restore;
  #journal: Journal | undefined;
  #closed = false;

  constructor(storage: Storage, fault: (error: StorageError) => void, restore: Restore) {
    this.#storage = storage;
    this.#fault = fault;
    this.#restore = restore;
  }

  /**
   * Resolves when what an earlier life left is restored, before anything newer is sent or heard; or at once where another
   * page has the storage.
   * Rejects where the storage is another's and does not wait.
   */
  async start(): Promise<void> {
    const waiting = await this.#storage.claim?.();
    if (!waiting) return this.#load();
    this.#fault(new StorageError("another page of this device has the storage: until that is closed, nothing here outlives a reload"));
    waiting.later.then(() => this.#load()).catch((error: unknown) => {
      if (!this.#closed) this.#fault(new StorageError(`could not take over: ${messageOf(error)}`, { cause: error }));
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#journal?.flush();
    await this.#storage.close?.();
  }

  async #load(): Promise<void> {
    const records = await this.#storage.load().catch((error: unknown) => {
      this.#fault(new StorageError(`could not read what was kept: ${messageOf(error)}`, { cause: error }));
      return new Map<string, string>();
    });
    if (this.#closed) return;
    this.#journal = new Journal(this.#storage, this.#fault);
    this.#restore(records, this.#journal);
  }
}
