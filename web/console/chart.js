// One figure over ten minutes, as a small picture with a word for who does not see it.
import { drawn, element, say } from "./dom.js";
import { GAP_MS, SPAN, ceiling, latest } from "./rates.js";

const [WIDTH, HEIGHT] = [300, 64];
/** Ten minutes, in milliseconds. */
const WINDOW = SPAN * 2000;

export class Chart {
  #title;
  #format;
  #now = element("span", { class: "now" });
  #top = element("span", { class: "top", "aria-hidden": "true" });
  #svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  #paths;
  #least;

  /**
   * @param {string} title @param {(value: number | null) => string} format
   * @param {{lines?: {name: string, class: string}[], least?: number, wide?: boolean}} [how] `least`: what the picture goes up to at least.
   */
  constructor(title, format, { lines = [{ name: "", class: "first" }], least = 1, wide = false } = {}) {
    this.#title = title;
    this.#format = format;
    this.#least = least;
    this.#paths = lines.map((line) => ({
      ...line,
      area: drawn("path", { class: `area ${line.class}` }),
      path: drawn("path", { class: `line ${line.class}` }),
    }));
    this.#svg.append(...this.#paths.flatMap(({ area, path }) => [area, path]));
    const legend = lines.length > 1 ? element("span", { class: "legend" }, ...lines.map((line) => element("span", { class: line.class }, line.name))) : undefined;
    this.element = element("div", { class: wide ? "chart wide" : "chart" },
      element("div", { class: "chart-head" }, element("h3", {}, title), legend, this.#now),
      element("div", { class: "plot" }, this.#svg, this.#top));
  }

  /** @param {number[]} at @param {(number | null)[][]} values of each line @param {number} now of the same clock as `at` */
  show(at, values, now) {
    const most = ceiling(values.flat(), this.#least);
    const place = (time, value) => [WIDTH - ((now - time) / WINDOW) * WIDTH, HEIGHT - 2 - (value / most) * (HEIGHT - 6)];
    values.forEach((line, number) => {
      const [strokes, areas] = [[], []];
      let run = [];
      const close = () => {
        if (run.length > 0) {
          // One by itself is a dot.
          if (run.length === 1) run.push(run[0]);
          const points = run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
          strokes.push(`M${points}`);
          areas.push(`M${run[0][0].toFixed(1)} ${HEIGHT}L${points}L${run.at(-1)[0].toFixed(1)} ${HEIGHT}Z`);
        }
        run = [];
      };
      line.forEach((value, index) => {
        if (value === null || (index > 0 && at[index] - at[index - 1] > GAP_MS)) close();
        if (value !== null) run.push(place(at[index], value));
      });
      close();
      this.#paths[number].path.setAttribute("d", strokes.join(""));
      this.#paths[number].area.setAttribute("d", areas.join(""));
    });
    const last = values.map((line) => this.#format(latest(line)));
    say(this.#now, last.join(" / "));
    say(this.#top, this.#format(most));
    const named = this.#paths.map(({ name }, index) => `${name ? `${name} ` : ""}${last[index]}`).join(", ");
    this.#svg.setAttribute("aria-label", `${this.#title}: now ${named}; the picture shows ten minutes and goes up to ${this.#format(most)}`);
  }
}
