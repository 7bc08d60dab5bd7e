// The load of the machine over the last minutes: two lines on a canvas, and their figures in words.

import { make, setText } from "../page/dom.js";
import { label, say } from "../page/language.js";
import { percent, size } from "../page/format.js";
import { recall, remember, storageOf } from "../page/memory.js";
import { SharpCanvas } from "../page/canvas.js";

const SPAN_SECONDS = 300;
/** A line is not drawn across a longer silence. */
const GAP_SECONDS = 40;
const LINE_PIXELS = 1.5;

/** @typedef {{at: number, cpu: number | null, memory: number | null}} Sample at: epoch seconds; parts of 1 */

export class LoadPlot {
  /** @type {Sample[]} */
  #samples = recall("load", [], storageOf("sessionStorage"));
  /** Also what gives the canvas its colours, which follow the theme. */
  #swatches = {
    cpu: make("span", { class: "swatch cpu" }),
    memory: make("span", { class: "swatch memory" }),
    grid: make("span", { class: "swatch grid" }),
  };
  #cpu = make("span", { class: "figure" });
  #memory = make("span", { class: "figure" });
  #canvas = make("canvas", { class: "plot", attributes: { role: "img" } });
  #sharp = new SharpCanvas(this.#canvas, () => this.#draw());

  /** @param {HTMLElement} place */
  constructor(place) {
    const [cpu, memory, ago] = [make("span"), make("span"), make("span", { class: "plot-ago" })];
    say(cpu, "health.cpu");
    say(memory, "health.memory");
    say(ago, "health.minutes", { n: SPAN_SECONDS / 60 });
    const key = (/** @type {Node[]} */ ...parts) => make("span", { class: "plot-key" }, ...parts);
    const { cpu: first, memory: second } = this.#swatches;
    const legend = make("p", { class: "legend" }, key(first, cpu, this.#cpu), key(second, memory, this.#memory), ago);
    legend.append(this.#swatches.grid);
    place.append(legend, this.#canvas);
    label(this.#canvas, "health.plot", {
      cpu: () => this.#cpu.textContent ?? "",
      memory: () => this.#memory.textContent ?? "",
      n: SPAN_SECONDS / 60,
    });
  }

  /** @param {import("../types.js").Status["machine"]} machine */
  add({ cpuPercent, memoryTotalBytes, memoryAvailableBytes }) {
    const now = Date.now() / 1000;
    const used = memoryTotalBytes && memoryAvailableBytes !== null ? memoryTotalBytes - memoryAvailableBytes : null;
    const sample = {
      at: now,
      cpu: cpuPercent === null ? null : cpuPercent / 100,
      memory: used === null || !memoryTotalBytes ? null : used / memoryTotalBytes,
    };
    this.#samples = [...this.#samples.filter(({ at }) => at > now - SPAN_SECONDS - GAP_SECONDS), sample];
    remember("load", this.#samples, storageOf("sessionStorage"));
    setText(this.#cpu, sample.cpu === null ? "–" : percent(sample.cpu));
    setText(this.#memory, used === null ? "–" : size(used));
    this.#draw();
  }

  #draw() {
    const { context, width, height, ratio } = this.#sharp;
    context.clearRect(0, 0, width, height);
    context.fillStyle = this.#colour("grid");
    for (const part of [0.25, 0.5, 0.75]) context.fillRect(0, Math.round(height * part), width, Math.max(1, Math.round(ratio / 2)));
    context.lineWidth = LINE_PIXELS * ratio;
    context.lineJoin = "round";
    this.#line("memory");
    this.#line("cpu");
  }

  /** @param {"cpu" | "memory" | "grid"} name */
  #colour(name) {
    return getComputedStyle(this.#swatches[name]).color;
  }

  /** @param {"cpu" | "memory"} name */
  #line(name) {
    const { context, width, height, ratio } = this.#sharp;
    const now = this.#samples.at(-1)?.at ?? 0;
    const inset = LINE_PIXELS * ratio;
    context.strokeStyle = this.#colour(name);
    context.beginPath();
    let before = 0;
    for (const sample of this.#samples) {
      const value = sample[name];
      if (value === null) continue;
      const x = width * (1 - (now - sample.at) / SPAN_SECONDS);
      const y = height - inset - Math.min(1, value) * (height - 2 * inset);
      if (sample.at - before > GAP_SECONDS) context.moveTo(x, y);
      else context.lineTo(x, y);
      before = sample.at;
    }
    context.stroke();
  }
}
