/** For Node: a storage in a file. */

import { open, readFile, rename, mkdir, unlink, writeFile, type FileHandle } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { StorageError } from "./errors.js";
import type { Changes, Storage } from "./storage.js";

/** Rewritten when it has so many bytes, and four times as many lines as records. */
const COMPACT_BYTES = 1 << 20;

/**
 * One file with a line for each change, `["key","value"]` or `["key"]`; written through to the disk. The file is
 * rewritten when most of it is outdated. One client at a time uses it: beside it is a `.lock` with the id of its process,
 * and a client that finds it waits for the other one, as for a server that is away.
 */
export class FileStorage implements Storage {
  readonly #path: string;
  readonly #lock: string;
  #claimed = false;
  readonly #records = new Map<string, string>();
  #file: FileHandle | undefined;
  #lines = 0;
  #bytes = 0;

  constructor(path: string) {
    this.#path = resolve(path);
    this.#lock = `${this.#path}.lock`;
  }

  /** @throws StorageError while another client has it */
  async claim(): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true });
    for (;;) {
      const isFree = !held.has(this.#lock) && (await writeFile(this.#lock, String(process.pid), { flag: "wx", mode: 0o600 }).then(() => true, existed));
      if (isFree) break;
      const owner = Number(await readFile(this.#lock, "utf8").catch(() => "0"));
      // Of this process, but not of a client in it: the id is that of a dead process, as after the restart of a container.
      if (held.has(this.#lock) || (owner !== process.pid && lives(owner))) {
        throw new StorageError(`${this.#path} is used by another client, of process ${owner}; if that is none, remove ${this.#lock}`);
      }
      await unlink(this.#lock).catch(() => {});
    }
    held.add(this.#lock);
    this.#claimed = true;
  }

  async load(): Promise<Map<string, string>> {
    const text = await readFile(this.#path, "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "";
      throw error;
    });
    this.#records.clear();
    for (const line of text.split("\n")) {
      const change = parse(line);
      if (change) this.#apply(change[0], change[1] ?? null);
    }
    // A line that was cut short by a crash must not swallow the next one.
    await this.#rewrite();
    return new Map(this.#records);
  }

  async write(changes: Changes): Promise<void> {
    for (const [key, value] of changes) this.#apply(key, value);
    if (this.#bytes > COMPACT_BYTES && this.#lines > 4 * this.#records.size) {
      await this.#rewrite();
      return;
    }
    const text = [...changes].map(([key, value]) => line(key, value)).join("");
    const file = await this.#open();
    await file.appendFile(text);
    await file.datasync();
    this.#bytes += text.length;
    this.#lines += changes.size;
  }

  async close(): Promise<void> {
    await this.#closeFile();
    if (!this.#claimed) return;
    this.#claimed = false;
    held.delete(this.#lock);
    await unlink(this.#lock).catch(() => {});
  }

  async #closeFile(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  #apply(key: string, value: string | null): void {
    if (value === null) this.#records.delete(key);
    else this.#records.set(key, value);
  }

  async #open(): Promise<FileHandle> {
    this.#file ??= await open(this.#path, "a", 0o600);
    return this.#file;
  }

  async #rewrite(): Promise<void> {
    await this.#closeFile();
    await mkdir(dirname(this.#path), { recursive: true });
    const text = [...this.#records].map(([key, value]) => line(key, value)).join("");
    const fresh = await open(`${this.#path}.new`, "w", 0o600);
    await fresh.writeFile(text);
    await fresh.sync();
    await fresh.close();
    await rename(`${this.#path}.new`, this.#path);
    this.#bytes = text.length;
    this.#lines = this.#records.size;
  }
}

/** The locks that clients of this process have. */
const held = new Set<string>();

function existed(error: NodeJS.ErrnoException): boolean {
  if (error.code === "EEXIST") return false;
  throw error;
}

/** Whether there is a process of this id, also one that is not ours. */
function lives(pid: number): boolean {
  if (!(pid > 0)) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function line(key: string, value: string | null): string {
  return `${JSON.stringify(value === null ? [key] : [key, value])}\n`;
}

function parse(text: string): [string, string?] | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) && typeof value[0] === "string" ? (value as [string, string?]) : undefined;
  } catch {
    return undefined;
  }
}
