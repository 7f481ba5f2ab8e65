// How things look: people, what was said, and what became of it. All that comes from others is set as text, never as markup.

const HUES = 7;
/** What one person says in so short a time stands together, in ms. */
const TOGETHER = 300_000;

const TICKS = {
  sending: ["…", "Sending"],
  delivered: ["✓✓", "Delivered to all"],
  stored: ["✓", "Kept for who is away"],
  alone: ["✓", "Nobody else is in this room"],
  dropped: ["!", "Reached nobody"],
  failed: ["!", "Not sent"],
};

export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A node id is a name and a random part; people see the name, and of namesakes among `all` the rest too. */
export function nameOf(node, all) {
  if (node.startsWith("anonymous_")) return `Somebody ${node.slice(10, 14)}`;
  const dot = node.lastIndexOf(".");
  const name = dot > 0 ? node.slice(0, dot) : node;
  const namesakes = [...all].filter((other) => other !== node && other.startsWith(`${name}.`));
  return namesakes.length > 0 ? `${name} (${node.slice(dot + 1)})` : name;
}

/** The same for the same name everywhere; who has none is grey. */
export function avatar(name) {
  const isNameless = name.startsWith("Somebody ");
  const made = element("span", "avatar", isNameless ? "?" : [...name][0]);
  if (!isNameless) made.dataset.hue = String(1 + ([...name].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) >>> 0, 7) % HUES));
  made.setAttribute("aria-hidden", "true");
  return made;
}

function tickOf(item) {
  const [tick, title] = TICKS[item.state];
  const made = element("span", `tick ${item.state === "dropped" ? "failed" : item.state}`, tick);
  made.setAttribute("role", "img");
  made.setAttribute("aria-label", item.title ?? title);
  made.title = item.title ?? title;
  return made;
}

/** @param {import("./memory.js").Item} item @param {import("./memory.js").Item | undefined} before */
export function draw(item, before) {
  const line = element("div", item.kind);
  line.dataset.id = item.id;
  if (item.kind === "notice") {
    line.textContent = item.text;
    return line;
  }
  const isNext = before?.kind === "message" && before.node === item.node && before.to === item.to && item.at - before.at < TOGETHER;
  line.classList.toggle("next", isNext);
  line.classList.toggle("mine", Boolean(item.mine));
  line.classList.toggle("private", item.to !== undefined);
  const bubble = element("div", "bubble");
  const meta = element("p", "meta");
  meta.append(element("span", "who", item.mine ? "You" : item.from));
  if (item.to !== undefined) meta.append(element("span", "whisper", item.mine ? `privately to ${item.to}` : "privately to you"));
  const foot = element("p", "foot");
  const time = element("time", "", new Date(item.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = new Date(item.at).toISOString();
  foot.append(time);
  if (item.state) foot.append(tickOf(item));
  bubble.append(meta, element("p", "", item.text), foot);
  if (!item.mine) line.append(avatar(item.from));
  line.append(bubble);
  return line;
}

/** One of the people; with `onClick` to be written to. */
export function person(name, tag, { online, onClick, chosen }) {
  const line = element("li", online ? "online" : "");
  const row = element(onClick ? "button" : "div", "person");
  const dotted = avatar(name);
  dotted.classList.add("dot");
  const label = element("span", "label");
  if (onClick) label.append(element("span", "unseen", "Write privately to"), " ");
  label.append(element("b", "", name), " ", element("span", "tag", tag));
  row.append(dotted, label);
  if (onClick) {
    row.type = "button";
    if (chosen) row.setAttribute("aria-current", "true");
    row.addEventListener("click", onClick);
  }
  line.append(row);
  return line;
}

/** Somebody one has been before, to be again. @param {import("./memory.js").Who} who */
export function returning(who, onClick) {
  const line = element("li");
  const button = element("button");
  button.type = "button";
  const label = element("span", "label");
  label.append(element("b", "", who.name), " ", element("span", "tag", `in #${who.room}${who.anonymous ? ", without the name" : ""}`));
  button.append(avatar(who.name), label);
  button.addEventListener("click", onClick);
  line.append(button);
  return line;
}
