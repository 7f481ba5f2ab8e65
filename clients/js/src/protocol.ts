/**
 * The words of the wire: what `docs/protocol.md` of the server says, as types and tables. No behaviour beyond looking
 * something up.
 */

/** Types that are the server's own. Applications use 0 (ephemeral), 1-99, and 200 and up. */
export const Type = {
  EPHEMERAL: 0,
  NODE_UNKNOWN: -3,
  USER_OFFLINE: -4,
  SESSION_UNAUTHORIZED: -5,
  ACK: -6,
  CONFIRMATION: -7,
  ERROR: -8,
  GOING_AWAY: -9,
  CONFIG_REQUEST: -101,
  CONFIG_RESPONSE: -102,
  JOINED: 100,
  LEFT: 103,
  REVEALED: 104,
  ONLINE: 105,
  OFFLINE: 106,
} as const;

export type Feature = "RELIABLE" | "FAST";

/** Any JSON value. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

/** What an application puts into an envelope, in the words of the wire. Fields not named here pass through as they are. */
export interface Outgoing {
  /** One device; with `dest_session_id` a private message to that member, by the id the session shows. */
  readonly dest_id?: string;
  /** All devices of a client, except this one. */
  readonly dest_client_id?: string;
  /** All members of a session, except this device. */
  readonly dest_session_id?: string;
  /** 1-99, 200 and up, or 0 (ephemeral). `send()` makes it 1 where it is absent. */
  readonly type?: number;
  readonly payload?: Json;
  readonly payload1?: Json;
  readonly payload2?: Json;
  /** Unique among this device's envelopes, 1-64 characters; made up where it is absent. */
  readonly id?: string;
  /** Asks for a confirmation and is delivered to the receiver too; the `id` where it is absent. */
  readonly reference?: string;
  readonly feature?: Feature;
  /** Forget it when it could not be delivered within this time. */
  readonly ttl_ms?: number;
  /** In an inbox it replaces an older one of this device with the same key. */
  readonly collapse_key?: string;
  readonly [field: string]: Json | undefined;
}

/** An envelope as it arrives. */
export interface Envelope extends Outgoing {
  /** The sender: its node id, or its anonymous id in a session. */
  readonly src_id: string;
  readonly id: string;
  readonly type: number;
  readonly src_client_id?: string;
  /** When the server took it, in ms since 1970 on its clock. */
  readonly timestamp: number;
  /** Its place in the inbox, when it comes from there. */
  readonly seq?: number;
  readonly session_epoch?: number;
  readonly session_seq?: number;
}

/** What became of an envelope. */
export interface Confirmation {
  readonly id: string;
  readonly reference: string;
  /**
   * `delivered`: all recipients have it. `stored`: all have it, or it is safe on disk in their inboxes.
   * `dropped`: at least one got it neither way.
   */
  readonly status: "delivered" | "stored" | "dropped";
  /** How many recipients. */
  readonly delivered: number;
  readonly stored: number;
  readonly dropped: number;
  /** For a join over the socket: who one is. */
  readonly payload?: Json;
}

/** Where to connect: the answer of `GET /v1/connect-info`, and the `offer` of a GOING_AWAY. */
export interface Offer {
  readonly node_id: string;
  readonly ws_url: string;
  readonly validation_key: string;
  /** Envelopes waiting in the inbox. */
  readonly pending: number;
  readonly start_after_ms: number;
  /** Where else to ask. */
  readonly servers: readonly string[];
}

/** The error words of the protocol, and `session_unauthorized` for its SESSION_UNAUTHORIZED. */
export type ErrorWord =
  | "bad_request"
  | "bad_envelope"
  | "too_large"
  | "rate_limited"
  | "unauthorized"
  | "forbidden"
  | "not_found"
  | "conflict"
  | "unavailable"
  | "full"
  | "draining"
  | "inbox_overflow"
  | "binary_frame"
  | "bad_utf8"
  | "session_unauthorized";

/** After these the same again has the same end. All others, and none (1006), mean: ask for a new offer. */
const FINAL_CLOSE_CODES: ReadonlySet<number> = new Set([1000, 1002, 1003, 1007, 1009, 4401, 4403, 4410]);

export function isFinalClose(code: number): boolean {
  return FINAL_CLOSE_CODES.has(code);
}

/** Memory only: FAST by its feature, or by its type where none is given. */
export function isFast(envelope: { readonly type?: number; readonly feature?: Feature }): boolean {
  return envelope.feature === undefined ? (envelope.type ?? 0) === 0 : envelope.feature === "FAST";
}

/** A session's options, in the words of the wire. */
export interface SessionOptions {
  readonly session_id?: string;
  readonly session_type?: "normal" | "game";
  readonly session_game_master_node_id?: string;
  readonly anyone_can_join?: boolean;
  readonly presence?: boolean;
  readonly is_anonymous?: boolean;
  readonly anonymous_id?: string;
  /** What is sent to the session goes to so many who joined last; -1: to all. */
  readonly notify_only_last_few_users?: number;
  /** App keys only: `[["node", "anonymous id"], ["node"]]`. */
  readonly members?: readonly (readonly [string] | readonly [string, string])[];
}

/** A session as a member or an app sees it; members by the ids the session shows. */
export interface SessionRecord {
  readonly session_id: string;
  /** The owner. */
  readonly node_id: string;
  readonly created_at: number;
  readonly session_type: number;
  readonly session_game_master_node_id: string | null;
  readonly anyone_can_join: boolean;
  readonly presence: boolean;
  readonly notify_only_last_few_users: number;
  /** In the order they joined. */
  readonly members: readonly string[];
  /** The asker's own node id and anonymous id. */
  readonly current_node_info: readonly [string, string | null] | null;
}

export interface JoinOptions {
  readonly anonymous_id?: string;
  readonly is_anonymous?: boolean;
}

export interface Membership {
  readonly session_id: string;
  readonly node_id: string;
  readonly anonymous_id: string | null;
}

export interface MemberPresence {
  readonly node_id: string;
  readonly online: boolean;
}

export interface InboxPage {
  readonly messages: readonly Envelope[];
  readonly from_seq: number | null;
  readonly to_seq: number | null;
  readonly more: boolean;
  readonly epoch: number;
  readonly dropped: number;
}

export type PushProvider = "fcm" | "apns" | "webpush" | "webhook";

export interface PushTokens {
  readonly providers: readonly PushProvider[];
  readonly vapid_public_key: string | null;
}
