/** Web Push: notices for a device that is away, shown by a service worker (`push-worker.js` of this package). */

import { PushUnavailableError, messageOf } from "./errors.js";
import type { Sparkmesh } from "./client.js";
import type { CallOptions } from "./http.js";

export interface PushOptions extends CallOptions {
  /** Where the application serves this package's `push-worker.js`, or a registration of its own. */
  readonly serviceWorker: string | URL | ServiceWorkerRegistration;
}

/**
 * Registers this browser with the server, and asks the person for leave; to be called from a click.
 * @throws PushUnavailableError, RefusedError
 */
export async function enablePush(client: Sparkmesh, options: PushOptions): Promise<PushSubscription> {
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

/** Takes back what `enablePush()` did. Whether there was anything to take back. */
export async function disablePush(client: Sparkmesh, options: PushOptions): Promise<boolean> {
  const subscription = await (await registered(options.serviceWorker)).pushManager.getSubscription();
  if (!subscription) return false;
  await client.removePushToken("webpush", JSON.stringify(subscription), options);
  return subscription.unsubscribe();
}

async function registered(worker: PushOptions["serviceWorker"]): Promise<ServiceWorkerRegistration> {
  if (typeof worker !== "string" && !(worker instanceof URL)) return worker;
  await navigator.serviceWorker.register(worker, { type: "module" });
  return navigator.serviceWorker.ready;
}

function decode(base64url: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64url.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
}

function sameKey(left: ArrayBuffer | null, right: Uint8Array): boolean {
  if (!left) return false;
  const bytes = new Uint8Array(left);
  return bytes.length === right.length && bytes.every((byte, index) => byte === right[index]);
}
