/** The client: what an application holds. Its parts are elsewhere; here they are put together. */

import type { Edge, Frame, WebSocketConstructor } from "./edge.js";
import {
  ClosedError, ConfigurationError, SparkmeshError, TooLargeError, type ConnectionError,
} from "./errors.js";
import {
  ClosedEvent, ConfirmedEvent, ConnectedEvent, DisconnectedEvent, EnvelopeEvent, FaultEvent, GoingAwayEvent,
  RefusedEvent, TypedEventTarget, type ClientEventMap,
} from "./events.js";
import { Http, type CallOptions } from "./http.js";
import { newId } from "./id.js";
import { Intake } from "./intake.js";
import { Keeper } from "./keeper.js";
import { claims, Keys } from "./key.js";
import { Life } from "./life.js";
import { absence, isNotice, noticeOf, presenceOf, refusalOf } from "./notices.js";
import type { ClientOptions, RequestOptions, SendOptions } from "./options.js";
import { byteLength, Outbox, type Entry } from "./outbox.js";
import {
  isFast, Type, type Confirmation, type Envelope, type InboxPage, type JoinOptions, type Json, type Outgoing,
  type PushProvider, type PushTokens, type SessionOptions, type SessionRecord,
} from "./protocol.js";
import { Requests } from "./requests.js";
import { Seen } from "./seen.js";
import { Servers } from "./servers.js";
import { Session } from "./session.js";
import { defaultStorage, type Storage } from "./storage.js";
import { abortable, Deferred } from "./time.js";

export type State = "idle" | "connecting" | "connected" | "waiting" | "closed";

export class Sparkmesh extends TypedEventTarget<ClientEventMap> {
  readonly #http: Http;
  readonly #servers: Servers;
  readonly #options: ClientOptions;
  readonly #life: Life;
  readonly #seen: Seen;
  readonly #outbox: Outbox;
  readonly #intake: Intake;
  readonly #requests = new Requests();
  readonly #sessions = new Map<string, Session>();
  readonly #loaded = new Deferred<void>();
  #storage: Storage | undefined;
  #keeper: Keeper | undefined;
  #edge: Edge | undefined;
  #stop: AbortController | undefined;
  #first = new Deferred<void>();
  #running: Promise<void> | undefined;
  #state: State = "idle";
  #nodeId: string | undefined;
  #clientId: string | undefined;
  #latencyMs: number | undefined;
  #clockOffsetMs = 0;

