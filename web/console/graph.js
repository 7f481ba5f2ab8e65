// The mesh as a picture: a circle for each server, a line for each link. Elements stay, so that what changes moves.
import { drawn, say } from "./dom.js";
import { closest, layout } from "./layout.js";
import { QUEUED } from "./mesh.js";
import { STANDINGS, count, span } from "./words.js";

/** From this many servers on circles are small, and only the chosen one's links have words, if they are not many either. */
const MANY = 10;
/** From this many links on lines are faint, each for itself. */
const FAINT = 40;
/** Names of neighbours would run into each other where circles are nearer than this. */
const CROWDED = 17;

export class Graph {
  #svg;
  #lines = drawn("g", { class: "links", "aria-hidden": "true" });
  #words = drawn("g", { class: "costs", "aria-hidden": "true" });
  #circles = drawn("g", { class: "servers" });
  /** @type {Map<string, any>} */
  #byName = new Map();
  /** @type {Map<string, any>} */
  #byLink = new Map();
  /** @type {import("./layout.js").Layout | undefined} */
  #layout;
  #chosen = "";
  #hovered = "";
  /** Servers and links that something is shown on: `find.js`. */
  #marked = { servers: new Map(), path: /** @type {string[]} */ ([]) };
  #shown = { servers: /** @type {import("./mesh.js").Server[]} */ ([]), links: /** @type {any[]} */ ([]) };

  /** @param {SVGSVGElement} svg @param {(name: string) => void} choose */
  constructor(svg, choose) {
    this.#svg = svg;
    this.choose = choose;
    svg.append(this.#lines, this.#circles, this.#words);
    new ResizeObserver(() => this.#draw()).observe(/** @type {Element} */ (svg.parentElement));
  }

  show(shown, chosen) {
    this.#shown = shown;
    this.#chosen = chosen;
    const names = shown.servers.map(({ name }) => name);
    this.#layout = layout(names, shown.links.map(({ a, b }) => /** @type {const} */ ([a, b])), this.#layout);
    this.#draw();
  }

  /** @param {Map<string, string>} servers with why each is marked @param {string[]} path */
  mark(servers = new Map(), path = []) {
    this.#marked = { servers, path };
    this.#draw();
  }

  #draw() {
    if (!this.#layout || this.#shown.servers.length === 0) return;
    const { width, height } = /** @type {Element} */ (this.#svg.parentElement).getBoundingClientRect();
    if (width < 10 || height < 10) return;
    this.#svg.setAttribute("viewBox", `0 0 ${Math.round(width)} ${Math.round(height)}`);
    const many = this.#shown.servers.length > MANY;
    const [x, y] = many ? [64, 46] : [90, 84];
    const room = { x: Math.max(40, Math.min(x, width / 5)), y: Math.min(y, height / 4) };
    // A ring is round as long as there is space, and an ellipse where the window is wide.
    const widest = this.#layout.shape === "ring" ? Math.max(height * 1.7, 200) : width;
    const wide = Math.min(width - 2 * room.x, widest);
    const at = (name) => {
      const place = this.#layout?.places.get(name) ?? { x: 0.5, y: 0.5 };
      return { x: width / 2 + (place.x - 0.5) * wide, y: room.y + place.y * (height - 2 * room.y), place };
    };
    const near = closest(this.#layout.places.values(), { x: wide, y: height - 2 * room.y });
    this.#drawLinks(at, many, near);
    this.#drawServers(at, many, near);
  }

  #drawLinks(at, many, space) {
    const focus = this.#hovered || this.#chosen;
    const isOnPath = ({ a, b }) => this.#marked.path.some((name, index) => {
      const next = this.#marked.path[index + 1];
      return (name === a && next === b) || (name === b && next === a);
    });
    const seen = new Set();
    this.#words.replaceChildren();
    this.#lines.setAttribute("stroke-opacity", String(Math.max(0.07, Math.min(1, FAINT / this.#shown.links.length))));
    const words = this.#shown.links.filter(({ a, b }) => focus === a || focus === b).length <= MANY;
    for (const link of this.#shown.links) {
      const key = `${link.a} ${link.b}`;
      seen.add(key);
      let line = this.#byLink.get(key);
      if (!line) {
        line = drawn("line");
        this.#byLink.set(key, line);
        this.#lines.append(line);
      }
      const [from, to] = [at(link.a), at(link.b)];
      for (const [name, value] of Object.entries({ x1: from.x, y1: from.y, x2: to.x, y2: to.y })) line.setAttribute(name, String(Math.round(value * 10) / 10));
      const near = focus === link.a || focus === link.b;
      const classes = ["link", near && "near", focus && !near && many && "far", !link.up && "one-sided", link.queue > QUEUED && "queued", isOnPath(link) && "path"];
      line.setAttribute("class", classes.filter(Boolean).join(" "));
      if ((near && words) || !many || (link.queue > QUEUED && space >= CROWDED)) {
        const text = link.queue > QUEUED ? `${span(link.cost)}, ${count(link.queue / 1000)} kB wait` : span(link.cost);
        // Nearer to the far end where many meet at one.
        const share = many && near ? (focus === link.a ? 0.72 : 0.28) : 0.5;
        const place = { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share };
        const [middle, half] = [{ x: Math.round(place.x), y: Math.round(place.y) }, 4 + text.length * 3.4];
        this.#words.append(
          drawn("rect", { x: middle.x - half, y: middle.y - 9, width: 2 * half, height: 18, rx: 5 }),
          drawn("text", { ...middle, class: link.queue > QUEUED ? "cost queued" : "cost" }, text));
      }
    }
    for (const [key, line] of this.#byLink) {
      if (seen.has(key)) continue;
      line.remove();
      this.#byLink.delete(key);
    }
  }

