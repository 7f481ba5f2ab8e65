/** A session as this device sees it: its events, who is online, and what can be done in it. */

import { MemberEvent, PresenceEvent, TypedEventTarget, type SessionEventMap } from "./events.js";
import type { CallOptions, Http } from "./http.js";
import type { Confirmation, Envelope, Json, MemberPresence, Membership, Outgoing, SessionRecord } from "./protocol.js";
import type { RequestOptions, SendOptions } from "./options.js";

/** What a session needs of its client. */
export interface SessionHost {
  readonly http: Http;
  send(envelope: Outgoing, options?: SendOptions): Promise<Confirmation>;
  fast(envelope: Outgoing): boolean;
  request(to: Outgoing, payload: Json, options?: RequestOptions): Promise<Envelope>;
  forget(session: string): void;
}

export class Session extends TypedEventTarget<SessionEventMap> {
  readonly id: string;
  readonly #host: SessionHost;
  readonly #online = new Set<string>();
  #me: string | undefined;

  /** @internal */
  constructor(id: string, host: SessionHost) {
    super();
    this.id = id;
    this.#host = host;
  }

  /** The id by which others see this device here; known after joining, creating, `info()` or `reveal()`. */
  get me(): string | undefined {
    return this.#me;
  }

  /** Who else is online, as the server has told so far. Empty in a session without `presence`. */
  get online(): ReadonlySet<string> {
    return this.#online;
  }

  /** To all members. */
  send(payload: Json, fields: Outgoing = {}, options?: SendOptions): Promise<Confirmation> {
    return this.#host.send({ ...fields, dest_session_id: this.id, payload }, options);
  }

  /** To all members who are there, without any promise. Whether it was written. */
  fast(payload: Json, fields: Outgoing = {}): boolean {
    return this.#host.fast({ ...fields, dest_session_id: this.id, payload });
  }

  /** To one member, by the id it is shown by. */
  sendTo(member: string, payload: Json, fields: Outgoing = {}, options?: SendOptions): Promise<Confirmation> {
    return this.send(payload, { ...fields, dest_id: member }, options);
  }

  /** Asks one member, by the id it is shown by, and resolves with its reply. */
  request(member: string, payload: Json, options?: RequestOptions): Promise<Envelope> {
    return this.#host.request({ dest_id: member, dest_session_id: this.id }, payload, options);
  }

  async info(call?: CallOptions): Promise<SessionRecord> {
    const record = await this.#host.http.sessions.info(this.id, call);
    this.recorded(record);
    return record;
  }

  /** All members, and whether they are online; `online` is renewed by it. */
  async presence(call?: CallOptions): Promise<MemberPresence[]> {
    const { members } = await this.#host.http.sessions.presence(this.id, call);
    this.#online.clear();
    for (const { node_id, online } of members) {
      if (online && node_id !== this.#me) this.#online.add(node_id);
    }
    return members;
  }

  async leave(call?: CallOptions): Promise<void> {
    await this.#host.http.sessions.leave(this.id, undefined, call);
    this.#online.clear();
    this.#host.forget(this.id);
  }

  /** From now on others see this device's node id. */
  async reveal(call?: CallOptions): Promise<void> {
    await this.#host.http.sessions.reveal(this.id, call);
    await this.info(call);
  }

  /** Adds somebody: for the owner and apps. */
  add(node: string, options: { readonly anonymous_id?: string } = {}, call?: CallOptions): Promise<Membership> {
    return this.#host.http.sessions.join(this.id, { ...options, node_id: node }, call);
  }

  /** Removes somebody, by the id it is shown by: for the owner and apps. */
  async remove(member: string, call?: CallOptions): Promise<void> {
    await this.#host.http.sessions.leave(this.id, member, call);
  }

  /** @internal */
  joined(membership: Membership): void {
    this.#me = membership.anonymous_id ?? membership.node_id;
  }

  /** @internal */
  recorded({ current_node_info }: SessionRecord): void {
    if (current_node_info) this.#me = current_node_info[1] ?? current_node_info[0];
  }

  /** @internal */
  observe(event: MemberEvent | PresenceEvent): void {
    if (event instanceof PresenceEvent) {
      this.#online.clear();
      for (const node of event.online) this.#online.add(node);
    } else if (event.type === "online") {
      this.#online.add(event.node);
    } else if (event.type === "offline" || event.type === "left") {
      this.#online.delete(event.node);
    } else if (event.type === "revealed" && event.revealed !== undefined && this.#online.delete(event.node)) {
      this.#online.add(event.revealed);
    }
    this.dispatchEvent(event);
  }
}
