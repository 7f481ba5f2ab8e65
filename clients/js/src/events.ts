/** An EventTarget that knows its events, and the events of this library. */

import type { Confirmation, Envelope, Json, Offer, Outgoing } from "./protocol.js";
import type { SparkmeshError } from "./errors.js";

type Listener<E> = ((event: E) => unknown) | { handleEvent(event: E): unknown };

export class TypedEventTarget<Events extends { [K in keyof Events]: Event }> extends EventTarget {
  override addEventListener<K extends keyof Events & string>(
    type: K,
    listener: Listener<Events[K]> | null,
    options?: boolean | AddEventListenerOptions,
  ): void {
    super.addEventListener(type, listener as EventListenerOrEventListenerObject | null, options);
  }

  override removeEventListener<K extends keyof Events & string>(
    type: K,
    listener: Listener<Events[K]> | null,
    options?: boolean | EventListenerOptions,
  ): void {
    super.removeEventListener(type, listener as EventListenerOrEventListenerObject | null, options);
  }

  /**
   * Calls `handler` for each event, and returns what ends that. For a `message`, the promise that a handler returns is
   * waited for as with `waitUntil()`, and what it throws keeps the message from being acknowledged.
   */
  on<K extends keyof Events & string>(
    type: K,
    handler: (event: Events[K]) => unknown,
    options: { readonly signal?: AbortSignal; readonly once?: boolean } = {},
  ): () => void {
    const listener = (event: Events[K]): void => {
      if (!(event instanceof EnvelopeEvent)) {
        handler(event);
        return;
      }
      try {
        event.waitUntil(handler(event));
      } catch (error) {
        event.waitUntil(Promise.reject(error));
      }
    };
    this.addEventListener(type, listener, options);
    return () => this.removeEventListener(type, listener);
  }
}

/** How to answer an envelope. */
export type Replier = (payload: Json, fields?: Outgoing) => Promise<Confirmation>;

/** An envelope from somebody. It is acknowledged when everything given to `waitUntil()` is done. */
export class EnvelopeEvent extends Event {
  readonly envelope: Envelope;
  readonly #reply: Replier;
  readonly #work: Promise<unknown>[] = [];

  constructor(type: string, envelope: Envelope, reply: Replier) {
    super(type);
    this.envelope = envelope;
    this.#reply = reply;
  }

  /** To be called while the event is dispatched: do not acknowledge before this is done. */
  waitUntil(work: unknown): void {
    this.#work.push(Promise.resolve(work));
  }

  /** Answers the sender: in private in a session, with the `reference` that its `request()` waits for. */
  reply(payload: Json, fields: Outgoing = {}): Promise<Confirmation> {
    return this.#reply(payload, fields);
  }

  /** @internal All that was given to `waitUntil()` of these events. */
  static async settled(events: readonly EnvelopeEvent[]): Promise<void> {
    const outcomes = await Promise.allSettled(events.flatMap((event) => event.#work));
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") throw outcome.reason;
    }
  }
}

/** A connection stands: the server has answered on it. */
export class ConnectedEvent extends Event {
  readonly offer: Offer;
  constructor(offer: Offer) {
    super("connected");
    this.offer = offer;
  }
}

/** There is no connection now; the next attempt is made in `retryInMs`. */
export class DisconnectedEvent extends Event {
  readonly error: SparkmeshError;
  readonly retryInMs: number;
  constructor(error: SparkmeshError, retryInMs: number) {
    super("disconnected");
    this.error = error;
    this.retryInMs = retryInMs;
  }
}

/** It is over: closed by the application (`error` is undefined), or no further attempt would change anything. */
export class ClosedEvent extends Event {
  readonly error: SparkmeshError | undefined;
  constructor(error: SparkmeshError | undefined) {
    super("closed");
    this.error = error;
  }
}

/** The server drains. */
export class GoingAwayEvent extends Event {
  readonly reconnectAfterMs: number;
  constructor(reconnectAfterMs: number) {
    super("goingaway");
    this.reconnectAfterMs = reconnectAfterMs;
  }
}

/** An envelope of this device is confirmed, also one that was sent before a reload. */
export class ConfirmedEvent extends Event {
  readonly envelope: Outgoing;
  readonly confirmation: Confirmation;
  constructor(envelope: Outgoing, confirmation: Confirmation) {
    super("confirmed");
    this.envelope = envelope;
    this.confirmation = confirmation;
  }
}

/** An envelope of this device was refused, also one that was sent before a reload. It is not sent again. */
export class RefusedEvent extends Event {
  readonly envelope: Outgoing;
  readonly error: SparkmeshError;
  constructor(envelope: Outgoing, error: SparkmeshError) {
    super("refused");
    this.envelope = envelope;
    this.error = error;
  }
}

/** An envelope went to an inbox because `node` is not there (`away`), or has never been seen (`unknown`). */
export class AbsenceEvent extends Event {
  /** The device or session member, by the id the sender knows; or the client id, when no device of it is known. */
  readonly node: string;
  readonly id: string | undefined;
  readonly session: string | undefined;
  constructor(type: "away" | "unknown", node: string, id: string | undefined, session: string | undefined) {
    super(type);
    this.node = node;
    this.id = id;
    this.session = session;
  }
}

/** Something went wrong that no promise of the application stands for. */
export class FaultEvent extends Event {
  readonly error: unknown;
  /** For a handler that failed: what it was given. It is tried again in `retryInMs`. */
  readonly envelope: Envelope | undefined;
  readonly retryInMs: number | undefined;
  constructor(error: unknown, envelope?: Envelope, retryInMs?: number) {
    super("fault");
    this.error = error;
    this.envelope = envelope;
    this.retryInMs = retryInMs;
  }
}

/** What happened in a session: `joined`, `left`, `revealed`, `online`, `offline`. */
export class MemberEvent extends Event {
  readonly session: string;
  /** By the id the session shows. */
  readonly node: string;
  /** For `revealed`: the node id of who was shown as `node` until now. */
  readonly revealed: string | undefined;
  /** When, on the server's clock. */
  readonly timestamp: number;
  constructor(type: string, session: string, node: string, timestamp: number, revealed?: string) {
    super(type);
    this.session = session;
    this.node = node;
    this.timestamp = timestamp;
    this.revealed = revealed;
  }
}

/** Who of a session is online, all at once: what one gets on joining or coming online. */
export class PresenceEvent extends Event {
  readonly session: string;
  readonly online: readonly string[];
  constructor(session: string, online: readonly string[]) {
    super("presence");
    this.session = session;
    this.online = online;
  }
}

export interface SessionEventMap {
  message: EnvelopeEvent;
  joined: MemberEvent;
  left: MemberEvent;
  revealed: MemberEvent;
  online: MemberEvent;
  offline: MemberEvent;
  presence: PresenceEvent;
}

export interface ClientEventMap extends SessionEventMap {
  connected: ConnectedEvent;
  disconnected: DisconnectedEvent;
  closed: ClosedEvent;
  goingaway: GoingAwayEvent;
  confirmed: ConfirmedEvent;
  refused: RefusedEvent;
  away: AbsenceEvent;
  unknown: AbsenceEvent;
  fault: FaultEvent;
}
