// A server with its pages, as `sparkmesh serve --dev` has them. Where the binary does not serve them yet, a stand-in does:
// it serves web/chat, mints keys, and passes the HTTP API on; WebSockets go to the server itself.
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort, key, Server } from "./server.mjs";

const PAGES = new URL("../../../../web/chat/", import.meta.url);
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css" };

export class Site {
  /** @type {Server} */
  server;
  url = "";
  #standIn;

  static async start() {
    const site = new Site();
    site.server = await Server.start("--dev");
    const answer = await fetch(`${site.server.url}/`);
    if (answer.ok && (await answer.text()).includes("sparkmesh chat")) {
      site.url = `${site.server.url}/`;
      return site;
    }
    await site.server.stop();
    const port = await freePort();
    site.url = `http://127.0.0.1:${port}/`;
    site.server = await Server.start("--allow-origin", site.url.slice(0, -1));
    site.#standIn = createServer((request, response) => {
      site.#serve(request, response).catch((error) => response.writeHead(502).end(String(error)));
    }).listen(port, "127.0.0.1");
    await once(site.#standIn, "listening");
    return site;
  }

  async stop() {
    this.#standIn?.close();
    this.#standIn?.closeAllConnections();
    await this.server.stop();
  }

  async #serve(request, response) {
    const { pathname, search } = new URL(request.url, this.url);
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    if (pathname === "/dev/key") {
      const { node_id, client_id } = JSON.parse(body.toString());
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ key: key(node_id, { client_id }) }));
    } else if (pathname.startsWith("/v1/")) {
      const creates = pathname === "/v1/sessions" && request.method === "POST";
      // Rooms with a chosen id are made by an app here; who asked joins then.
      const authorization = creates ? `Bearer ${key("rooms", { role: "app" })}` : request.headers.authorization;
      const headers = { authorization, "content-type": "application/json" };
      const answer = await fetch(this.server.url + pathname + search, { method: request.method, headers, ...(body.length > 0 && { body }) });
      response.writeHead(creates && answer.ok ? 409 : answer.status, { "content-type": "application/json" });
      response.end(creates && answer.ok ? '{"error":{"code":"conflict","message":"made"}}' : await answer.text());
    } else {
      const file = new URL(pathname === "/" ? "index.html" : pathname.slice(1), PAGES);
      const content = await readFile(fileURLToPath(file)).catch(() => undefined);
      if (!content) return response.writeHead(404).end();
      const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
      response.writeHead(200, { "content-type": TYPES[extname(file.pathname)], "content-security-policy": policy }).end(content);
    }
  }
}
