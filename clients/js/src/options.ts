/** What an application may say to a client, and with a send or a request. */

import type { KeySource } from "./key.js";
import type { Outgoing } from "./protocol.js";
import type { ServerAddress } from "./servers.js";
import type { Storage } from "./storage.js";
import type { BackoffOptions } from "./time.js";

export interface ClientOptions {
  /** A server of the mesh, like `https://HOST:PORT`, or several; in a browser also relative to the page. */
  readonly url: ServerAddress;
  /** The device's key, or what gets one from the application's back end; asked for again when it has expired. */
  readonly key: KeySource;
  /** What outlives a reload. IndexedDB in browsers where absent, else memory. */
  readonly storage?: Storage | ((nodeId: string) => Storage);
  /** For Node before 22: the WebSocket of `ws`. */
  readonly WebSocket?: unknown;
  readonly fetch?: typeof globalThis.fetch;
  /** `auto` (default): what waited comes by itself, in order. `manual`: fetch it with `inbox()`. */
  readonly inbox?: "auto" | "manual";
  /** `app` (default): acknowledged when the application has handled it. `pong`: when it has arrived. */
  readonly ack?: "app" | "pong";
  /** Connect to the server where this session is busiest. */
  readonly sessionHint?: string;
  /** Connect through a proxy on port 80, where there is one. */
  readonly needPort80?: boolean;
  readonly backoff?: BackoffOptions;
  /** Most envelopes (1000) and bytes (4 MB) that may wait for confirmation. */
  readonly outbox?: { readonly maxCount?: number; readonly maxBytes?: number };
  /** So many ids of handled envelopes are remembered: 2048, more than a server tells apart. */
  readonly remember?: number;
  /** The server's `--max-message-bytes`: 1 000 000. */
  readonly maxMessageBytes?: number;
}

export interface SendOptions {
  /** Aborted: it is not sent again, and `send()` rejects. It may have been delivered by then. */
  readonly signal?: AbortSignal | undefined;
}

export interface RequestOptions extends SendOptions {
  /** In ms, 30 000 where absent: also how long the request is kept for somebody who is away. */
  readonly timeout?: number;
  /** Further fields of the envelope. */
  readonly fields?: Outgoing;
}
