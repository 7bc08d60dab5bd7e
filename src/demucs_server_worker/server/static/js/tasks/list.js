// The list of tasks, newest first. Rows are kept by id: of hundreds of tasks only those that changed are touched, and
// the browser skips the drawing of those out of sight (content-visibility).

import { setAttribute } from "../page/dom.js";
import { onLanguage, say } from "../page/language.js";
import { TaskRow } from "./row.js";

/** @typedef {import("../types.js").Task} Task */
/** @typedef {import("./row.js").Verb} Verb */

export class TaskList {
  /** @type {Map<string, TaskRow>} */
  #rows = new Map();
  /** @type {string | null} */
  #chosen = null;

  /**
   * @param {{list: HTMLElement, empty: HTMLElement}} nodes
   * @param {import("./store.js").TaskStore} store
   * @param {import("./filters.js").Filters} filters
   * @param {(verb: Verb, id: string) => void} act
   */
  constructor({ list, empty }, store, filters, act) {
    this.list = list;
    this.empty = empty;
    this.store = store;
    this.filters = filters;
    this.act = act;
    store.watch((changed) => changed.forEach((id) => this.#update(id)));
    store.watch(() => this.#sayIfEmpty());
    filters.watch(() => this.#refill());
    onLanguage(() => this.#refill());
    // Moments such as "5 minutes ago" grow old.
    window.setInterval(() => this.#refresh(), 60_000);
  }

  /** @param {string | null} id of the task that the mixer shows */
  choose(id) {
    this.#rows.get(this.#chosen ?? "")?.choose(false);
    this.#chosen = id;
    this.#rows.get(id ?? "")?.choose(true);
  }

  /**
   * @param {string} id
   * @param {boolean} busy
   */
  setBusy(id, busy) {
    const row = this.#rows.get(id);
    if (row) row.busy = busy;
  }

  /** @param {string} id */
  #update(id) {
    const task = this.store.get(id);
    const row = this.#rows.get(id);
    if (!task || !this.filters.accepts(task)) this.#take(id, row);
    else if (row) row.update(task);
    else this.#insert(task);
  }

  /**
   * @param {string} id
   * @param {TaskRow | undefined} row
   */
  #take(id, row) {
    if (!row) return;
    const focused = row.node.contains(document.activeElement);
    const neighbour = row.node.nextElementSibling ?? row.node.previousElementSibling;
    row.node.remove();
    this.#rows.delete(id);
    // Who works by keyboard goes on where the row was.
    if (focused) /** @type {HTMLElement | null} */ (neighbour?.querySelector("a") ?? null)?.focus();
  }

  /** @param {Task} task */
  #insert(task) {
    const row = new TaskRow(task, this.act);
    row.choose(task.id === this.#chosen);
    this.#rows.set(task.id, row);
    this.list.insertBefore(row.node, this.#olderThan(task));
    setAttribute(row.node, "data-created", task.createdAt);
  }

  /**
   * The first row of an older task: from the top, where new tasks belong, else from the bottom, where pages are added.
   * @param {Task} task
   */
  #olderThan(task) {
    const last = this.list.lastElementChild;
    if (last && createdAt(last) >= task.createdAt) return null;
    let row = this.list.firstElementChild;
    while (row && createdAt(row) >= task.createdAt) row = row.nextElementSibling;
    return row;
  }

  #refill() {
    for (const row of this.#rows.values()) row.node.remove();
    this.#rows.clear();
    const shown = [...this.store.all()].filter((task) => this.filters.accepts(task));
    shown.sort((a, b) => (a.createdAt < b.createdAt ? 1 : -1)).forEach((task) => this.#insert(task));
    this.#sayIfEmpty();
  }

  #refresh() {
    for (const [id, row] of this.#rows) {
      const task = this.store.get(id);
      if (task) row.update(task);
    }
  }

  #sayIfEmpty() {
    this.empty.hidden = this.#rows.size > 0;
    say(this.empty, this.filters.state === null ? "tasks.none" : "tasks.noneHere");
  }
}

/** @param {Element} row */
function createdAt(row) {
  return row.getAttribute("data-created") ?? "";
}