  /** @throws ConfigurationError */
  constructor(options: ClientOptions) {
    super();
    const socket = options.WebSocket ?? globalThis.WebSocket;
    if (typeof socket !== "function") {
      throw new ConfigurationError("there is no WebSocket here: give one, `new Sparkmesh({ WebSocket, ... })`; Node 20 has it in the package `ws`");
    }
    const keys = new Keys(options.key);
    this.#options = options;
    this.#servers = new Servers(options.url);
    this.#http = new Http(this.#servers, keys, options.fetch ?? ((...call) => globalThis.fetch(...call)));
    this.#seen = new Seen(Math.max(1, options.remember ?? 2048));
    this.#outbox = new Outbox({ maxCount: options.outbox?.maxCount ?? 1000, maxBytes: options.outbox?.maxBytes ?? 4_000_000 });
    this.#intake = new Intake(this.#seen, {
      dispatch: (envelope) => this.#dispatch(envelope),
      acknowledge: (envelope) => this.#acknowledge(envelope),
      failed: (error, envelope, retryInMs) => this.dispatchEvent(new FaultEvent(error, envelope, retryInMs)),
    });
    const query = { session_id: options.sessionHint, need_80_port: options.needPort80 ? 1 : undefined };
    const life = {
      socket: socket as WebSocketConstructor, query, inbox: options.inbox ?? "auto", ack: options.ack ?? "app", backoff: options.backoff ?? {},
    };
    this.#life = new Life(this.#http, keys, life, {
      prepared: (key) => this.#prepare(key),
      opened: (edge) => this.#opened(edge),
      connected: (offer) => {
        this.#state = "connected";
        this.#first.resolve();
        this.dispatchEvent(new ConnectedEvent(offer));
      },
      measured: (latencyMs, clockOffsetMs) => {
        this.#latencyMs = latencyMs;
        this.#clockOffsetMs = clockOffsetMs;
      },
      frame: (frame) => this.#take(frame),
      goingAway: (afterMs) => this.dispatchEvent(new GoingAwayEvent(afterMs)),
      ended: (error) => this.#ended(error),
      waiting: (error, retryInMs) => {
        this.#state = "waiting";
        this.dispatchEvent(new DisconnectedEvent(error, retryInMs));
      },
    });
  }

  get state(): State {
    return this.#state;
  }

  /** Who this device is; known once there is a key. */
  get nodeId(): string | undefined {
    return this.#nodeId;
  }

  /** Whose device this is, if the key says so. */
  get clientId(): string | undefined {
    return this.#clientId;
  }

  /** Addresses of servers: those given, and those that the last offers named, where to ask when one is gone. */
  get servers(): string[] {
    return this.#servers.all.map(({ origin }) => origin);
  }

  /** There and back to the server, as last measured. */
  get latencyMs(): number | undefined {
    return this.#latencyMs;
  }

  /** Now, in ms since 1970, on the server's clock. */
  serverNow(): number {
    return Date.now() + this.#clockOffsetMs;
  }

  /** What was sent and is not yet confirmed, in the order in which it was sent. */
  get unconfirmed(): Outgoing[] {
    return this.#outbox.entries().map((entry) => entry.envelope);
  }

  /**
   * Connects, and stays connected until `close()`, or until an end that no further attempt would change. Resolves with
   * the first connection; `signal` gives up waiting for that.
   */
  async connect({ signal }: CallOptions = {}): Promise<void> {
    signal?.throwIfAborted();
    if (this.#running === undefined) {
      this.#stop = new AbortController();
      this.#first = new Deferred();
      this.#state = "connecting";
      this.#running = this.#run(this.#stop.signal).finally(() => (this.#running = undefined));
    }
    try {
      await abortable(this.#first.promise, signal);
    } catch (error) {
      if (signal?.aborted) await this.close();
      throw error;
    }
  }

  /** Ends it. What is not confirmed stays in the storage, and is sent when a client with that storage connects. */
  async close(): Promise<void> {
    this.#stop?.abort(new ClosedError("this client was closed"));
    if (this.#running) await this.#running;
    else this.#state = "closed";
  }

  /**
   * Sends, and resolves when the server has confirmed what became of it. RELIABLE (the default) waits for a connection,
   * and is sent again until it is confirmed; FAST needs a connection, or is dropped.
   * @throws RefusedError, OutboxFullError, TooLargeError, ClosedError, and for FAST LostError
   */
  send(envelope: Outgoing, options: SendOptions = {}): Promise<Confirmation> {
    return this.#send(envelope, options, "kept");
  }

  /** Sends FAST, without any promise: for what is outdated in a moment. Whether it was written. */
  fast(envelope: Outgoing): boolean {
    if (!this.#edge?.hasRoom) return false;
    const frame = JSON.stringify({ ...envelope, feature: "FAST" });
    this.#checkSize(frame);
    this.#edge.write(frame);
    return true;
  }

  /**
   * Asks a device (or by `dest_client_id` whichever answers first), and resolves with the reply.
   * @throws TimeoutError, UndeliveredError, and what `send()` does
   */
  async request(to: string | Outgoing, payload: Json, options: RequestOptions = {}): Promise<Envelope> {
    const { timeout = 30_000, signal, fields = {} } = options;
    signal?.throwIfAborted();
    const dest = typeof to === "string" ? { dest_id: to } : to;
    const id = newId();
    const reply = this.#requests.wait(id, dest.dest_id);
    const timer = setTimeout(() => this.#requests.timedOut(id, timeout), timeout);
    const abort = (): void => this.#requests.fail(id, signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    const envelope = { ttl_ms: timeout, ...fields, ...dest, payload, id, reference: Requests.reference(id) };
    this.#send(envelope, {}, "fleeting").then(
      ({ status }) => status === "dropped" && this.#requests.undelivered(id),
      (error: unknown) => this.#requests.fail(id, error),
    );
    try {
      return await reply;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      this.#outbox.remove(id);
    }
  }

  /** The session of this id, whether or not this device is in it. */
  session(id: string): Session {
    let session = this.#sessions.get(id);
    if (!session) {
      session = new Session(id, {
        http: this.#http,
        send: (envelope, options) => this.send(envelope, options),
        fast: (envelope) => this.fast(envelope),
        request: (to, payload, options) => this.request(to, payload, options),
        forget: () => this.#sessions.delete(id),
      });
      this.#sessions.set(id, session);
    }
    return session;
  }

  async createSession(options: SessionOptions = {}, call?: CallOptions): Promise<{ session: Session; record: SessionRecord }> {
    const record = await this.#http.sessions.create(options, call);
    const session = this.session(record.session_id);
    session.recorded(record);
    return { session, record };
  }

  async joinSession(id: string, options: JoinOptions = {}, call?: CallOptions): Promise<Session> {
    const membership = await this.#http.sessions.join(id, options, call);
    const session = this.session(id);
    session.joined(membership);
    return session;
  }

  /** What waits in the inbox, for `inbox: "manual"`. Fetching acknowledges nothing. */
  inbox(range: { readonly after?: number; readonly limit?: number } = {}, call?: CallOptions): Promise<InboxPage> {
    return this.#http.inbox.page(range, call);
  }

  /** Acknowledges the inbox up to and including a `seq`. */
  acknowledge(to: number, call?: CallOptions): Promise<{ acknowledged: number; pending: number }> {
    return this.#http.inbox.acknowledge(to, call);
  }

  pushTokens(call?: CallOptions): Promise<PushTokens> {
    return this.#http.pushTokens.get(call);
  }

  async addPushToken(provider: PushProvider, token: string, call?: CallOptions): Promise<void> {
    await this.#http.pushTokens.put(provider, token, call);
  }

  async removePushToken(provider: PushProvider, token: string, call?: CallOptions): Promise<void> {
    await this.#http.pushTokens.delete(provider, token, call);
  }

  async #run(signal: AbortSignal): Promise<void> {
    this.#intake.start(signal);
    const wake = (): void => this.#life.wake();
    globalThis.addEventListener?.("online", wake);
    globalThis.document?.addEventListener("visibilitychange", wake);
    let error: SparkmeshError | undefined;
    try {
      error = await this.#life.run(signal);
    } catch (reason) {
      if (!signal.aborted) error = reason instanceof SparkmeshError ? reason : new SparkmeshError(String(reason), { cause: reason });
    } finally {
      globalThis.removeEventListener?.("online", wake);
      globalThis.document?.removeEventListener("visibilitychange", wake);
    }
    const closed = new ClosedError(error ? `this client has given up: ${error.message}` : "this client was closed", { cause: error });
    this.#state = "closed";
    this.#stop?.abort(closed);
    this.#requests.failAll(closed);
    this.#outbox.abandon(closed);
    this.#first.reject(error ?? closed);
    await this.#keeper?.close();
    this.#keeper = undefined;
    this.#seen.detach();
    this.#outbox.detach();
    this.dispatchEvent(new ClosedEvent(error));
  }

  /** With the first key it is known who this is, and where an earlier life left what it knew. */
  async #prepare(key: string): Promise<void> {
    const { sub, client_id } = claims(key);
    this.#clientId = client_id;
    if (this.#nodeId !== undefined && this.#nodeId !== sub) {
      throw new ConfigurationError(`the new key is for ${sub}, and this client is ${this.#nodeId}`);
    }
    this.#nodeId = sub;
    if (this.#keeper) return;
    const { storage = defaultStorage } = this.#options;
    this.#storage ??= typeof storage === "function" ? storage(sub) : storage;
    this.#keeper = new Keeper(this.#storage, (error) => this.dispatchEvent(new FaultEvent(error)), (records, journal) => {
      this.#seen.restore(records, journal);
      for (const entry of this.#outbox.restore(records, journal)) this.#write(entry);
    });
    try {
      await this.#keeper.start();
    } catch (error) {
      this.#keeper = undefined;
      throw error;
    }
    this.#loaded.resolve();
  }

  #opened(edge: Edge): void {
    this.#edge = edge;
    for (const entry of this.#outbox.entries()) this.#write(entry);
  }

  #write(entry: Entry): void {
    if (entry.written || !this.#edge?.isOpen) return;
    entry.written = true;
    this.#edge.write(entry.frame);
  }

  #ended(error: ConnectionError): void {
    this.#edge = undefined;
    if (error.closeCode === 1009) {
      // If any was too large for the server the largest was; sent again it would end each connection.
      const entry = this.#outbox.largestWritten();
      if (entry) this.#refuse(entry, new TooLargeError(`${entry.bytes} bytes are more than the server takes`, { cause: error }));
    }
    this.#outbox.disconnected();
  }

  #send(envelope: Outgoing, { signal }: SendOptions, keep: "kept" | "fleeting"): Promise<Confirmation> {
    let id: string;
    let full: Outgoing;
    let frame: string;
    try {
      signal?.throwIfAborted();
      if (this.#state === "closed") throw new ClosedError("this client is closed: connect() first");
      id = envelope.id ?? newId();
      const type = envelope.type ?? (envelope.feature === "FAST" ? undefined : 1);
      full = { ...envelope, ...(type !== undefined && { type }), id, reference: envelope.reference ?? id };
      if (full.dest_id === undefined && full.dest_client_id === undefined && full.dest_session_id === undefined) {
        throw new ConfigurationError("to whom? An envelope needs `dest_id`, `dest_client_id` or `dest_session_id`");
      }
      // What the caller does with its objects later is none of this envelope's business.
      frame = JSON.stringify(full);
      this.#checkSize(frame);
    } catch (error) {
      return Promise.reject(error);
    }
    if (isFast(full) && !this.#edge?.isOpen) {
      return Promise.resolve({ id, reference: String(full.reference), status: "dropped", delivered: 0, stored: 0, dropped: 1 });
    }
    const sent = this.#loaded.promise.then(() => {
      signal?.throwIfAborted();
      if (this.#state === "closed") throw new ClosedError("this client is closed: connect() first");
      const entry = this.#outbox.add(id, JSON.parse(frame), frame, keep);
      this.#write(entry);
      return entry.outcome.promise;
    });
    const remove = (): void => void this.#outbox.remove(id);
    signal?.addEventListener("abort", remove, { once: true });
    return abortable(sent, signal).finally(() => signal?.removeEventListener("abort", remove));
  }

  #checkSize(frame: string): void {
    const { maxMessageBytes = 1_000_000 } = this.#options;
    const bytes = byteLength(frame);
    if (bytes > maxMessageBytes) throw new TooLargeError(`this envelope has ${bytes} bytes, and ${maxMessageBytes} are allowed`);
  }

  #take(frame: Frame): void {
    switch (frame.type) {
      case Type.CONFIRMATION:
        return this.#confirmed(frame as unknown as Confirmation);
      case Type.ERROR:
      case Type.SESSION_UNAUTHORIZED:
        return this.#refused(frame);
      case Type.USER_OFFLINE:
      case Type.NODE_UNKNOWN:
        this.dispatchEvent(absence(frame));
        return;
      case Type.ONLINE:
      case Type.OFFLINE: {
        const event = presenceOf(frame);
        if (!event) return;
        this.session(event.session).observe(event);
        this.dispatchEvent(presenceOf(frame) ?? event);
        return;
      }
    }
    if (typeof frame["src_id"] !== "string" || typeof frame["id"] !== "string") return;
    const envelope = { ...frame, type: frame.type ?? 0 } as unknown as Envelope;
    if (this.#intake.isRepetition(envelope)) this.#acknowledge(envelope);
    else if (this.#requests.take(envelope)) void this.#intake.settled(envelope);
    else this.#intake.take(envelope);
  }

  async #dispatch(envelope: Envelope): Promise<void> {
    const { dest_session_id, type } = envelope;
    const session = dest_session_id === undefined ? undefined : this.#sessions.get(dest_session_id);
    if (isNotice(type)) {
      const own = noticeOf(envelope);
      session?.observe(noticeOf(envelope));
      this.dispatchEvent(own);
      return;
    }
    // Reserved for what a newer server may say.
    if (type < 0 || (type > 99 && type < 200)) return;
    const events = [this, ...(session ? [session] : [])].map((target) => {
      const event = new EnvelopeEvent("message", envelope, (payload, fields) => this.#reply(envelope, payload, fields));
      target.dispatchEvent(event);
      return event;
    });
    await EnvelopeEvent.settled(events);
  }

  #reply({ src_id, dest_session_id, reference, type }: Envelope, payload: Json, fields: Outgoing = {}): Promise<Confirmation> {
    const session = dest_session_id === undefined ? {} : { dest_session_id };
    return this.send({ ...(type > 0 && { type }), ...fields, dest_id: src_id, ...session, ...(reference && { reference }), payload });
  }

  #acknowledge({ src_id, id }: Envelope): void {
    if (this.#options.ack !== "pong") this.#edge?.write(JSON.stringify({ type: Type.ACK, src_id, id }));
  }

  #confirmed(confirmation: Confirmation): void {
    const entry = this.#outbox.remove(confirmation.id);
    if (!entry) return;
    entry.outcome.resolve(confirmation);
    this.dispatchEvent(new ConfirmedEvent(entry.envelope, confirmation));
  }

  #refused(frame: Frame): void {
    const error = refusalOf(frame);
    const entry = error.id === undefined ? undefined : this.#outbox.get(error.id);
    if (!entry) this.dispatchEvent(new FaultEvent(error));
    // Of a server that is about to end: sent again on the next connection.
    else if (error.code !== "draining" && error.code !== "rate_limited") this.#refuse(entry, error);
  }

  #refuse(entry: Entry, error: SparkmeshError): void {
    this.#outbox.remove(entry.id);
    entry.outcome.reject(error);
    this.dispatchEvent(new RefusedEvent(entry.envelope, error));
  }
}
