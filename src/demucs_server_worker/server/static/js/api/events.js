// The stream of events, opened again by itself whenever it breaks, and knowing whether it is open.

import { apiUrl } from "./calls.js";

const KINDS = [
  "queued", "started", "progress", "retrying", "completed", "failed", "cancelled", "deleted", "worker_started",
  "worker_died", "health_changed",
]; // prettier-ignore
const FIRST_DELAY_MILLISECONDS = 500;
const LONGEST_DELAY_MILLISECONDS = 10_000;

/** @typedef {{kind: string, taskId: string | null, task: import("../types.js").Task | null}} Told */

export class EventStream {
  /** @type {EventSource | null} */
  #source = null;
  #delay = FIRST_DELAY_MILLISECONDS;
  #timer = 0;

  /**
   * @param {{told: (event: Told) => void, opened: () => void, lost: () => void}} listener `opened` after each opening:
   *   what happened in between may have been missed
   */
  constructor(listener) {
    this.listener = listener;
  }

  open() {
    clearTimeout(this.#timer);
    this.#source?.close();
    const source = new EventSource(apiUrl("events"));
    this.#source = source;
    source.onopen = () => {
      this.#delay = FIRST_DELAY_MILLISECONDS;
      this.listener.opened();
    };
    // Opened anew here rather than by the browser, which gives up for good after an answer such as 503.
    source.onerror = () => this.#later();
    for (const kind of KINDS) {
      source.addEventListener(kind, (event) => this.listener.told({ ...JSON.parse(event.data), kind }));
    }
  }

  /** Try at once instead of when the delay is over. */
  hurry() {
    if (this.#source === null) this.open();
  }

  #later() {
    this.#source?.close();
    this.#source = null;
    this.listener.lost();
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.open(), this.#delay);
    this.#delay = Math.min(LONGEST_DELAY_MILLISECONDS, this.#delay * 2);
  }
}
