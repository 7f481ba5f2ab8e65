/** For Node: a storage in a file. */

import { open, readFile, rename, mkdir, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import type { Changes, Storage } from "./storage.js";

/** Rewritten when it has so many bytes, and four times as many lines as records. */
const COMPACT_BYTES = 1 << 20;

/**
 * One file with a line for each change, `["key","value"]` or `["key"]`; written through to the disk. The file is
 * rewritten when most of it is outdated. One process at a time uses it.
 */
export class FileStorage implements Storage {
  readonly #path: string;
  readonly #records = new Map<string, string>();
  #file: FileHandle | undefined;
  #lines = 0;
  #bytes = 0;

  constructor(path: string) {
    this.#path = path;
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
    await this.close();
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