  #drawServers(at, many, near) {
    const largest = Math.max(5, Math.min(18, near * 0.42));
    const seen = new Set();
    const most = Math.max(1, ...this.#shown.servers.map(({ devices }) => devices));
    for (const server of this.#shown.servers) {
      seen.add(server.name);
      let group = this.#byName.get(server.name);
      if (!group) {
        group = this.#make(server.name);
        this.#byName.set(server.name, group);
        this.#circles.append(group);
      }
      const { x, y, place } = at(server.name);
      // The area of a circle is for its share of the devices.
      const share = Math.sqrt(server.devices / most);
      const radius = many ? largest * (0.55 + 0.45 * share) : 30 + 14 * share;
      const mark = this.#marked.servers.get(server.name);
      const classes = ["server", server.standing, server.name === this.#chosen && "chosen", mark && "marked", server.silent && "silent", many && "small"];
      group.setAttribute("class", classes.filter(Boolean).join(" "));
      group.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
      group.setAttribute("aria-pressed", String(server.name === this.#chosen));
      say(group.querySelector("title"), `Server ${server.name}: ${STANDINGS[server.standing]}; ${server.devices === 1 ? "one device" : `${server.devices} devices`}${mark ? `; ${mark}` : ""}`);
      const part = (name) => group.querySelector(`.${name}`);
      part("disc").setAttribute("r", radius);
      part("halo").setAttribute("r", radius + 7);
      part("rim").setAttribute("r", radius + (many ? 2.5 : 4));
      const around = 2 * Math.PI * (radius + (many ? 2.5 : 4));
      part("rim").setAttribute("stroke-dasharray", `${around * Math.min(1, server.load)} ${around}`);
      const attended = server.name === this.#chosen || server.name === this.#hovered || mark !== undefined;
      this.#letter(group, server, { radius, many, place, mark, named: near >= CROWDED || attended, attended });
    }
    for (const [name, group] of this.#byName) {
      if (seen.has(name)) continue;
      group.remove();
      this.#byName.delete(name);
    }
  }

  #letter(group, server, { radius, many, place, mark, named, attended }) {
    const part = (name) => group.querySelector(`.${name}`);
    const set = (name, text, x, y, anchor) => {
      const line = part(name);
      say(line, text);
      line.setAttribute("x", x);
      line.setAttribute("y", y);
      line.setAttribute("text-anchor", anchor);
    };
    const gone = server.standing === "gone";
    const below = gone ? "not there" : server.standing !== "serving" ? server.standing : server.messages === null ? "" : `${count(server.messages)} msg/s`;
    if (many) {
      // Outwards, where nothing is in the way.
      const angle = Math.atan2(place.y - 0.5, place.x - 0.5);
      const [along, down] = [Math.cos(angle), Math.sin(angle)];
      const side = Math.abs(along) < 0.3 ? "middle" : along < 0 ? "end" : "start";
      const [x, y] = [along * (radius + 9), down * (radius + 11) + 4];
      set("name", named || server.standing !== "serving" ? server.name : "", x, y, side);
      set("inside", gone ? "×" : "", 0, 5, "middle");
      // Its colour says how a server is; the word is for one that is looked at.
      set("below", mark ?? (attended && server.standing !== "serving" ? below : ""), x, down < -0.2 ? y - 13 : y + 13, side);
      return;
    }
    set("inside", gone ? "×" : count(server.devices), 0, 7, "middle");
    set("name", server.name, 0, radius + 24, "middle");
    set("below", mark ?? below, 0, radius + 41, "middle");
  }

  #make(name) {
    const choose = () => this.choose(name);
    const group = drawn("g", {
      role: "button",
      tabindex: 0,
      on: {
        click: choose,
        keydown: (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          choose();
        },
        pointerenter: () => this.#hover(name),
        pointerleave: () => this.#hover(""),
        focus: () => this.#hover(name),
        blur: () => this.#hover(""),
      },
    });
    group.append(
      drawn("title", {}),
      drawn("circle", { class: "halo" }), drawn("circle", { class: "disc" }), drawn("circle", { class: "rim", transform: "rotate(-90)" }),
      // The title says all of it.
      drawn("g", { "aria-hidden": "true" }, drawn("text", { class: "inside" }), drawn("text", { class: "name" }), drawn("text", { class: "below" })),
    );
    return group;
  }

  #hover(name) {
    if (this.#hovered === name) return;
    this.#hovered = name;
    this.#draw();
  }
}
