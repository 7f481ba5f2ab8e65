// A service worker that shows the notices of a sparkmesh server. Serve it from your own site, and give its address to
// `enablePush()`. An application with a service worker of its own imports this file there instead.

self.addEventListener("push", (event) => {
  event.waitUntil(show(event.data));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data));
});

async function show(data) {
  let notice = {};
  try {
    notice = data?.json() ?? {};
  } catch {
    // Not from a sparkmesh server; the browser demands that something is shown all the same.
  }
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  for (const page of pages) page.postMessage({ type: "sparkmesh-push", notice });
  // Who looks at the page sees the message itself; browsers allow silence then.
  if (pages.some((page) => page.focused)) return;
  const pending = Number(notice.pending) || 0;
  const body = typeof notice.message === "string" ? notice.message : pending > 1 ? `${pending} messages wait` : "A message waits";
  const title = typeof notice.payload1 === "string" ? notice.payload1 : "New message";
  await self.registration.showNotification(title, { body, tag: notice.session_id ?? title, renotify: true, data: notice });
}

async function open(notice) {
  const pages = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages[0] ? await pages[0].focus() : await self.clients.openWindow(self.registration.scope);
  page?.postMessage({ type: "sparkmesh-open", notice });
}
