/**
 * One connection: opens a WebSocket, tells when the server has answered on it, watches for signs of life, and ends once.
 * Browsers show a script neither the server's pings nor a refused handshake, so a question of its own serves for both.
 */

import { Type, type Offer } from "./protocol.js";
import { steady } from "./time.js";

/** What is used of a WebSocket; a browser's, Node 22's and that of `ws` all have it. */
export interface WebSocketLike {
  readonly readyState: number;
  readonly bufferedAmount: number;
  send(data: string): void;
  close(code?: number, reason?: string): void;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: { code: number; reason: string }) => void) | null;
  onerror: ((event: never) => void) | null;
}

export type WebSocketConstructor = new (url: string) => WebSocketLike;

export type Frame = { readonly type?: unknown } & Record<string, unknown>;

export interface EdgeHandlers {
  /** Frames may be written now. */
  opened(): void;
  /** The server has answered: `latencyMs` for there and back, and its clock minus ours. */
  answered(latencyMs: number, clockOffsetMs: number): void;
  frame(frame: Frame): void;
  /** Once, and nothing after it. */
  ended(code: number, reason: string): void;
}

/** A handshake takes no longer. */
const OPENING_MS = 15_000;
/** After so long without a frame the server is asked for a sign of life ... */
const IDLE_MS = 25_000;
/** ... and this long it has for that. */
const ANSWER_MS = 10_000;
/** FAST envelopes are dropped rather than queued behind so many bytes. */
const MAX_BUFFERED = 1 << 20;

const OPEN = 1;

export class Edge {
  readonly #socket: WebSocketLike;
  readonly #handlers: EdgeHandlers;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #askedAt: number | undefined;
  #ended = false;

  constructor(constructor: WebSocketConstructor, url: string, handlers: EdgeHandlers) {
    this.#handlers = handlers;
    this.#socket = new constructor(url);
    this.#socket.onopen = () => {
      handlers.opened();
      this.probe();
    };
    this.#socket.onmessage = ({ data }) => this.#take(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
    // What went wrong is told by the close that follows.
    this.#socket.onerror = () => {};
    this.#expect(OPENING_MS, "the handshake was not answered");
  }

  get isOpen(): boolean {
    return !this.#ended && this.#socket.readyState === OPEN;
  }

  /** Whether more may be queued that may as well be lost. */
  get hasRoom(): boolean {
    return this.isOpen && this.#socket.bufferedAmount < MAX_BUFFERED;
  }

  /** Only while it is open. */
  write(frame: string): void {
    if (this.isOpen) this.#socket.send(frame);
  }

  /** Asks for a sign of life, unless that is under way. */
  probe(): void {
    if (this.#askedAt !== undefined || !this.isOpen) return;
    this.#askedAt = steady();
    this.write(JSON.stringify({ type: Type.CONFIG_REQUEST, payload: { timestamp: Date.now() } }));
    this.#expect(ANSWER_MS, "no sign of life");
  }

  /** Ends it from this side. A socket that is cut off would tell of its close much later, so nobody waits for that. */
  end(code: number, reason: string): void {
    if (this.#ended) return;
    try {
      // 1001 and 1006 are not for scripts to send.
      this.#socket.close(code === 1000 ? 1000 : 4000);
    } catch {
      // It was not open yet, and is now abandoned.
    }
    this.#end(code, reason);
  }

  #take(data: unknown): void {
    if (this.#ended || typeof data !== "string") return;
    let frame: Frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof frame !== "object" || frame === null) return;
    if (frame.type === Type.CONFIG_RESPONSE && this.#askedAt !== undefined) this.#answered(frame);
    else {
      if (this.#askedAt === undefined) this.#rest();
      this.#handlers.frame(frame);
    }
  }

  #answered(frame: Frame): void {
    const latency = steady() - (this.#askedAt ?? 0);
    const payload = frame["payload"] as { server_timestamp_add_diff?: unknown } | undefined;
    const difference = Number(payload?.server_timestamp_add_diff ?? 0);
    this.#askedAt = undefined;
    this.#rest();
    this.#handlers.answered(latency, difference - latency / 2);
  }

  #rest(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.probe(), IDLE_MS);
  }

  #expect(ms: number, orElse: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end(1006, orElse), ms);
  }

  #end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#handlers.ended(code, reason);
  }
}

/** Where a WebSocket is opened, with its keys: never to be shown. */
export function socketUrl(offer: Offer, key: string, options: { readonly inbox: string; readonly ack: string }): string {
  const url = new URL(offer.ws_url);
  url.searchParams.set("auth_key", key);
  url.searchParams.set("validation_key", offer.validation_key);
  url.searchParams.set("inbox", options.inbox);
  url.searchParams.set("ack", options.ack);
  return url.href;
}
