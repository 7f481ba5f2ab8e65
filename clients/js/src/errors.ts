/** What can go wrong, one class for each thing an application may want to tell apart. */

import type { ErrorWord } from "./protocol.js";

/** The root of all errors of this library. */
export class SparkmeshError extends Error {
  override name = "SparkmeshError";
}

/** An option or argument that cannot be right. */
export class ConfigurationError extends SparkmeshError {
  override name = "ConfigurationError";
}

/** The server said no, over HTTP or on the socket. */
export class RefusedError extends SparkmeshError {
  override name = "RefusedError";
  readonly code: ErrorWord;
  /** The HTTP status, where it came over HTTP. */
  readonly status: number | undefined;
  /** How long the server asks to wait. */
  readonly retryAfterMs: number | undefined;
  /** The envelope that was refused, where it is known. */
  readonly id: string | undefined;

  constructor(
    code: ErrorWord,
    message: string,
    about: { status?: number | undefined; retryAfterMs?: number | undefined; id?: string | undefined } = {},
  ) {
    super(message);
    this.code = code;
    this.status = about.status;
    this.retryAfterMs = about.retryAfterMs;
    this.id = about.id;
  }
}

/** No server answered at this address. */
export class UnreachableError extends SparkmeshError {
  override name = "UnreachableError";
}

/** Something answered that does not speak as a server does. */
export class BadAnswerError extends SparkmeshError {
  override name = "BadAnswerError";
}

/** The connection ended. */
export class ConnectionError extends SparkmeshError {
  override name = "ConnectionError";
  /** The WebSocket close code; 1006 where the connection broke. */
  readonly closeCode: number;

  constructor(closeCode: number, message: string) {
    super(message);
    this.closeCode = closeCode;
  }
}

/** This client was closed. What was not confirmed stays in its storage and is sent when it starts again. */
export class ClosedError extends SparkmeshError {
  override name = "ClosedError";
}

/** A FAST envelope was under way when the connection ended; nobody can say whether it arrived. */
export class LostError extends SparkmeshError {
  override name = "LostError";
}

/** No reply came in time. The request may have been read. */
export class TimeoutError extends SparkmeshError {
  override name = "TimeoutError";
}

/** Nobody got the request. */
export class UndeliveredError extends SparkmeshError {
  override name = "UndeliveredError";
}

/** Too much waits for confirmation already. */
export class OutboxFullError extends SparkmeshError {
  override name = "OutboxFullError";
}

/** Larger than a server takes. */
export class TooLargeError extends SparkmeshError {
  override name = "TooLargeError";
}

/** What should outlive a reload could not be read or written. */
export class StorageError extends SparkmeshError {
  override name = "StorageError";
}

/** This browser, or this server, has no Web Push, or the person said no. */
export class PushUnavailableError extends SparkmeshError {
  override name = "PushUnavailableError";
}

/** @internal */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
