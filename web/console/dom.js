// Making elements. Whatever is shown is set as text, never as markup.

/** @param {string} id @returns {any} */
export const $ = (id) => document.getElementById(id);

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, handler] of Object.entries(value)) made.addEventListener(event, handler);
    } else {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

/** @param {string} name @param {Record<string, any>} [attributes] @param {...(Node | string | undefined)} children */
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** As [`element`], in a drawing. @param {string} name @param {Record<string, any>} [attributes] @param {...(Node | string | undefined)} children */
export function drawn(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

/** Changes the text only where it is another, so that nothing is read out twice. */
export function say(where, text) {
  if (where.textContent !== text) where.textContent = text;
}

/** A command with a button that copies it. @param {string} label @param {string} command */
export function copyable(label, command) {
  const code = element("code", { tabindex: 0, role: "group", "aria-label": label }, command);
  const done = element("span", { class: "unseen", role: "status" });
  const button = element("button", { type: "button", class: "small", "aria-label": `Copy: ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      say(button, "Copied");
      say(done, "Copied");
    } catch {
      // Not allowed here, as on plain HTTP from another machine: it is marked, to be copied by hand.
      getSelection()?.selectAllChildren(code);
      say(button, "Marked");
      say(done, "The command is marked; copy it with the keyboard");
    }
    setTimeout(() => {
      say(button, "Copy");
      say(done, "");
    }, 2000);
  });
  return element("div", { class: "command" }, code, button, done);
}

/** Both ways to do the same from a shell. @param {{sparkmesh: string, curl: string}} commands */
export function shell(commands) {
  return element("details", { class: "shell" },
    element("summary", {}, "The same from a shell"),
    copyable("with sparkmesh", commands.sparkmesh),
    copyable("with curl", commands.curl));
}
