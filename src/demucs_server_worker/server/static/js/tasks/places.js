// Places in the queue: when one task leaves it, all behind it move up, of which no event tells. They are asked for anew
// some moments after the queue changed.

import { listTasks } from "../api/tasks.js";

const MOST = 200;
const DELAY_MILLISECONDS = 1_500;
const MOVES = new Set(["queued", "started", "retrying", "cancelled", "deleted"]);

export class Places {
  #timer = 0;

  /** @param {import("./store.js").TaskStore} store */
  constructor(store) {
    this.store = store;
  }

  /** @param {string} kind of an event */
  told(kind) {
    if (!MOVES.has(kind) || this.#timer) return;
    this.#timer = window.setTimeout(() => void this.#ask(), DELAY_MILLISECONDS);
  }

  async #ask() {
    this.#timer = 0;
    const waiting = [...this.store.all()].some((task) => task.state === "queued");
    if (!waiting) return;
    try {
      const page = await listTasks({ state: "queued", limit: MOST });
      page.tasks.forEach((task) => this.store.place(task));
    } catch {
      // Offline, which is said elsewhere; the next event asks again.
    }
  }
}
