// Brings tasks into the store: the newest at once, older ones when the list's end comes into sight.

import { listTasks } from "../api/tasks.js";

const PAGE = 100;

/** @typedef {import("../types.js").TaskState} TaskState */

export class TaskPages {
  /** @type {Map<TaskState | null, number | null>} where the next page of a filter begins; null: there is none */
  #cursors = new Map();
  #loading = false;

  /**
   * @param {HTMLElement} more shown while there are older tasks
   * @param {import("./store.js").TaskStore} store
   * @param {import("./filters.js").Filters} filters
   */
  constructor(more, store, filters) {
    this.more = more;
    this.store = store;
    this.filters = filters;
    filters.watch(() => void this.#begin());
    new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) void this.next();
    }).observe(more);
  }

  /** Reads the newest tasks anew, as after a time without news; what was deleted meanwhile goes. */
  async renew() {
    const asked = this.store.words;
    const page = await listTasks({ limit: PAGE });
    const oldest = page.tasks.at(-1)?.createdAt ?? "";
    const told = new Set(page.tasks.map((task) => task.id));
    for (const task of [...this.store.all()]) {
      const within = page.cursor === null || task.createdAt > oldest;
      if (within && !told.has(task.id)) this.store.remove(task.id, asked);
    }
    page.tasks.forEach((task) => this.store.put(task, asked));
    if (!this.#cursors.has(null)) this.#cursors.set(null, page.cursor);
    await this.#begin();
  }

  /** The next page of what is shown. */
  async next() {
    const state = this.filters.state;
    const cursor = this.#cursors.get(state);
    if (this.#loading || cursor === null) return;
    this.#loading = true;
    try {
      const asked = this.store.words;
      const page = await listTasks({ state, cursor, limit: PAGE });
      page.tasks.forEach((task) => this.store.put(task, asked));
      this.#cursors.set(state, page.cursor);
    } finally {
      this.#loading = false;
    }
    this.#show();
  }

  async #begin() {
    if (!this.#cursors.has(this.filters.state)) await this.next();
    this.#show();
  }

  #show() {
    this.more.hidden = (this.#cursors.get(this.filters.state) ?? null) === null;
  }
}
