/**
 * What outlives a reload: small records by key. A {@link Storage} is read once, when the client starts, and then only
 * written; one client at a time uses it, and `claim()` sees to that.
 */

import { StorageError } from "./errors.js";
import { sleep } from "./time.js";

/** `null` takes a record away. */
export type Changes = ReadonlyMap<string, string | null>;

export interface Storage {
  /** All there is. */
  load(): Promise<Map<string, string>>;
  /** Resolves when the changes will outlive a reload. Is not called again before that. */
  write(changes: Changes): Promise<void>;
  /**
   * Makes this storage this client's alone until `close()`. Resolves when it is, or, where another page has it, with when
   * it will be. Rejects if it is somebody else's and the client shall not start. Without it the application sees to that.
   */
  claim?(): Promise<Waiting | void>;
  close?(): Promise<void>;
}

/** A lock of the Web: of all pages of an origin one has it. Where there are none (old browsers, no HTTPS), nobody waits. */
class PageLock {
  readonly #name: string;
  #release: (() => void) | undefined;
  #asking: AbortController | undefined;

  constructor(name: string) {
    this.#name = `sparkmesh-storage/${name}`;
  }

  async take(): Promise<Waiting | void> {
    const locks = globalThis.navigator?.locks;
    if (!locks) return;
    const asking = (this.#asking = new AbortController());
    const later = new Promise<void>((resolve, reject) => {
      const hold = (): Promise<void> => new Promise<void>((release) => {
        this.#release = release;
        resolve();
      });
      locks.request(this.#name, { signal: asking.signal }, hold).catch(reject);
    });
    // That it takes long does not say that somebody has it.
    for (;;) {
      await Promise.race([later, sleep(RELOAD_MS)]);
      if (this.#release) return;
      const { held = [] } = await locks.query();
      if (!this.#release && held.some(({ name }) => name === this.#name)) return { later };
    }
  }

  give(): void {
    this.#asking?.abort(new StorageError("closed before the storage was free"));
    this.#release?.();
    this.#release = this.#asking = undefined;
  }
}

/** Another page has the storage. */
export interface Waiting {
  readonly later: Promise<void>;
}

/** A page that is being reloaded gives up its lock a moment after the new one asks. */
const RELOAD_MS = 1000;

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
  readonly #lock: PageLock | undefined;

  constructor(name: string, area: globalThis.Storage = globalThis.localStorage) {
    this.#prefix = `${name}/`;
    this.#area = area;
    // A tab has its `sessionStorage` to itself.
    this.#lock = area === globalThis.localStorage ? new PageLock(`local/${name}`) : undefined;
  }

  async claim(): Promise<Waiting | void> {
    return this.#lock?.take();
  }

  async close(): Promise<void> {
    this.#lock?.give();
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
  readonly #lock: PageLock;
  #database: Promise<IDBDatabase> | undefined;

  constructor(name: string) {
    this.#name = name;
    this.#lock = new PageLock(`idb/${name}`);
  }

  claim(): Promise<Waiting | void> {
    return this.#lock.take();
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
    this.#lock.give();
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
