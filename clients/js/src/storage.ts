/**
 * What outlives a reload: small records by key. A {@link Storage} is read once, when the client starts, and then only
 * written; one client at a time uses it.
 */

import { StorageError, messageOf } from "./errors.js";

/** `null` takes a record away. */
export type Changes = ReadonlyMap<string, string | null>;

export interface Storage {
  /** All there is. */
  load(): Promise<Map<string, string>>;
  /** Resolves when the changes will outlive a reload. Is not called again before that. */
  write(changes: Changes): Promise<void>;
  close?(): Promise<void>;
}

/** Outlives nothing but the client. */
export class MemoryStorage implements Storage {
  readonly #records = new Map<string, string>();

  async load(): Promise<Map<string, string>> {
    return new Map(this.#records);
  }

  async write(changes: Changes): Promise<void> {
    for (const [key, value] of changes) {
      if (value === null) this.#records.delete(key);
      else this.#records.set(key, value);
    }
  }
}

/** In `localStorage`, or in a `sessionStorage` given instead, under `name`. */
export class WebStorage implements Storage {
  readonly #prefix: string;
  readonly #area: globalThis.Storage;

  constructor(name: string, area: globalThis.Storage = globalThis.localStorage) {
    this.#prefix = `${name}/`;
    this.#area = area;
  }

  async load(): Promise<Map<string, string>> {
    const records = new Map<string, string>();
    for (let index = 0; index < this.#area.length; index++) {
      const key = this.#area.key(index);
      if (key?.startsWith(this.#prefix)) records.set(key.slice(this.#prefix.length), this.#area.getItem(key) ?? "");
    }
    return records;
  }

  async write(changes: Changes): Promise<void> {
    for (const [key, value] of changes) {
      if (value === null) this.#area.removeItem(this.#prefix + key);
      else this.#area.setItem(this.#prefix + key, value);
    }
  }
}

/** In IndexedDB, in a database of this name. */
export class IndexedDbStorage implements Storage {
  readonly #name: string;
  #database: Promise<IDBDatabase> | undefined;

  constructor(name: string) {
    this.#name = name;
  }

  async load(): Promise<Map<string, string>> {
    const store = (await this.#open()).transaction("records").objectStore("records");
    const [keys, values] = await Promise.all([done(store.getAllKeys()), done(store.getAll())]);
    return new Map(keys.map((key, index) => [String(key), String(values[index])]));
  }

  async write(changes: Changes): Promise<void> {
    const transaction = (await this.#open()).transaction("records", "readwrite", { durability: "strict" });
    const store = transaction.objectStore("records");
    for (const [key, value] of changes) {
      if (value === null) store.delete(key);
      else store.put(value, key);
    }
    await new Promise<void>((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }

  async close(): Promise<void> {
    const database = await this.#database;
    this.#database = undefined;
    database?.close();
  }

  #open(): Promise<IDBDatabase> {
    this.#database ??= new Promise<IDBDatabase>((resolve, reject) => {
      const request = indexedDB.open(this.#name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("records");
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    return this.#database;
  }
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** The best there is here: IndexedDB in a browser; elsewhere only memory, and `sparkmesh/node` has files. */
export function defaultStorage(nodeId: string): Storage {
  return "indexedDB" in globalThis ? new IndexedDbStorage(`sparkmesh-${nodeId}`) : new MemoryStorage();
}

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
