// Which tasks are shown: all, or those in one state. Each choice tells how many there are.

import { make, setAttribute, setText } from "../page/dom.js";
import { language, say } from "../page/language.js";
import { recall, remember } from "../page/memory.js";

/** @typedef {import("../types.js").TaskState} TaskState */

/** @type {readonly TaskState[]} */
export const STATES = ["running", "queued", "completed", "failed", "cancelled"];

export class Filters {
  /** @type {TaskState | null} null: all of them */
  state = STATES.find((/** @type {TaskState | null} */ state) => state === recall("filter", null)) ?? null;
  /** @type {Map<TaskState | null, {button: HTMLElement, count: HTMLElement}>} */
  #chips = new Map();
  /** @type {Set<() => void>} */
  #watchers = new Set();

  /** @param {HTMLElement} group */
  constructor(group) {
    for (const state of [null, ...STATES]) {
      const [name, count] = [make("span"), make("span", { class: "chip-count" })];
      const button = make("button", { class: "chip", attributes: { type: "button" } }, name, count);
      if (state) setAttribute(button, "data-state", state);
      say(name, state ? `filter.${state}` : "filter.all");
      button.addEventListener("click", () => this.choose(state));
      group.append(button);
      this.#chips.set(state, { button, count });
    }
    this.#press();
  }

  /** @param {import("../types.js").Task} task */
  accepts(task) {
    return this.state === null || task.state === this.state;
  }

  /** @param {TaskState | null} state */
  choose(state) {
    this.state = state;
    remember("filter", state);
    this.#press();
    for (const watcher of this.#watchers) watcher();
  }

  /** @param {import("../types.js").Status} status */
  count({ queue, totals }) {
    const counts = { ...queue, ...totals };
    const figure = new Intl.NumberFormat(language());
    for (const state of STATES) setText(this.#count(state), figure.format(counts[state]));
    setText(this.#count(null), figure.format(STATES.reduce((sum, state) => sum + counts[state], 0)));
  }

  /** @param {() => void} watcher called when the choice changes */
  watch(watcher) {
    this.#watchers.add(watcher);
  }

  /** @param {TaskState | null} state */
  #count(state) {
    return /** @type {HTMLElement} */ (this.#chips.get(state)?.count);
  }

  #press() {
    for (const [state, { button }] of this.#chips) setAttribute(button, "aria-pressed", String(state === this.state));
  }
}
