// What the mixer's place shows: the mixer of a finished task, how far an unfinished one is, or what to do first.

import { Problem } from "../api/calls.js";
import { getTask } from "../api/tasks.js";
import { bdi, icon, make, setAttribute, setText } from "../page/dom.js";
import { label, onLanguage, say } from "../page/language.js";
import { lineOf } from "../tasks/words.js";
import { Mixer } from "./mixer.js";

/** @typedef {import("../types.js").Task} Task */

export class Stage {
  /** @type {Mixer | null} */
  mixer = null;
  /** @type {string | null} */
  #id = null;
  /** @type {Progress | null} */
  #progress = null;

  /**
   * @param {HTMLElement} place
   * @param {import("../tasks/store.js").TaskStore} store
   */
  constructor(place, store) {
    this.place = place;
    this.store = store;
    store.watch((changed) => {
      if (this.#id && changed.has(this.#id)) this.#show(this.store.get(this.#id) ?? null);
    });
    onLanguage(() => this.#progress?.update());
    this.#invite("stage.none");
  }

  /** @param {string | null} id of the task to show */
  async choose(id) {
    if (id === this.#id) return;
    this.#id = id;
    if (id === null) return this.#invite("stage.none");
    const known = this.store.get(id) ?? (await this.#ask(id));
    if (this.#id === id) this.#show(known);
  }

  /** @param {string} id */
  async #ask(id) {
    try {
      const task = await getTask(id);
      this.store.put(task);
      return task;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.offline) this.#id = null; // asked again when the server is back
      return null;
    }
  }

  /** @param {Task | null} task */
  #show(task) {
    if (task === null) return this.#invite("stage.gone");
    if (task.state !== "completed") return this.#follow(task);
    if (this.mixer?.deck.task.id === task.id) return;
    this.#clear();
    this.mixer = new Mixer(task);
    this.place.replaceChildren(this.mixer.node);
  }

  /** @param {Task} task */
  #follow(task) {
    if (this.#progress?.task.id !== task.id) {
      this.#clear();
      this.#progress = new Progress(task);
      this.place.replaceChildren(this.#progress.node);
    }
    this.#progress.task = task;
    this.#progress.update();
  }

  /** @param {string} key */
  #invite(key) {
    this.#clear();
    const words = make("p", { class: "stage-words" });
    say(words, key);
    this.place.replaceChildren(make("div", { class: "stage-empty" }, icon("sliders"), words));
  }

  #clear() {
    this.mixer?.close();
    this.mixer = null;
    this.#progress = null;
  }
}

class Progress {
  #line = make("p", { class: "stage-facts" });
  #fill = make("span", { class: "bar-fill" });
  #bar = make("span", { class: "bar", attributes: { role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" } }, this.#fill); // prettier-ignore

  /** @param {Task} task */
  constructor(task) {
    this.task = task;
    label(this.#bar, "task.progress", { name: task.inputName });
    const title = make("h3", { class: "stage-title" }, bdi(task.inputName));
    this.node = make("div", { class: "stage-progress" }, title, this.#line, this.#bar);
  }

  update() {
    setText(this.#line, lineOf(this.task));
    setAttribute(this.node, "data-state", this.task.state);
    setAttribute(this.#bar, "aria-valuenow", String(Math.round(this.task.progress * 100)));
    this.#bar.hidden = this.task.state !== "running";
    this.#fill.style.transform = `scaleX(${this.task.progress})`;
  }
}
