// The waveform of one stem: from peaks, one column a pixel of the screen. Always left to right, as time is drawn.

import { make } from "../page/dom.js";
import { SharpCanvas } from "../page/canvas.js";

/** @typedef {{min: readonly number[], max: readonly number[]}} Peaks */

export class Wave {
  /** @type {Peaks | null} */
  #peaks = null;
  #scale = 1;
  #canvas = make("canvas", { class: "wave-canvas", attributes: { "aria-hidden": "true" } });
  #sharp = new SharpCanvas(this.#canvas, () => this.#draw());

  constructor() {
    const overlays = ["wave-loop", "wave-head"].map((name) => make("span", { class: name }));
    this.node = make("div", { class: "wave", attributes: { dir: "ltr" } }, this.#canvas, ...overlays);
  }

  /**
   * @param {Peaks} peaks
   * @param {number} scale
   */
  show(peaks, scale) {
    this.#peaks = peaks;
    this.#scale = scale;
    this.#draw();
  }

  close() {
    this.#sharp.close();
  }

  #draw() {
    const { context, width, height, ratio } = this.#sharp;
    context.clearRect(0, 0, width, height);
    context.fillStyle = getComputedStyle(this.#canvas).color;
    const middle = height / 2;
    const thinnest = Math.max(1, Math.round(ratio));
    for (const [x, { low, high }] of columns(this.#peaks, width).entries()) {
      const top = middle - high * this.#scale * middle;
      const tall = Math.max(thinnest, (high - low) * this.#scale * middle);
      context.fillRect(x, Math.min(top, middle - thinnest / 2), 1, tall);
    }
  }
}

/**
 * The lowest and highest of the peaks that fall into each column; a line along zero where there are none. Pure.
 * @param {Peaks | null} peaks
 * @param {number} width columns
 * @returns {{low: number, high: number}[]}
 */
export function columns(peaks, width) {
  const count = peaks?.max.length ?? 0;
  return Array.from({ length: width }, (_, x) => {
    let [low, high] = [0, 0];
    if (!peaks || count === 0) return { low, high };
    const first = Math.floor((x * count) / width);
    const end = Math.max(first + 1, Math.floor(((x + 1) * count) / width));
    for (let i = first; i < end; i++) {
      low = Math.min(low, peaks.min[i]);
      high = Math.max(high, peaks.max[i]);
    }
    return { low, high };
  });
}
