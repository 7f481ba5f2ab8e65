// A real server of this test's own: the binary of SPARKMESH_BIN, on a port that stays the same when it is started again.
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

export const BINARY = process.env.SPARKMESH_BIN ?? fileURLToPath(new URL("../../../../target/debug/sparkmesh", import.meta.url));
const SECRET = "a secret for tests alone";

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  server.close();
  await once(server, "close");
  return port;
}

const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

/** A key as an application's back end would mint it. */
export function key(sub, claims = {}) {
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ sub, exp: Math.floor(Date.now() / 1000) + 3600, ...claims })}`;
  return `${body}.${createHmac("sha256", SECRET).update(body).digest("base64url")}`;
}

export class Server {
  #process;
  #directory;

  /** @param {readonly string[]} flags */
  static async start(...flags) {
    const server = new Server();
    server.flags = flags;
    server.port = await freePort();
    server.#directory = await mkdtemp(join(tmpdir(), "sparkmesh-js-"));
    server.secretFile = join(server.#directory, "secret");
    await writeFile(server.secretFile, SECRET, { mode: 0o600 });
    await server.run();
    return server;
  }

  flags = /** @type {readonly string[]} */ ([]);
  port = 0;
  secretFile = "";
  log = "";

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async run() {
    const secret = this.flags.includes("--dev") ? [] : ["--secret-file", this.secretFile];
    const flags = ["serve", "--port", String(this.port), "--data-dir", join(this.#directory, "data"), ...secret, ...this.flags];
    const process_ = spawn(BINARY, flags, { stdio: ["ignore", "pipe", "pipe"] });
    this.#process = process_;
    process_.stderr.on("data", (text) => (this.log += text));
    const lines = createInterface({ input: process_.stdout });
    await new Promise((resolve, reject) => {
      lines.on("line", (line) => {
        this.log += `${line}\n`;
        if (line.startsWith("sparkmesh ready on ")) resolve(undefined);
      });
      process_.once("error", reject);
      process_.once("exit", (code) => reject(new Error(`the server ended with ${code}:\n${this.log}`)));
    });
  }

  /** @param {NodeJS.Signals} signal */
  async kill(signal = "SIGKILL") {
    const process_ = this.#process;
    if (process_.exitCode !== null || process_.signalCode !== null) return;
    process_.kill(signal);
    await once(process_, "exit");
  }

  /** Waits until it has ended by itself. @returns {Promise<number | null>} its exit code */
  async ended() {
    const process_ = this.#process;
    if (process_.exitCode === null && process_.signalCode === null) await once(process_, "exit");
    return process_.exitCode;
  }

  async stop() {
    await this.kill();
    await rm(this.#directory, { recursive: true, force: true });
  }
}
