// Time as it is drawn: the ruler above the lanes, which is the slider for the keyboard, and head and loop over all.

import { make, setAttribute } from "../page/dom.js";
import { clock } from "../page/format.js";
import { label, t } from "../page/language.js";
import { followPointer } from "./pointing.js";

/** Distances of marks that people find round, seconds. */
const STEPS_SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
const MARK_PIXELS = 72;
const STEP_SECONDS = 5;
const PAGE_SECONDS = 30;

export class Timeline {
  #marks = make("span", { class: "ruler-marks", attributes: { "aria-hidden": "true" } });
  ruler = make(
    "div",
    { class: "ruler wave", attributes: { role: "slider", tabindex: "0", dir: "ltr", "aria-valuemin": "0" } },
    this.#marks,
    make("span", { class: "wave-loop" }),
    make("span", { class: "wave-head" }),
  );

  /**
   * @param {import("./deck.js").Deck} deck
   * @param {HTMLElement} stage holds all that shows head and loop
   */
  constructor(deck, stage) {
    this.deck = deck;
    this.stage = stage;
    label(this.ruler, "mixer.position");
    setAttribute(this.ruler, "aria-valuemax", String(Math.round(deck.duration)));
    this.follow(this.ruler);
    this.ruler.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#drawMarks()).observe(this.ruler);
  }

  /**
   * Makes an area seek and mark loops.
   * @param {HTMLElement} area
   */
  follow(area) {
    const { deck } = this;
    const region = (/** @type {number} */ from, /** @type {number} */ to) => ({ start: from * deck.duration, end: to * deck.duration }); // prettier-ignore
    followPointer(area, {
      seek: (part) => deck.seek(part * deck.duration),
      drag: (from, to) => this.#showLoop(region(from, to), true),
      release: (from, to) => deck.loop(region(from, to)),
    });
  }

  /** Shows where the song is. */
  update() {
    const { position, duration, region, looping } = this.deck;
    this.stage.style.setProperty("--head", `${((100 * position) / duration).toFixed(3)}%`);
    setAttribute(this.ruler, "aria-valuenow", String(Math.floor(position)));
    setAttribute(this.ruler, "aria-valuetext", t("mixer.positionOf", { at: clock(position), of: clock(duration) }));
    this.#showLoop(region, looping);
  }

  /**
   * @param {{start: number, end: number} | null} region
   * @param {boolean} on
   */
  #showLoop(region, on) {
    setAttribute(this.stage, "data-loop", region ? (on ? "on" : "off") : "none");
    if (!region) return;
    this.stage.style.setProperty("--loop-start", `${(100 * region.start) / this.deck.duration}%`);
    this.stage.style.setProperty("--loop-length", String((region.end - region.start) / this.deck.duration));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const { deck } = this;
    /** @type {Record<string, number>} */
    const moves = {
      ArrowRight: deck.position + STEP_SECONDS, ArrowUp: deck.position + STEP_SECONDS,
      ArrowLeft: deck.position - STEP_SECONDS, ArrowDown: deck.position - STEP_SECONDS,
      PageUp: deck.position + PAGE_SECONDS, PageDown: deck.position - PAGE_SECONDS, Home: 0, End: deck.duration,
    }; // prettier-ignore
    if (!(event.key in moves)) return;
    event.preventDefault();
    event.stopPropagation();
    deck.seek(moves[event.key]);
  }

  #drawMarks() {
    const { duration } = this.deck;
    const room = Math.max(1, Math.floor(this.ruler.clientWidth / MARK_PIXELS));
    const step = STEPS_SECONDS.find((each) => duration / each <= room) ?? duration;
    // None where its time would be cut off by the end.
    const count = Math.max(1, Math.ceil(duration / step - 0.6));
    const marks = Array.from({ length: count }, (_, index) => {
      const mark = make("span", { class: "ruler-mark", text: clock(index * step) });
      mark.style.insetInlineStart = `${(100 * index * step) / duration}%`;
      return mark;
    });
    this.#marks.replaceChildren(...marks);
  }
}
