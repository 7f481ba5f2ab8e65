/** sparkmesh, the client: see the README. */

export { Sparkmesh, type State } from "./client.js";
export type { ClientOptions, RequestOptions, SendOptions } from "./options.js";
export { Session } from "./session.js";
export { disablePush, enablePush, type PushOptions } from "./push.js";
export { IndexedDbStorage, MemoryStorage, WebStorage, type Changes, type Storage, type Waiting } from "./storage.js";
export type { KeySource } from "./key.js";
export type { CallOptions } from "./http.js";
export type { ServerAddress } from "./servers.js";
export type { BackoffOptions } from "./time.js";
export {
  BadAnswerError, ClosedError, ConfigurationError, ConnectionError, LostError, OutboxFullError, PushUnavailableError,
  RefusedError, SparkmeshError, StorageError, TimeoutError, TooLargeError, UndeliveredError, UnreachableError,
} from "./errors.js";
export {
  AbsenceEvent, ClosedEvent, ConfirmedEvent, ConnectedEvent, DisconnectedEvent, EnvelopeEvent, FaultEvent, GoingAwayEvent,
  MemberEvent, PresenceEvent, RefusedEvent, type ClientEventMap, type SessionEventMap,
} from "./events.js";
export { isFast, Type } from "./protocol.js";
export type * from "./protocol.js";
