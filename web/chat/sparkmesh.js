// Made from clients/js by `npm run build`: change it there.

// src/errors.ts
var SparkmeshError = class extends Error {
  name = "SparkmeshError";
};
var ConfigurationError = class extends SparkmeshError {
  name = "ConfigurationError";
};
var RefusedError = class extends SparkmeshError {
  name = "RefusedError";
  code;
  /** The HTTP status, where it came over HTTP. */
  status;
  /** How long the server asks to wait. */
  retryAfterMs;
  /** The envelope that was refused, where it is known. */
  id;
  constructor(code, message, about = {}) {
    super(message);
    this.code = code;
    this.status = about.status;
    this.retryAfterMs = about.retryAfterMs;
    this.id = about.id;
  }
};
var UnreachableError = class extends SparkmeshError {
  name = "UnreachableError";
};
var BadAnswerError = class extends SparkmeshError {
  name = "BadAnswerError";
};
var ConnectionError = class extends SparkmeshError {
  name = "ConnectionError";
  /** The WebSocket close code; 1006 where the connection broke. */
  closeCode;
  constructor(closeCode, message) {
    super(message);
    this.closeCode = closeCode;
  }
};
var ClosedError = class extends SparkmeshError {
  name = "ClosedError";
};
var LostError = class extends SparkmeshError {
  name = "LostError";
};
var TimeoutError = class extends SparkmeshError {
  name = "TimeoutError";
};
var UndeliveredError = class extends SparkmeshError {
  name = "UndeliveredError";
};
var OutboxFullError = class extends SparkmeshError {
  name = "OutboxFullError";
};
var TooLargeError = class extends SparkmeshError {
  name = "TooLargeError";
};
var StorageError = class extends SparkmeshError {
  name = "StorageError";
};
var PushUnavailableError = class extends SparkmeshError {
  name = "PushUnavailableError";
};
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

