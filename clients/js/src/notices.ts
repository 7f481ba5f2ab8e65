/** Frames of the server's own, as the events and errors they stand for. */

import { RefusedError } from "./errors.js";
import { AbsenceEvent, MemberEvent, PresenceEvent } from "./events.js";
import type { Frame } from "./edge.js";
import { Type, type Envelope, type ErrorWord } from "./protocol.js";

const NOTICES: Readonly<Record<number, string>> = {
  [Type.JOINED]: "joined",
  [Type.LEFT]: "left",
  [Type.REVEALED]: "revealed",
};

/** Of a session, and kept in inboxes like a message. */
export function isNotice(type: number): boolean {
  return type in NOTICES;
}

export function noticeOf(envelope: Envelope): MemberEvent {
  const { type, dest_session_id = "", src_id, timestamp, payload } = envelope;
  const revealed = type === Type.REVEALED && typeof payload === "string" ? payload : undefined;
  return new MemberEvent(NOTICES[type] ?? "", dest_session_id, src_id, timestamp, revealed);
}

/** ONLINE or OFFLINE of one member, or all who are online; undefined where it is neither. */
export function presenceOf(frame: Frame): MemberEvent | PresenceEvent | undefined {
  const session = frame["dest_session_id"];
  if (typeof session !== "string") return undefined;
  if (typeof frame["src_id"] === "string") {
    const type = frame.type === Type.ONLINE ? "online" : "offline";
    return new MemberEvent(type, session, frame["src_id"], Number(frame["timestamp"]));
  }
  const online = (frame["payload"] as { online?: unknown } | undefined)?.online;
  return Array.isArray(online) ? new PresenceEvent(session, online.map(String)) : undefined;
}

/** Of a USER_OFFLINE or a NODE_UNKNOWN. */
export function absence(frame: Frame): AbsenceEvent {
  const node = text(frame["src_id"]) ?? text(frame["src_client_id"]) ?? "";
  const type = frame.type === Type.USER_OFFLINE ? "away" : "unknown";
  return new AbsenceEvent(type, node, text(frame["id"]), text(frame["dest_session_id"]));
}

/** Of an ERROR or a SESSION_UNAUTHORIZED. */
export function refusalOf(frame: Frame): RefusedError {
  const id = text(frame["id"]);
  if (frame.type === Type.SESSION_UNAUTHORIZED) {
    const session = text(frame["dest_session_id"]) ?? "?";
    return new RefusedError("session_unauthorized", `not allowed in the session ${session}, or there is none`, { id });
  }
  return new RefusedError(frame["code"] as ErrorWord, text(frame["message"]) ?? "refused", { id });
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
