// Real servers of this test's own, alone or as a mesh: the binary of SPARKMESH_BIN, on ports that stay the same when they
// are started again.
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { until } from "./wait.mjs";

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
    return Server.startAt(await freePort(), ...flags);
  }

  /** @param {readonly string[]} flags */
  static async startAt(port, ...flags) {
    const server = new Server();
    server.flags = flags;
    server.port = port;
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
    // Alone it makes a secret of its own with `--dev`; servers of a mesh must have the same.
    const isAlone = this.flags.includes("--dev") && !this.flags.includes("--peer");
    const secret = isAlone || this.flags.includes("--secret-file") ? [] : ["--secret-file", this.secretFile];
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

/** Servers s1, s2 ... that know each other; each is told of all the others, so that any may start first. */
export class Mesh {
  servers = /** @type {Server[]} */ ([]);

  /** @param {readonly string[]} flags */
  static async start(count, ...flags) {
    const mesh = new Mesh();
    const ports = await Promise.all(Array.from({ length: count }, freePort));
    const peers = (own) => ports.filter((port) => port !== own).flatMap((port) => ["--peer", `ws://127.0.0.1:${port}`]);
    const starts = ports.map((port, n) => Server.startAt(port, "--node-id", `s${n + 1}`, ...peers(port), ...flags));
    mesh.servers = await Promise.all(starts);
    await until("all servers know each other", async () => {
      const views = await Promise.all(mesh.servers.map((server) => mesh.told(server)));
      return views.every((told) => told.length === count);
    });
    return mesh;
  }

  /** Where one may ask, in the words of one server. */
  async told(server) {
    const headers = { authorization: `Bearer ${key("asker")}` };
    const answer = await fetch(`${server.url}/v1/connect-info`, { headers });
    return answer.ok ? (await answer.json()).servers : [];
  }

  /** The server of this node id. */
  named(id) {
    return this.servers[Number(id.slice(1)) - 1];
  }

  async stop() {
    await Promise.all(this.servers.map((server) => server.stop()));
  }
}