// src/events.ts
var TypedEventTarget = class extends EventTarget {
  addEventListener(type, listener, options) {
    super.addEventListener(type, listener, options);
  }
  removeEventListener(type, listener, options) {
    super.removeEventListener(type, listener, options);
  }
  /**
   * Calls `handler` for each event, and returns what ends that. For a `message`, the promise that a handler returns is
   * waited for as with `waitUntil()`, and what it throws keeps the message from being acknowledged.
   */
  on(type, handler, options = {}) {
    const listener = (event) => {
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
};
var EnvelopeEvent = class extends Event {
  envelope;
  #reply;
  #work = [];
  constructor(type, envelope, reply) {
    super(type);
    this.envelope = envelope;
    this.#reply = reply;
  }
  /** To be called while the event is dispatched: do not acknowledge before this is done. */
  waitUntil(work) {
    this.#work.push(Promise.resolve(work));
  }
  /** Answers the sender: in private in a session, with the `reference` that its `request()` waits for. */
  reply(payload, fields = {}) {
    return this.#reply(payload, fields);
  }
  /** @internal All that was given to `waitUntil()` of these events. */
  static async settled(events) {
    const outcomes = await Promise.allSettled(events.flatMap((event) => event.#work));
    for (const outcome of outcomes) {
      if (outcome.status === "rejected") throw outcome.reason;
    }
  }
};
var ConnectedEvent = class extends Event {
  offer;
  constructor(offer) {
    super("connected");
    this.offer = offer;
  }
};
var DisconnectedEvent = class extends Event {
  error;
  retryInMs;
  constructor(error, retryInMs) {
    super("disconnected");
    this.error = error;
    this.retryInMs = retryInMs;
  }
};
var ClosedEvent = class extends Event {
  error;
  constructor(error) {
    super("closed");
    this.error = error;
  }
};
var GoingAwayEvent = class extends Event {
  reconnectAfterMs;
  constructor(reconnectAfterMs) {
    super("goingaway");
    this.reconnectAfterMs = reconnectAfterMs;
  }
};
var ConfirmedEvent = class extends Event {
  envelope;
  confirmation;
  constructor(envelope, confirmation) {
    super("confirmed");
    this.envelope = envelope;
    this.confirmation = confirmation;
  }
};
var RefusedEvent = class extends Event {
  envelope;
  error;
  constructor(envelope, error) {
    super("refused");
    this.envelope = envelope;
    this.error = error;
  }
};
var AbsenceEvent = class extends Event {
  /** The device or session member, by the id the sender knows; or the client id, when no device of it is known. */
  node;
  id;
  session;
  constructor(type, node, id, session) {
    super(type);
    this.node = node;
    this.id = id;
    this.session = session;
  }
};
var FaultEvent = class extends Event {
  error;
  /** For a handler that failed: what it was given. It is tried again in `retryInMs`. */
  envelope;
  retryInMs;
  constructor(error, envelope, retryInMs) {
    super("fault");
    this.error = error;
    this.envelope = envelope;
    this.retryInMs = retryInMs;
  }
};
var MemberEvent = class extends Event {
  session;
  /** By the id the session shows. */
  node;
  /** For `revealed`: the node id of who was shown as `node` until now. */
  revealed;
  /** When, on the server's clock. */
  timestamp;
  constructor(type, session, node, timestamp, revealed) {
    super(type);
    this.session = session;
    this.node = node;
    this.timestamp = timestamp;
    this.revealed = revealed;
  }
};
var PresenceEvent = class extends Event {
  session;
  online;
  constructor(session, online) {
    super("presence");
    this.session = session;
    this.online = online;
  }
};

// src/id.ts
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}

// src/http.ts
var PATIENCE_MS = 15e3;
var PATIENCE_WITH_OTHERS_MS = 5e3;
var Http = class {
  #servers;
  #keys;
  #fetch;
  constructor(servers, keys, fetch) {
    this.#servers = servers;
    this.#keys = keys;
    this.#fetch = fetch;
  }
  /** Asks where to connect. */
  async offer(query, signal) {
    return this.call("v1/connect-info", { ...query && { query }, signal, check: (answer) => this.checked(answer) });
  }
  /**
   * An offer as it should be; who came over TLS is not sent on in the clear, or the key would be read on the way.
   * @throws BadAnswerError
   */
  checked(answer) {
    const offer = answer;
    if (typeof offer?.ws_url !== "string" || typeof offer.validation_key !== "string" || !/^wss?:/.test(offer.ws_url)) {
      throw new BadAnswerError("what came is no offer: is it a sparkmesh server?");
    }
    if (this.#servers.secure && !offer.ws_url.startsWith("wss:")) {
      throw new BadAnswerError(`${offer.ws_url} is offered, without TLS: the key is not sent there`);
    }
    const { node_id = "", ws_url, validation_key, pending = 0, start_after_ms = 0 } = offer;
    this.#servers.told(offer.servers);
    const servers = this.#servers.all.map(({ href }) => href);
    return { node_id, ws_url, validation_key, pending, start_after_ms, servers };
  }
  /**
   * One call, of the first server that answers. All that is called may be repeated: only `create` looks what the first
   * attempt has done. A key that is refused is asked for anew, once.
   */
  async call(path, call = {}) {
    const key = await this.#keys.get(call.signal);
    try {
      return await this.#anywhere(path, call, key);
    } catch (error) {
      if (!(error instanceof RefusedError) || error.status !== 401) throw error;
      this.#keys.forget(key);
      if (!this.#keys.renewable) throw error;
      return this.#anywhere(path, call, await this.#keys.get(call.signal));
    }
  }
  async #anywhere(path, call, key) {
    const round = this.#servers.round();
    const silent = [];
    for (const server of round) {
      try {
        const answer = await this.#once(server, path, call, key, round.length > 1 ? PATIENCE_WITH_OTHERS_MS : PATIENCE_MS);
        const checked = call.check ? call.check(answer) : answer;
        this.#servers.answered(server);
        return checked;
      } catch (error2) {
        if (!(error2 instanceof RefusedError) || (error2.status ?? 0) >= 500) this.#servers.failed(server);
        if (!(error2 instanceof UnreachableError) && !(error2 instanceof BadAnswerError)) throw error2;
        silent.push(error2);
        call.repeated?.();
      }
    }
    const [first] = silent;
    const error = silent.find((one) => one instanceof UnreachableError) ?? first;
    if (silent.length === 1 || !(error instanceof UnreachableError)) throw error;
    throw new UnreachableError(`no server answers: ${silent.map(({ message }) => message).join("; ")}`, { cause: error });
  }
  async #once(server, path, { method = "GET", query = {}, body, signal }, key, ms) {
    const url = new URL(path, server);
    for (const [name, value] of Object.entries(query)) {
      if (value !== void 0) url.searchParams.set(name, String(value));
    }
    const patience = either(signal, AbortSignal.timeout(ms));
    let response;
    let text2;
    try {
      response = await this.#fetch(url, {
        method,
        headers: { authorization: `Bearer ${key}`, ...body !== void 0 && { "content-type": "application/json" } },
        ...body !== void 0 && { body: JSON.stringify(body) },
        // A redirect would carry the key to wherever it points.
        redirect: "error",
        credentials: "omit",
        cache: "no-store",
        signal: patience.signal
      });
      text2 = await response.text();
    } catch (error) {
      if (signal?.aborted) throw signal.reason;
      throw new UnreachableError(`${server.origin} does not answer: ${messageOf(error)}`, { cause: error });
    } finally {
      patience.settle();
    }
    const answer = parse(text2);
    if (response.ok && answer !== void 0) return answer;
    if (response.ok) throw new BadAnswerError(`${url.origin}${url.pathname} did not answer with JSON`);
    throw refusal(response, answer, `${url.origin}${url.pathname}`);
  }
  sessions = {
    /** The id is ours, so that a session is made once even where the first answer is lost. */
    create: async (options, call) => {
      const { session_id = newId() } = options;
      let isRepeated = false;
      const repeated = () => void (isRepeated = true);
      try {
        return await this.call("v1/sessions", { method: "POST", body: { ...options, session_id }, repeated, ...call });
      } catch (error) {
        if (!isRepeated || !(error instanceof RefusedError) || error.code !== "conflict") throw error;
        const record = await this.sessions.info(session_id, call).catch(() => void 0);
        if (!record?.current_node_info?.includes(record.node_id)) throw error;
        return record;
      }
    },
    info: (id, call) => this.call(sessionPath(id), { ...call }),
    join: (id, options, call) => this.call(`${sessionPath(id)}/join`, { method: "POST", body: options, ...call }),
    leave: (id, node, call) => this.call(`${sessionPath(id)}/leave`, { method: "POST", body: node === void 0 ? {} : { node_id: node }, ...call }),
    reveal: (id, call) => this.call(`${sessionPath(id)}/reveal`, { method: "POST", body: {}, ...call }),
    presence: (id, call) => this.call(`${sessionPath(id)}/presence`, { ...call })
  };
  inbox = {
    page: (range, call) => this.call("v1/inbox", { query: { ...range }, ...call }),
    acknowledge: (to, call) => this.call("v1/inbox", { method: "DELETE", query: { to }, ...call })
  };
  pushTokens = {
    get: (call) => this.call("v1/push-tokens", { ...call }),
    put: (provider, token, call) => this.call("v1/push-tokens", { method: "PUT", body: { provider, token }, ...call }),
    delete: (provider, token, call) => this.call("v1/push-tokens", { method: "DELETE", body: { provider, token }, ...call })
  };
};
function sessionPath(id) {
  return `v1/sessions/${encodeURIComponent(id)}`;
}
function either(long, short) {
  const controller = new AbortController();
  const listeners = [long, short].flatMap((signal) => {
    if (!signal) return [];
    const abort = () => controller.abort(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    return [() => signal.removeEventListener("abort", abort)];
  });
  return { signal: controller.signal, settle: () => listeners.forEach((remove) => remove()) };
}
function parse(text2) {
  try {
    return JSON.parse(text2);
  } catch {
    return void 0;
  }
}
var WORDS = {
  400: "bad_request",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
  409: "conflict",
  413: "too_large",
  429: "rate_limited"
};
function refusal(response, answer, what) {
  const error = answer?.error;
  const code = error?.code ?? WORDS[response.status] ?? (response.status < 500 ? "bad_request" : "unavailable");
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return new RefusedError(code, error?.message ?? `${what} answered with HTTP status ${response.status}`, {
    status: response.status,
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1e3 : void 0
  });
}

// src/protocol.ts
var Type = {
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
  OFFLINE: 106
};
var FINAL_CLOSE_CODES = /* @__PURE__ */ new Set([1e3, 1002, 1003, 1007, 1009, 4401, 4403, 4410]);
function isFinalClose(code) {
  return FINAL_CLOSE_CODES.has(code);
}
function isFast(envelope) {
  return envelope.feature === void 0 ? (envelope.type ?? 0) === 0 : envelope.feature === "FAST";
}

// src/seen.ts
var PREFIX = "seen/";
var Seen = class {
  #capacity;
  #slots = [];
  #keys = /* @__PURE__ */ new Set();
  #next = 0;
  #journal;
  /** Remembers at least 1. */
  constructor(capacity) {
    this.#capacity = capacity;
  }
  /**
   * Takes up what an earlier life remembered, and writes down what is known here already; a record is `number key`, and
   * its slot follows from the number.
   */
  restore(records, journal) {
    const own = [...this.#keys];
    this.#keys.clear();
    this.#slots.length = this.#next = 0;
    this.#journal = journal;
    const known = [];
    for (const [name, value] of records) {
      if (!name.startsWith(PREFIX)) continue;
      const space = value.indexOf(" ");
      const number = Number(value.slice(0, space));
      if (space > 0 && Number.isSafeInteger(number)) known.push([number, value.slice(space + 1)]);
      if (Number(name.slice(PREFIX.length)) >= this.#capacity) void journal.put(name, null);
    }
    known.sort(([left], [right]) => left - right);
    for (const [number, key] of known.slice(-this.#capacity)) {
      this.#next = number;
      this.#remember(key);
    }
    for (const key of own) void this.#add(key);
  }
  /** From now on nothing is written down: the storage may be another page's. */
  detach() {
    this.#journal = void 0;
  }
  has(source, id) {
    return this.#keys.has(keyOf(source, id));
  }
  /** Resolves when it will outlive a reload. */
  add(source, id) {
    return this.#add(keyOf(source, id));
  }
  async #add(key) {
    if (this.#keys.has(key)) return;
    const number = this.#next;
    this.#remember(key);
    await this.#journal?.put(PREFIX + number % this.#capacity, `${number} ${key}`);
  }
  #remember(key) {
    const slot = this.#next % this.#capacity;
    const oldest = this.#slots[slot];
    if (oldest !== void 0) this.#keys.delete(oldest);
    this.#slots[slot] = key;
    this.#keys.add(key);
    this.#next++;
  }
};
function keyOf(source, id) {
  return `${source} ${id}`;
}

// src/time.ts
function backoff(failures, chance, { first = 1e3, longest = 6e4 } = {}) {
  const step = Math.min(first * 2 ** Math.min(failures, 30), longest);
  return step * (0.5 + chance / 2);
}
function steady() {
  return performance.now();
}
var LONGEST_HINT_MS = 3e5;
function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
var Deferred = class {
  promise;
  resolve;
  reject;
  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.promise.catch(() => {
    });
  }
};
function abortable(promise, signal) {
  if (!signal) return promise;
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

// src/intake.ts
var Intake = class {
  #seen;
  #handlers;
  #queue = /* @__PURE__ */ new Map();
  #running;
  #stop;
  constructor(seen, handlers) {
    this.#seen = seen;
    this.#handlers = handlers;
  }
  /** Goes on until `signal` is aborted. What is not handled then comes again on another connection. */
  start(signal) {
    this.#stop = signal;
    signal.addEventListener("abort", () => this.#queue.clear(), { once: true });
  }
  /** Resolves when no handler runs. */
  async idle() {
    await this.#running;
  }
  take(envelope) {
    if (this.#stop?.aborted) return;
    if (isFast(envelope)) {
      this.#handlers.dispatch(envelope).catch((error) => this.#handlers.failed(error, envelope, void 0));
      if (envelope.reference !== void 0) this.#handlers.acknowledge(envelope);
      return;
    }
    const key = keyOf(envelope.src_id, envelope.id);
    if (this.#seen.has(envelope.src_id, envelope.id)) {
      this.#handlers.acknowledge(envelope);
    } else if (!this.#queue.has(key)) {
      this.#queue.set(key, envelope);
      this.#running ??= this.#run().finally(() => this.#running = void 0);
    }
  }
  /** Somebody else has handled it: a reply, which must not wait behind the handler that waits for it. */
  async settled(envelope) {
    if (isFast(envelope)) {
      if (envelope.reference !== void 0) this.#handlers.acknowledge(envelope);
      return;
    }
    await this.#seen.add(envelope.src_id, envelope.id);
    this.#handlers.acknowledge(envelope);
  }
  isRepetition(envelope) {
    return this.#seen.has(envelope.src_id, envelope.id);
  }
  async #run() {
    for (; ; ) {
      const first = this.#queue.entries().next();
      if (first.done || this.#stop?.aborted) return;
      const [key, envelope] = first.value;
      if (!await this.#handle(envelope)) return;
      await this.#seen.add(envelope.src_id, envelope.id);
      this.#queue.delete(key);
      this.#handlers.acknowledge(envelope);
    }
  }
  /** Whether it is handled; not if all is stopped before that. */
  async #handle(envelope) {
    for (let failures = 0; ; failures++) {
      try {
        await this.#handlers.dispatch(envelope);
        return true;
      } catch (error) {
        const pause = backoff(failures, Math.random());
        this.#handlers.failed(error, envelope, pause);
        try {
          await sleep(pause, this.#stop);
        } catch {
          return false;
        }
      }
    }
  }
};

// src/keeper.ts
var Journal = class {
  #storage;
  #fault;
  #next = /* @__PURE__ */ new Map();
  #last = Promise.resolve();
  #queued;
  constructor(storage, fault) {
    this.#storage = storage;
    this.#fault = fault;
  }
  /** Resolves when it is written, or could not be. */
  put(key, value) {
    this.#next.set(key, value);
    return this.flush();
  }
  /** Resolves when all that was put is written, or could not be. */
  flush() {
    this.#queued ??= this.#last = this.#last.then(() => this.#write());
    return this.#queued;
  }
  async #write() {
    const changes = this.#next;
    this.#next = /* @__PURE__ */ new Map();
    this.#queued = void 0;
    if (changes.size === 0) return;
    try {
      await this.#storage.write(changes);
    } catch (error) {
      this.#fault(new StorageError(`could not keep it: ${messageOf(error)}`, { cause: error }));
    }
  }
};
var Keeper = class {
  #storage;
  #fault;
  #restore;
  #journal;
  #closed = false;
  constructor(storage, fault, restore) {
    this.#storage = storage;
    this.#fault = fault;
    this.#restore = restore;
  }
  /**
   * Resolves when what an earlier life left is restored, before anything newer is sent or heard; or at once where another
   * page has the storage.
   * Rejects where the storage is another's and does not wait.
   */
  async start() {
    const waiting = await this.#storage.claim?.();
    if (!waiting) return this.#load();
    this.#fault(new StorageError("another page of this device has the storage: until that is closed, nothing here outlives a reload"));
    waiting.later.then(() => this.#load()).catch((error) => {
      if (!this.#closed) this.#fault(new StorageError(`could not take over: ${messageOf(error)}`, { cause: error }));
    });
  }
  async close() {
    this.#closed = true;
    await this.#journal?.flush();
    await this.#storage.close?.();
  }
  async #load() {
    const records = await this.#storage.load().catch((error) => {
      this.#fault(new StorageError(`could not read what was kept: ${messageOf(error)}`, { cause: error }));
      return /* @__PURE__ */ new Map();
    });
    if (this.#closed) return;
    this.#journal = new Journal(this.#storage, this.#fault);
    this.#restore(records, this.#journal);
  }
};

// src/key.ts
var EXPIRY_MARGIN_MS = 3e4;
var Keys = class {
  #source;
  #current;
  constructor(source) {
    if (typeof source !== "string" && typeof source !== "function") {
      throw new ConfigurationError("`key` must be a key, or a function that gets one");
    }
    this.#source = source;
  }
  /** Whether asking again may give another key. */
  get renewable() {
    return typeof this.#source === "function";
  }
  async get(signal) {
    if (this.#current !== void 0 && !expires(this.#current)) return this.#current;
    this.#current = typeof this.#source === "string" ? this.#source : await this.#source({ signal });
    claims(this.#current);
    return this.#current;
  }
  /** The server did not take it, or may not have: with `key`, only if that is still the one in use. */
  forget(key) {
    if (key === void 0 || this.#current === key) this.#current = void 0;
  }
};
function expires(key) {
  const { exp } = claims(key);
  return exp !== void 0 && exp * 1e3 - Date.now() < EXPIRY_MARGIN_MS;
}
function claims(key) {
  const bad = new ConfigurationError("this is no key: a sparkmesh key is a JWT whose `sub` is the device's node id");
  const body = typeof key === "string" ? key.split(".")[1] : void 0;
  if (body === void 0) throw bad;
  try {
    const bytes = Uint8Array.from(atob(body.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    const parsed = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof parsed.sub !== "string" || parsed.sub === "") throw bad;
    return parsed;
  } catch {
    throw bad;
  }
}

// src/edge.ts
var OPENING_MS = 15e3;
var IDLE_MS = 25e3;
var ANSWER_MS = 1e4;
var MAX_BUFFERED = 1 << 20;
var OPEN = 1;
var Edge = class {
  #socket;
  #handlers;
  #timer;
  #askedAt;
  #ended = false;
  constructor(constructor, url, handlers) {
    this.#handlers = handlers;
    this.#socket = new constructor(url);
    this.#socket.onopen = () => {
      handlers.opened();
      this.probe();
    };
    this.#socket.onmessage = ({ data }) => this.#take(data);
    this.#socket.onclose = ({ code, reason }) => this.#end(code, reason);
    this.#socket.onerror = () => {
    };
    this.#expect(OPENING_MS, "the handshake was not answered");
  }
  get isOpen() {
    return !this.#ended && this.#socket.readyState === OPEN;
  }
  /** Whether more may be queued that may as well be lost. */
  get hasRoom() {
    return this.isOpen && this.#socket.bufferedAmount < MAX_BUFFERED;
  }
  /** Only while it is open. */
  write(frame) {
    if (this.isOpen) this.#socket.send(frame);
  }
  /** Asks for a sign of life, unless that is under way. */
  probe() {
    if (this.#askedAt !== void 0 || !this.isOpen) return;
    this.#askedAt = steady();
    this.write(JSON.stringify({ type: Type.CONFIG_REQUEST, payload: { timestamp: Date.now() } }));
    this.#expect(ANSWER_MS, "no sign of life");
  }
  /** Ends it from this side. A socket that is cut off would tell of its close much later, so nobody waits for that. */
  end(code, reason) {
    if (this.#ended) return;
    try {
      this.#socket.close(code === 1e3 ? 1e3 : 4e3);
    } catch {
    }
    this.#end(code, reason);
  }
  #take(data) {
    if (this.#ended || typeof data !== "string") return;
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (typeof frame !== "object" || frame === null) return;
    if (frame.type === Type.CONFIG_RESPONSE && this.#askedAt !== void 0) this.#answered(frame);
    else {
      if (this.#askedAt === void 0) this.#rest();
      this.#handlers.frame(frame);
    }
  }
  #answered(frame) {
    const latency = steady() - (this.#askedAt ?? 0);
    const payload = frame["payload"];
    const difference = Number(payload?.server_timestamp_add_diff ?? 0);
    this.#askedAt = void 0;
    this.#rest();
    this.#handlers.answered(latency, difference - latency / 2);
  }
  #rest() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.probe(), IDLE_MS);
  }
  #expect(ms, orElse) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.end(1006, orElse), ms);
  }
  #end(code, reason) {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#handlers.ended(code, reason);
  }
};
function socketUrl(offer, key, options) {
  const url = new URL(offer.ws_url);
  url.searchParams.set("auth_key", key);
  url.searchParams.set("validation_key", offer.validation_key);
  url.searchParams.set("inbox", options.inbox);
  url.searchParams.set("ack", options.ack);
  return url.href;
}

// src/reconnect.ts
var SETTLED_MS = 1e4;
var Reconnect = class {
  #backoff;
  #failures = 0;
  #badKeys = 0;
  constructor(backoff2) {
    this.#backoff = backoff2;
  }
  /** The server answered: the key was good. */
  stands() {
    this.#badKeys = 0;
  }
  /** `chance` is a random number in 0..1. */
  after(end, now, chance) {
    if ((end.stoodMs ?? 0) >= SETTLED_MS) this.#failures = 0;
    if (end.sent && end.error instanceof ConnectionError && !isFatalWhenSent(end.error.closeCode)) {
      const hint2 = Math.min(end.sent.at - now, LONGEST_HINT_MS);
      const least = end.sent.offer ? 0 : backoff(0, chance, this.#backoff);
      return { then: "retry", inMs: Math.max(hint2, least), offer: end.sent.offer, renewKey: false };
    }
    if (end.hinted && end.stoodMs === void 0) return { then: "retry", inMs: 0, offer: void 0, renewKey: false };
    if (isBadKey(end.error)) {
      if (this.#badKeys++ > 0) return { then: "give up" };
      return { then: "retry", inMs: 0, offer: void 0, renewKey: true };
    }
    if (isFinal(end.error)) return { then: "give up" };
    const hint = end.error instanceof RefusedError ? Math.min(end.error.retryAfterMs ?? 0, LONGEST_HINT_MS) : 0;
    const pause = backoff(this.#failures++, chance, this.#backoff);
    return { then: "retry", inMs: Math.max(pause, hint), offer: void 0, renewKey: false };
  }
};
function isFatalWhenSent(code) {
  return isFinalClose(code) && code !== 1e3;
}
function isBadKey(error) {
  if (error instanceof ConnectionError) return error.closeCode === 4401;
  return error instanceof RefusedError && error.status === 401;
}
function isFinal(error) {
  if (error instanceof ConnectionError) return isFinalClose(error.closeCode);
  if (error instanceof ConfigurationError || error instanceof BadAnswerError) return true;
  if (!(error instanceof RefusedError)) return false;
  return error.status !== void 0 && error.status < 500 && error.status !== 429 && error.status !== 408;
}

// src/life.ts
var Life = class {
  #http;
  #keys;
  #options;
  #handlers;
  #edge;
  #wake;
  constructor(http, keys, options, handlers) {
    this.#http = http;
    this.#keys = keys;
    this.#options = options;
    this.#handlers = handlers;
  }
  /** Until `signal` is aborted, or an end that no further attempt would change: that is what it resolves with. */
  async run(signal) {
    const reconnect = new Reconnect(this.#options.backoff);
    let hint;
    for (; ; ) {
      const hinted = hint !== void 0;
      let end;
      try {
        const key = await this.#key(signal);
        await this.#handlers.prepared(key);
        const offer = hint ?? await this.#offer(signal);
        end = await this.#talk(offer, await this.#key(signal), reconnect, signal);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        end = { error: asError(error), stoodMs: void 0, sent: void 0 };
      }
      if (signal.aborted) throw signal.reason;
      const next = reconnect.after({ ...end, hinted }, steady(), Math.random());
      if (next.then === "give up") return end.error;
      if (next.renewKey) this.#keys.forget();
      hint = next.offer;
      this.#handlers.waiting(end.error, next.inMs);
      const asked = end.sent !== void 0 || end.error instanceof RefusedError && end.error.retryAfterMs !== void 0;
      await this.#pause(next.inMs, asked ? "as asked" : "as long as there is no hope", signal);
    }
  }
  /** The network is back, or somebody looks at the page again: do not wait, and do not trust what stands. */
  wake() {
    this.#wake?.();
    this.#edge?.probe();
  }
  async #key(signal) {
    try {
      return await this.#keys.get(signal);
    } catch (error) {
      if (error instanceof SparkmeshError) throw error;
      throw new UnreachableError(`no key: ${messageOf(error)}`, { cause: error });
    }
  }
  async #offer(signal) {
    const offer = await this.#http.offer(this.#options.query, signal);
    await sleep(Math.min(offer.start_after_ms, LONGEST_HINT_MS), signal);
    return offer;
  }
  /** One connection, from its opening to its end. */
  #talk(offer, key, reconnect, signal) {
    const { promise, resolve } = withResolvers();
    let standsSince;
    let sent;
    let refusal2;
    let leaving;
    const goAway = (frame) => {
      const afterMs = Math.min(Math.max(Number(frame["reconnect_after_ms"]) || 0, 0), LONGEST_HINT_MS);
      sent = { at: steady() + afterMs, offer: this.#usable(frame["offer"]) };
      clearTimeout(leaving);
      leaving = setTimeout(() => edge.end(1001, "going away"), afterMs);
      this.#handlers.goingAway(afterMs);
    };
    const edge = new Edge(this.#options.socket, socketUrl(offer, key, this.#options), {
      opened: () => this.#handlers.opened(edge),
      answered: (latencyMs, clockOffsetMs) => {
        this.#handlers.measured(latencyMs, clockOffsetMs);
        if (standsSince !== void 0) return;
        standsSince = steady();
        reconnect.stands();
        this.#handlers.connected(offer);
      },
      frame: (frame) => {
        if (frame.type === Type.GOING_AWAY) goAway(frame);
        else {
          if (frame.type === Type.ERROR && frame["id"] === void 0) refusal2 = String(frame["message"]);
          this.#handlers.frame(frame);
        }
      },
      ended: (code, reason) => {
        clearTimeout(leaving);
        signal.removeEventListener("abort", close);
        this.#edge = void 0;
        const why = isRefusal(code) && refusal2 ? refusal2 : reason || "the connection broke";
        const error = new ConnectionError(code, `${why} (close code ${code})`);
        this.#handlers.ended(error);
        resolve({ error, stoodMs: standsSince === void 0 ? void 0 : steady() - standsSince, sent });
      }
    });
    const close = () => edge.end(1e3, "closed");
    signal.addEventListener("abort", close, { once: true });
    if (signal.aborted) close();
    this.#edge = edge;
    return promise;
  }
  /** An offer that may not be taken is as good as none. */
  #usable(offer) {
    try {
      return offer ? this.#http.checked(offer) : void 0;
    } catch {
      return void 0;
    }
  }
  /** What the server asked for is kept to; a wait of our own choosing ends when there is reason to hope. */
  async #pause(ms, how, signal) {
    const woken = new AbortController();
    const stop = () => woken.abort();
    signal.addEventListener("abort", stop, { once: true, signal: woken.signal });
    if (how !== "as asked") this.#wake = stop;
    await sleep(ms, woken.signal).catch(() => {
    });
    woken.abort();
    signal.throwIfAborted();
    this.#wake = void 0;
  }
};
function isRefusal(code) {
  return code >= 4400 || [1003, 1007, 1008, 1009].includes(code);
}
function asError(error) {
  return error instanceof SparkmeshError ? error : new UnreachableError(messageOf(error), { cause: error });
}
function withResolvers() {
  let resolve;
  const promise = new Promise((done2) => resolve = done2);
  return { promise, resolve };
}

// src/notices.ts
var NOTICES = {
  [Type.JOINED]: "joined",
  [Type.LEFT]: "left",
  [Type.REVEALED]: "revealed"
};
function isNotice(type) {
  return type in NOTICES;
}
function noticeOf(envelope) {
  const { type, dest_session_id = "", src_id, timestamp, payload } = envelope;
  const revealed = type === Type.REVEALED && typeof payload === "string" ? payload : void 0;
  return new MemberEvent(NOTICES[type] ?? "", dest_session_id, src_id, timestamp, revealed);
}
function presenceOf(frame) {
  const session = frame["dest_session_id"];
  if (typeof session !== "string") return void 0;
  if (typeof frame["src_id"] === "string") {
    const type = frame.type === Type.ONLINE ? "online" : "offline";
    return new MemberEvent(type, session, frame["src_id"], Number(frame["timestamp"]));
  }
  const online = frame["payload"]?.online;
  return Array.isArray(online) ? new PresenceEvent(session, online.map(String)) : void 0;
}
function absence(frame) {
  const node = text(frame["src_id"]) ?? text(frame["src_client_id"]) ?? "";
  const type = frame.type === Type.USER_OFFLINE ? "away" : "unknown";
  return new AbsenceEvent(type, node, text(frame["id"]), text(frame["dest_session_id"]));
}
function refusalOf(frame) {
  const id = text(frame["id"]);
  if (frame.type === Type.SESSION_UNAUTHORIZED) {
    const session = text(frame["dest_session_id"]) ?? "?";
    return new RefusedError("session_unauthorized", `not allowed in the session ${session}, or there is none`, { id });
  }
  return new RefusedError(frame["code"], text(frame["message"]) ?? "refused", { id });
}
function text(value) {
  return typeof value === "string" ? value : void 0;
}

// src/outbox.ts
var PREFIX2 = "out/";
var encoder = new TextEncoder();
function byteLength(text2) {
  return encoder.encode(text2).length;
}
var Outbox = class {
  #limits;
  #entries = /* @__PURE__ */ new Map();
  #bytes = 0;
  #next = 0;
  #journal;
  constructor(limits) {
    this.#limits = limits;
  }
  /**
   * Takes up what an earlier life did not finish, and writes down what is here already; a record is `number frame`.
   * What was taken up is given back: it has not been written on any connection.
   */
  restore(records, journal) {
    const own = this.entries().filter(({ id, keep }) => keep === "kept" && !records.has(PREFIX2 + id));
    this.#journal = journal;
    const taken = [];
    const found = [];
    for (const [name, value] of records) {
      if (!name.startsWith(PREFIX2)) continue;
      const space = value.indexOf(" ");
      found.push([Number(value.slice(0, space)), name.slice(PREFIX2.length), value.slice(space + 1)]);
    }
    found.sort(([left], [right]) => left - right);
    for (const [number, id, frame] of found) {
      const envelope = parse2(frame);
      if (envelope === void 0 || !Number.isSafeInteger(number)) {
        void journal.put(PREFIX2 + id, null);
        continue;
      }
      this.#next = Math.max(this.#next, number + 1);
      if (!this.#entries.has(id)) taken.push(this.#insert(id, envelope, frame, "kept"));
    }
    for (const { id, frame } of own) void journal.put(PREFIX2 + id, `${this.#next++} ${frame}`);
    return taken;
  }
  /** From now on nothing is written down: the storage may be another page's. */
  detach() {
    this.#journal = void 0;
  }
  get size() {
    return this.#entries.size;
  }
  get(id) {
    return this.#entries.get(id);
  }
  /** In the order in which they were sent. */
  entries() {
    return [...this.#entries.values()];
  }
  /**
   * The same id again is the same envelope.
   * @throws OutboxFullError
   */
  add(id, envelope, frame, keep) {
    const known = this.#entries.get(id);
    if (known) return known;
    const { maxCount, maxBytes } = this.#limits;
    const full = this.#entries.size >= maxCount || this.#bytes + byteLength(frame) > maxBytes;
    if (full && this.#entries.size > 0) {
      throw new OutboxFullError(
        `${this.#entries.size} envelopes (${this.#bytes} bytes) wait for confirmation already: wait until some are confirmed`
      );
    }
    const entry = this.#insert(id, envelope, frame, isFast(envelope) ? "fleeting" : keep);
    if (entry.keep === "kept") void this.#journal?.put(PREFIX2 + id, `${this.#next++} ${frame}`);
    return entry;
  }
  /** It is settled, one way or another, and never sent again. */
  remove(id) {
    const entry = this.#entries.get(id);
    if (!entry) return void 0;
    this.#entries.delete(id);
    this.#bytes -= entry.bytes;
    if (entry.keep === "kept") void this.#journal?.put(PREFIX2 + id, null);
    return entry;
  }
  /** The connection is gone: RELIABLE ones are to be written again, of FAST ones nobody knows. */
  disconnected() {
    for (const entry of this.entries()) {
      entry.written = false;
      if (!entry.fast) continue;
      this.remove(entry.id);
      entry.outcome.reject(new LostError(`the connection ended before the FAST envelope ${entry.id} was confirmed`));
    }
  }
  /** Nobody waits any more. What is RELIABLE stays for the next time. */
  abandon(error) {
    this.disconnected();
    for (const entry of this.#entries.values()) entry.outcome.reject(error);
  }
  /** Of those written on this connection, the one with most bytes. */
  largestWritten() {
    let largest;
    for (const entry of this.#entries.values()) {
      if (entry.written && entry.bytes > (largest?.bytes ?? 0)) largest = entry;
    }
    return largest;
  }
  #insert(id, envelope, frame, keep) {
    const bytes = byteLength(frame);
    const outcome = new Deferred();
    const entry = { id, envelope, frame, bytes, fast: isFast(envelope), keep, outcome, written: false };
    this.#entries.set(id, entry);
    this.#bytes += bytes;
    return entry;
  }
};
function parse2(frame) {
  try {
    const value = JSON.parse(frame);
    return typeof value === "object" && value !== null ? value : void 0;
  } catch {
    return void 0;
  }
}

// src/requests.ts
var MARK = "rq:";
var OVER = 1024;
var Requests = class _Requests {
  #waiting = /* @__PURE__ */ new Map();
  #over = /* @__PURE__ */ new Set();
  /** `id` is the request's, and its reference follows from it. */
  static reference(id) {
    return MARK + id;
  }
  wait(id, from) {
    const reply = new Deferred();
    this.#waiting.set(_Requests.reference(id), { id, from, reply });
    return reply.promise;
  }
  /** `reply`: it was waited for. `late`: it was, but not any more. Else it is no reply. */
  take(envelope) {
    const { reference } = envelope;
    if (reference === void 0) return void 0;
    const waiting = this.#waiting.get(reference);
    if (waiting && envelope.id !== waiting.id && (waiting.from === void 0 || waiting.from === envelope.src_id)) {
      this.#end(reference);
      waiting.reply.resolve(envelope);
      return "reply";
    }
    return !waiting && this.#over.has(reference) ? "late" : void 0;
  }
  timedOut(id, ms) {
    this.fail(id, new TimeoutError(`no reply came within ${ms} ms`));
  }
  undelivered(id) {
    this.fail(id, new UndeliveredError("nobody got the request"));
  }
  fail(id, reason) {
    const reference = _Requests.reference(id);
    this.#waiting.get(reference)?.reply.reject(reason);
    this.#end(reference);
  }
  failAll(error) {
    for (const { id } of this.#waiting.values()) this.fail(id, error);
  }
  #end(reference) {
    if (!this.#waiting.delete(reference)) return;
    this.#over.add(reference);
    const [oldest] = this.#over;
    if (this.#over.size > OVER && oldest !== void 0) this.#over.delete(oldest);
  }
};

// src/servers.ts
var TOLD_PER_ROUND = 3;
var Servers = class {
  #given;
  #told = [];
  /** The one that answered last, or is to be asked next. */
  #current;
  /** @throws ConfigurationError */
  constructor(addresses) {
    const given = (typeof addresses === "string" || addresses instanceof URL ? [addresses] : [...addresses]).map(baseUrl);
    const [first] = given;
    if (!first) throw new ConfigurationError("`url` must have at least one address");
    if (given.some(({ protocol }) => protocol !== first.protocol)) {
      throw new ConfigurationError("the addresses in `url` must all be https, or all http: a key is as safe as the worst of them");
    }
    this.#given = given;
    this.#current = first;
  }
  /** Whether keys go over TLS alone. */
  get secure() {
    return this.#current.protocol === "https:";
  }
  /** All that are known, those that were given first. */
  get all() {
    return distinct([...this.#given, ...this.#told]);
  }
  /** Whom to ask, one after the other until one answers. */
  round() {
    return distinct([this.#current, ...this.#given, ...this.#told.slice(0, TOLD_PER_ROUND)]);
  }
  answered(server) {
    this.#current = server;
  }
  /** The next round begins with another, where there is one. */
  failed(server) {
    this.#told = [...this.#told.filter((told) => told.href !== server.href), ...this.#told.filter((told) => told.href === server.href)];
    if (server.href !== this.#current.href) return;
    const all = this.all;
    const at = all.findIndex(({ href }) => href === server.href);
    this.#current = all[(at + 1) % all.length] ?? server;
  }
  /** What an offer names; what is not as safe as what was given is left out. */
  told(addresses) {
    if (!Array.isArray(addresses)) return;
    const usable = addresses.flatMap((address) => {
      try {
        const url = baseUrl(String(address));
        return url.protocol === this.#current.protocol ? [url] : [];
      } catch {
        return [];
      }
    });
    if (usable.length > 0) this.#told = distinct(usable);
  }
};
function distinct(urls) {
  return [...new Map(urls.map((url) => [url.href, url])).values()];
}
function baseUrl(url) {
  let base;
  try {
    base = new URL(url, globalThis.location?.href);
  } catch {
    throw new ConfigurationError(`\`url\` must be like https://HOST:PORT, not ${JSON.stringify(String(url))}`);
  }
  if (base.protocol === "ws:") base.protocol = "http:";
  if (base.protocol === "wss:") base.protocol = "https:";
  if (!/^https?:$/.test(base.protocol)) {
    throw new ConfigurationError(`\`url\` must be like https://HOST:PORT, not ${JSON.stringify(String(url))}`);
  }
  base.search = base.hash = base.username = base.password = "";
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  return base;
}

// src/session.ts
var Session = class extends TypedEventTarget {
  id;
  #host;
  #online = /* @__PURE__ */ new Set();
  #me;
  /** @internal */
  constructor(id, host) {
    super();
    this.id = id;
    this.#host = host;
  }
  /** The id by which others see this device here; known after joining, creating, `info()` or `reveal()`. */
  get me() {
    return this.#me;
  }
  /** Who else is online, as the server has told so far. Empty in a session without `presence`. */
  get online() {
    return this.#online;
  }
  /** To all members. */
  send(payload, fields = {}, options) {
    return this.#host.send({ ...fields, dest_session_id: this.id, payload }, options);
  }
  /** To all members who are there, without any promise. Whether it was written. */
  fast(payload, fields = {}) {
    return this.#host.fast({ ...fields, dest_session_id: this.id, payload });
  }
  /** To one member, by the id it is shown by. */
  sendTo(member, payload, fields = {}, options) {
    return this.send(payload, { ...fields, dest_id: member }, options);
  }
  /** Asks one member, by the id it is shown by, and resolves with its reply. */
  request(member, payload, options) {
    return this.#host.request({ dest_id: member, dest_session_id: this.id }, payload, options);
  }
  async info(call) {
    const record = await this.#host.http.sessions.info(this.id, call);
    this.recorded(record);
    return record;
  }
  /** All members, and whether they are online; `online` is renewed by it. */
  async presence(call) {
    const { members } = await this.#host.http.sessions.presence(this.id, call);
    this.#online.clear();
    for (const { node_id, online } of members) {
      if (online && node_id !== this.#me) this.#online.add(node_id);
    }
    return members;
  }
  async leave(call) {
    await this.#host.http.sessions.leave(this.id, void 0, call);
    this.#online.clear();
    this.#host.forget(this.id);
  }
  /** From now on others see this device's node id. */
  async reveal(call) {
    await this.#host.http.sessions.reveal(this.id, call);
    await this.info(call);
  }
  /** Adds somebody: for the owner and apps. */
  add(node, options = {}, call) {
    return this.#host.http.sessions.join(this.id, { ...options, node_id: node }, call);
  }
  /** Removes somebody, by the id it is shown by: for the owner and apps. */
  async remove(member, call) {
    await this.#host.http.sessions.leave(this.id, member, call);
  }
  /** @internal */
  joined(membership) {
    this.#me = membership.anonymous_id ?? membership.node_id;
  }
  /** @internal */
  recorded({ current_node_info }) {
    if (current_node_info) this.#me = current_node_info[1] ?? current_node_info[0];
  }
  /** @internal */
  observe(event) {
    if (event instanceof PresenceEvent) {
      this.#online.clear();
      for (const node of event.online) this.#online.add(node);
    } else if (event.type === "online") {
      this.#online.add(event.node);
    } else if (event.type === "offline" || event.type === "left") {
      this.#online.delete(event.node);
    } else if (event.type === "revealed" && event.revealed !== void 0 && this.#online.delete(event.node)) {
      this.#online.add(event.revealed);
    }
    this.dispatchEvent(event);
  }
};

// src/storage.ts
var PageLock = class {
  #name;
  #release;
  #asking;
  constructor(name) {
    this.#name = `sparkmesh-storage/${name}`;
  }
  async take() {
    const locks = globalThis.navigator?.locks;
    if (!locks) return;
    const asking = this.#asking = new AbortController();
    const later = new Promise((resolve, reject) => {
      const hold = () => new Promise((release) => {
        this.#release = release;
        resolve();
      });
      locks.request(this.#name, { signal: asking.signal }, hold).catch(reject);
    });
    for (; ; ) {
      await Promise.race([later, sleep(RELOAD_MS)]);
      if (this.#release) return;
      const { held = [] } = await locks.query();
      if (!this.#release && held.some(({ name }) => name === this.#name)) return { later };
    }
  }
  give() {
    this.#asking?.abort(new StorageError("closed before the storage was free"));
    this.#release?.();
    this.#release = this.#asking = void 0;
  }
};
var RELOAD_MS = 1e3;
var MemoryStorage = class {
  #records = /* @__PURE__ */ new Map();
  async load() {
    return new Map(this.#records);
  }
  async write(changes) {
    for (const [key, value] of changes) {
      if (value === null) this.#records.delete(key);
      else this.#records.set(key, value);
    }
  }
};
var WebStorage = class {
  #prefix;
  #area;
  #lock;
  constructor(name, area = globalThis.localStorage) {
    this.#prefix = `${name}/`;
    this.#area = area;
    this.#lock = area === globalThis.localStorage ? new PageLock(`local/${name}`) : void 0;
  }
  async claim() {
    return this.#lock?.take();
  }
  async close() {
    this.#lock?.give();
  }
  async load() {
    const records = /* @__PURE__ */ new Map();
    for (let index = 0; index < this.#area.length; index++) {
      const key = this.#area.key(index);
      if (key?.startsWith(this.#prefix)) records.set(key.slice(this.#prefix.length), this.#area.getItem(key) ?? "");
    }
    return records;
  }
  async write(changes) {
    for (const [key, value] of changes) {
      if (value === null) this.#area.removeItem(this.#prefix + key);
      else this.#area.setItem(this.#prefix + key, value);
    }
  }
};
var IndexedDbStorage = class {
  #name;
  #lock;
  #database;
  constructor(name) {
    this.#name = name;
    this.#lock = new PageLock(`idb/${name}`);
  }
  claim() {
    return this.#lock.take();
  }
  async load() {
    const store = (await this.#open()).transaction("records").objectStore("records");
    const [keys, values] = await Promise.all([done(store.getAllKeys()), done(store.getAll())]);
    return new Map(keys.map((key, index) => [String(key), String(values[index])]));
  }
  async write(changes) {
    const transaction = (await this.#open()).transaction("records", "readwrite", { durability: "strict" });
    const store = transaction.objectStore("records");
    for (const [key, value] of changes) {
      if (value === null) store.delete(key);
      else store.put(value, key);
    }
    await new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
  }
  async close() {
    const database = await this.#database;
    this.#database = void 0;
    database?.close();
    this.#lock.give();
  }
  #open() {
    this.#database ??= new Promise((resolve, reject) => {
      const request = indexedDB.open(this.#name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("records");
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
    return this.#database;
  }
};
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
function defaultStorage(nodeId) {
  return "indexedDB" in globalThis ? new IndexedDbStorage(`sparkmesh-${nodeId}`) : new MemoryStorage();
}

// src/client.ts
var Sparkmesh = class extends TypedEventTarget {
  #http;
  #servers;
  #options;
  #life;
  #seen;
  #outbox;
  #intake;
  #requests = new Requests();
  #sessions = /* @__PURE__ */ new Map();
  #loaded = new Deferred();
  #storage;
  #keeper;
  #edge;
  #stop;
  #first = new Deferred();
  #running;
  #state = "idle";
  #nodeId;
  #clientId;
  #latencyMs;
  #clockOffsetMs = 0;
  /** @throws ConfigurationError */
  constructor(options) {
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
    this.#outbox = new Outbox({ maxCount: options.outbox?.maxCount ?? 1e3, maxBytes: options.outbox?.maxBytes ?? 4e6 });
    this.#intake = new Intake(this.#seen, {
      dispatch: (envelope) => this.#dispatch(envelope),
      acknowledge: (envelope) => this.#acknowledge(envelope),
      failed: (error, envelope, retryInMs) => this.dispatchEvent(new FaultEvent(error, envelope, retryInMs))
    });
    const query = { session_id: options.sessionHint, need_80_port: options.needPort80 ? 1 : void 0 };
    const life = {
      socket,
      query,
      inbox: options.inbox ?? "auto",
      ack: options.ack ?? "app",
      backoff: options.backoff ?? {}
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
      }
    });
  }
  get state() {
    return this.#state;
  }
  /** Who this device is; known once there is a key. */
  get nodeId() {
    return this.#nodeId;
  }
  /** Whose device this is, if the key says so. */
  get clientId() {
    return this.#clientId;
  }
  /** Addresses of servers: those given, and those that the last offers named, where to ask when one is gone. */
  get servers() {
    return this.#servers.all.map(({ origin }) => origin);
  }
  /** There and back to the server, as last measured. */
  get latencyMs() {
    return this.#latencyMs;
  }
  /** Now, in ms since 1970, on the server's clock. */
  serverNow() {
    return Date.now() + this.#clockOffsetMs;
  }
  /** What was sent and is not yet confirmed, in the order in which it was sent. */
  get unconfirmed() {
    return this.#outbox.entries().map((entry) => entry.envelope);
  }
  /**
   * Connects, and stays connected until `close()`, or until an end that no further attempt would change. Resolves with
   * the first connection; `signal` gives up waiting for that.
   */
  async connect({ signal } = {}) {
    signal?.throwIfAborted();
    if (this.#running === void 0) {
      this.#stop = new AbortController();
      this.#first = new Deferred();
      this.#state = "connecting";
      this.#running = this.#run(this.#stop.signal).finally(() => this.#running = void 0);
    }
    try {
      await abortable(this.#first.promise, signal);
    } catch (error) {
      if (signal?.aborted) await this.close();
      throw error;
    }
  }
  /** Ends it. What is not confirmed stays in the storage, and is sent when a client with that storage connects. */
  async close() {
    this.#stop?.abort(new ClosedError("this client was closed"));
    if (this.#running) await this.#running;
    else this.#state = "closed";
  }
  /**
   * Sends, and resolves when the server has confirmed what became of it. RELIABLE (the default) waits for a connection,
   * and is sent again until it is confirmed; FAST needs a connection, or is dropped.
   * @throws RefusedError, OutboxFullError, TooLargeError, ClosedError, and for FAST LostError
   */
  send(envelope, options = {}) {
    return this.#send(envelope, options, "kept");
  }
  /** Sends FAST, without any promise: for what is outdated in a moment. Whether it was written. */
  fast(envelope) {
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
  async request(to, payload, options = {}) {
    const { timeout = 3e4, signal, fields = {} } = options;
    signal?.throwIfAborted();
    const dest = typeof to === "string" ? { dest_id: to } : to;
    const id = newId();
    const reply = this.#requests.wait(id, dest.dest_id);
    const timer = setTimeout(() => this.#requests.timedOut(id, timeout), timeout);
    const abort = () => this.#requests.fail(id, signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    const envelope = { ttl_ms: timeout, ...fields, ...dest, payload, id, reference: Requests.reference(id) };
    this.#send(envelope, {}, "fleeting").then(
      ({ status }) => status === "dropped" && this.#requests.undelivered(id),
      (error) => this.#requests.fail(id, error)
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
  session(id) {
    let session = this.#sessions.get(id);
    if (!session) {
      session = new Session(id, {
        http: this.#http,
        send: (envelope, options) => this.send(envelope, options),
        fast: (envelope) => this.fast(envelope),
        request: (to, payload, options) => this.request(to, payload, options),
        forget: () => this.#sessions.delete(id)
      });
      this.#sessions.set(id, session);
    }
    return session;
  }
  async createSession(options = {}, call) {
    const record = await this.#http.sessions.create(options, call);
    const session = this.session(record.session_id);
    session.recorded(record);
    return { session, record };
  }
  async joinSession(id, options = {}, call) {
    const membership = await this.#http.sessions.join(id, options, call);
    const session = this.session(id);
    session.joined(membership);
    return session;
  }
  /** What waits in the inbox, for `inbox: "manual"`. Fetching acknowledges nothing. */
  inbox(range = {}, call) {
    return this.#http.inbox.page(range, call);
  }
  /** Acknowledges the inbox up to and including a `seq`. */
  acknowledge(to, call) {
    return this.#http.inbox.acknowledge(to, call);
  }
  pushTokens(call) {
    return this.#http.pushTokens.get(call);
  }
  async addPushToken(provider, token, call) {
    await this.#http.pushTokens.put(provider, token, call);
  }
  async removePushToken(provider, token, call) {
    await this.#http.pushTokens.delete(provider, token, call);
  }
  async #run(signal) {
    this.#intake.start(signal);
    const wake = () => this.#life.wake();
    globalThis.addEventListener?.("online", wake);
    globalThis.document?.addEventListener("visibilitychange", wake);
    let error;
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
    this.#keeper = void 0;
    this.#seen.detach();
    this.#outbox.detach();
    this.dispatchEvent(new ClosedEvent(error));
  }
  /** With the first key it is known who this is, and where an earlier life left what it knew. */
  async #prepare(key) {
    const { sub, client_id } = claims(key);
    this.#clientId = client_id;
    if (this.#nodeId !== void 0 && this.#nodeId !== sub) {
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
      this.#keeper = void 0;
      throw error;
    }
    this.#loaded.resolve();
  }
  #opened(edge) {
    this.#edge = edge;
    for (const entry of this.#outbox.entries()) this.#write(entry);
  }
  #write(entry) {
    if (entry.written || !this.#edge?.isOpen) return;
    entry.written = true;
    this.#edge.write(entry.frame);
  }
  #ended(error) {
    this.#edge = void 0;
    if (error.closeCode === 1009) {
      const entry = this.#outbox.largestWritten();
      if (entry) this.#refuse(entry, new TooLargeError(`${entry.bytes} bytes are more than the server takes`, { cause: error }));
    }
    this.#outbox.disconnected();
  }
  #send(envelope, { signal }, keep) {
    let id;
    let full;
    let frame;
    try {
      signal?.throwIfAborted();
      if (this.#state === "closed") throw new ClosedError("this client is closed: connect() first");
      id = envelope.id ?? newId();
      const type = envelope.type ?? (envelope.feature === "FAST" ? void 0 : 1);
      full = { ...envelope, ...type !== void 0 && { type }, id, reference: envelope.reference ?? id };
      if (full.dest_id === void 0 && full.dest_client_id === void 0 && full.dest_session_id === void 0) {
        throw new ConfigurationError("to whom? An envelope needs `dest_id`, `dest_client_id` or `dest_session_id`");
      }
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
    const remove = () => void this.#outbox.remove(id);
    signal?.addEventListener("abort", remove, { once: true });
    return abortable(sent, signal).finally(() => signal?.removeEventListener("abort", remove));
  }
  #checkSize(frame) {
    const { maxMessageBytes = 1e6 } = this.#options;
    const bytes = byteLength(frame);
    if (bytes > maxMessageBytes) throw new TooLargeError(`this envelope has ${bytes} bytes, and ${maxMessageBytes} are allowed`);
  }
  #take(frame) {
    switch (frame.type) {
      case Type.CONFIRMATION:
        return this.#confirmed(frame);
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
    const envelope = { ...frame, type: frame.type ?? 0 };
    if (this.#intake.isRepetition(envelope)) this.#acknowledge(envelope);
    else if (this.#requests.take(envelope)) void this.#intake.settled(envelope);
    else this.#intake.take(envelope);
  }
  async #dispatch(envelope) {
    const { dest_session_id, type } = envelope;
    const session = dest_session_id === void 0 ? void 0 : this.#sessions.get(dest_session_id);
    if (isNotice(type)) {
      const own = noticeOf(envelope);
      session?.observe(noticeOf(envelope));
      this.dispatchEvent(own);
      return;
    }
    if (type < 0 || type > 99 && type < 200) return;
    const events = [this, ...session ? [session] : []].map((target) => {
      const event = new EnvelopeEvent("message", envelope, (payload, fields) => this.#reply(envelope, payload, fields));
      target.dispatchEvent(event);
      return event;
    });
    await EnvelopeEvent.settled(events);
  }
  #reply({ src_id, dest_session_id, reference, type }, payload, fields = {}) {
    const session = dest_session_id === void 0 ? {} : { dest_session_id };
    return this.send({ ...type > 0 && { type }, ...fields, dest_id: src_id, ...session, ...reference && { reference }, payload });
  }
  #acknowledge({ src_id, id }) {
    if (this.#options.ack !== "pong") this.#edge?.write(JSON.stringify({ type: Type.ACK, src_id, id }));
  }
  #confirmed(confirmation) {
    const entry = this.#outbox.remove(confirmation.id);
    if (!entry) return;
    entry.outcome.resolve(confirmation);
    this.dispatchEvent(new ConfirmedEvent(entry.envelope, confirmation));
  }
  #refused(frame) {
    const error = refusalOf(frame);
    const entry = error.id === void 0 ? void 0 : this.#outbox.get(error.id);
    if (!entry) this.dispatchEvent(new FaultEvent(error));
    else if (error.code !== "draining" && error.code !== "rate_limited") this.#refuse(entry, error);
  }
  #refuse(entry, error) {
    this.#outbox.remove(entry.id);
    entry.outcome.reject(error);
    this.dispatchEvent(new RefusedEvent(entry.envelope, error));
  }
};

// src/push.ts
async function enablePush(client, options) {
  if (!("serviceWorker" in (globalThis.navigator ?? {})) || !("PushManager" in globalThis)) {
    throw new PushUnavailableError("this browser has no Web Push");
  }
  const { vapid_public_key } = await client.pushTokens(options);
  if (!vapid_public_key) throw new PushUnavailableError("the server has no Web Push: its operator sets the VAPID key");
  const registration = await registered(options.serviceWorker);
  options.signal?.throwIfAborted();
  const applicationServerKey = decode(vapid_public_key);
  let subscription = await registration.pushManager.getSubscription();
  if (subscription && !sameKey(subscription.options.applicationServerKey, applicationServerKey)) {
    await subscription.unsubscribe();
    subscription = null;
  }
  try {
    subscription ??= await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
  } catch (error) {
    throw new PushUnavailableError(`the browser does not subscribe: ${messageOf(error)}`, { cause: error });
  }
  await client.addPushToken("webpush", JSON.stringify(subscription), options);
  return subscription;
}
async function disablePush(client, options) {
  const subscription = await (await registered(options.serviceWorker)).pushManager.getSubscription();
  if (!subscription) return false;
  await client.removePushToken("webpush", JSON.stringify(subscription), options);
  return subscription.unsubscribe();
}
async function registered(worker) {
  if (typeof worker !== "string" && !(worker instanceof URL)) return worker;
  await navigator.serviceWorker.register(worker, { type: "module" });
  return navigator.serviceWorker.ready;
}
function decode(base64url) {
  return Uint8Array.from(atob(base64url.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
}
function sameKey(left, right) {
  if (!left) return false;
  const bytes = new Uint8Array(left);
  return bytes.length === right.length && bytes.every((byte, index) => byte === right[index]);
}
export {
  AbsenceEvent,
  BadAnswerError,
  ClosedError,
  ClosedEvent,
  ConfigurationError,
  ConfirmedEvent,
  ConnectedEvent,
  ConnectionError,
  DisconnectedEvent,
  EnvelopeEvent,
  FaultEvent,
  GoingAwayEvent,
  IndexedDbStorage,
  LostError,
  MemberEvent,
  MemoryStorage,
  OutboxFullError,
  PresenceEvent,
  PushUnavailableError,
  RefusedError,
  RefusedEvent,
  Session,
  Sparkmesh,
  SparkmeshError,
  StorageError,
  TimeoutError,
  TooLargeError,
  Type,
  UndeliveredError,
  UnreachableError,
  WebStorage,
  disablePush,
  enablePush,
  isFast
};
