// One task in the list. Made once; from then on only what differs is written.

import { bdi, icon, make, setAttribute, setIcon, setText } from "../page/dom.js";
import { label, t } from "../page/language.js";
import { lineOf } from "./words.js";

/** @typedef {import("../types.js").Task} Task */
/** @typedef {"cancel" | "retry" | "delete"} Verb */

const VERBS = { queued: ["cancel"], running: ["cancel"], completed: ["delete"], failed: ["retry", "delete"],
  cancelled: ["retry", "delete"] }; // prettier-ignore
const ICON_OF = { cancel: "stop", retry: "retry", delete: "delete" };

export class TaskRow {
  /** @type {Map<Verb, HTMLButtonElement>} */
  #buttons = new Map();
  #mark = icon("queued");
  #line = make("span", { class: "row-line" });
  #fill = make("span", { class: "bar-fill" });
  #bar = make("span", { class: "bar", attributes: { role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" } }, this.#fill); // prettier-ignore

  /**
   * @param {Task} task
   * @param {(verb: Verb, id: string) => void} act
   */
  constructor(task, act) {
    this.id = task.id;
    const name = bdi(task.inputName, "row-name");
    const link = make("a", { class: "row-link", attributes: { href: `#task/${task.id}` } }, name);
    const actions = make("span", { class: "row-actions" });
    for (const verb of /** @type {Verb[]} */ (["cancel", "retry", "delete"])) {
      const button = make("button", { class: "tool small", attributes: { type: "button" } }, icon(ICON_OF[verb]));
      button.addEventListener("click", () => act(verb, task.id));
      label(button, `task.${verb}`, { name: task.inputName });
      this.#buttons.set(verb, button);
      actions.append(button);
    }
    label(this.#bar, "task.progress", { name: task.inputName });
    const words = make("span", { class: "row-words" }, link, this.#line);
    this.node = make("li", { class: "row" }, make("span", { class: "row-mark" }, this.#mark), words, actions, this.#bar);
    this.update(task);
  }

  /** @param {Task} task */
  update(task) {
    setAttribute(this.node, "data-state", task.state);
    setIcon(this.#mark, task.state);
    setText(this.#line, lineOf(task));
    setAttribute(this.#line, "title", task.error?.message ?? null);
    for (const [verb, button] of this.#buttons) button.hidden = !VERBS[task.state].includes(verb);
    this.#bar.hidden = task.state !== "running";
    setAttribute(this.#bar, "aria-valuenow", String(Math.round(task.progress * 100)));
    this.#fill.style.transform = `scaleX(${task.progress})`;
  }

  /** While a request about it is under way.
   * @param {boolean} busy */
  set busy(busy) {
    for (const button of this.#buttons.values()) button.disabled = busy;
  }

  /** @param {boolean} chosen whether the mixer shows it */
  choose(chosen) {
    setAttribute(this.node.querySelector("a") ?? this.node, "aria-current", chosen ? "true" : null);
  }

  /** What a screen reader says when it changes state. */
  static announcement(/** @type {Task} */ task) {
    return t("task.announce", { name: task.inputName, state: t(`state.${task.state}`) });
  }
}
