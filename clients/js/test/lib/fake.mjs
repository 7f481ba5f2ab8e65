// A server that does as the test says: what a real one does only when things go wrong.
import { once } from "node:events";
import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { until } from "./wait.mjs";

/** A key; a fake looks at none. */
export function anyKey(sub, exp = 4_000_000_000) {
  return `e30.${Buffer.from(JSON.stringify({ sub, exp })).toString("base64url")}.x`;
}

export class Fake {
  /** Stays what it is when it has stopped. */
  url = "";
  /** All that was asked over HTTP, and when. */
  asked = /** @type {{path: string, key: string, at: number}[]} */ ([]);
  /** All connections: their parameters, what came, and when they began. */
  edges = /** @type {{query: URLSearchParams, frames: any[], at: number, socket: import("ws").WebSocket}[]} */ ([]);
  /** What connect-info answers with, first to last; then plain offers. */
  answers = /** @type {((offer: any, body: string) => {status?: number, headers?: object, body?: any, lost?: boolean})[]} */ ([]);
  /** Called for each frame but the probe, which is answered. */
  onFrame = (_edge, _frame) => {};
  /** Called for each new connection. */
  onEdge = (_edge) => {};
  #http = createServer((request, response) => this.#answer(request, response));
  #sockets = new WebSocketServer({ server: this.#http });

  static async start() {
    const fake = new Fake();
    fake.#http.listen(0, "127.0.0.1");
    await once(fake.#http, "listening");
    fake.url = `http://127.0.0.1:${/** @type {any} */ (fake.#http.address()).port}`;
    fake.#sockets.on("connection", (socket, request) => fake.#take(socket, request));
    return fake;
  }

  offer() {
    return { node_id: "srv", ws_url: `${this.url.replace("http", "ws")}/v1/connect`, validation_key: `v${this.asked.length}`, pending: 0, start_after_ms: 0 };
  }

  async edge(number) {
    await until(`connection ${number}`, () => this.edges.length > number);
    return this.edges[number];
  }

  /** May be said twice. */
  async stop() {
    if (!this.#http.listening) return;
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#http.closeAllConnections();
    this.#http.close();
    await once(this.#http, "close");
  }

  async #answer(request, response) {
    this.asked.push({ path: request.url, key: (request.headers.authorization ?? "").slice(7), at: Date.now() });
    let sent = "";
    for await (const part of request) sent += part;
    const { status = 200, headers = {}, body = this.offer(), lost = false } = this.answers.shift()?.(this.offer(), sent) ?? {};
    // It was done, and nobody learns of it.
    if (lost) return void request.socket.destroy();
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  }

  #take(socket, request) {
    const edge = { query: new URL(request.url, this.url).searchParams, frames: [], at: Date.now(), socket };
    this.edges.push(edge);
    socket.on("message", (data) => {
      const frame = JSON.parse(String(data));
      if (frame.type === -101) {
        const server_timestamp_add_diff = 5000;
        socket.send(JSON.stringify({ type: -102, dest_id: "me", payload: { server_timestamp_add_diff } }));
        return;
      }
      edge.frames.push(frame);
      this.onFrame(edge, frame);
    });
    this.onEdge(edge);
  }
}

export const send = (edge, frame) => edge.socket.send(JSON.stringify(frame));

export const confirm = (edge, { id, reference }, status = "delivered") =>
  send(edge, { type: -7, id, reference, status, delivered: 1, stored: 0, dropped: 0 });
