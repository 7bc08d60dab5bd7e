// Whether the stream of events is open but dead, as after a laptop slept: the counts of tasks then change, and no event
// tells of it. Pure.

export class Staleness {
  #counts = "";
  #heard = true;
  #suspected = false;

  /** An event came. */
  heard() {
    this.#heard = true;
  }

  /**
   * Judges by the next status. One that is ahead of its event proves nothing: the event has time until the one after.
   * @param {Pick<import("../types.js").Status, "queue" | "totals">} status
   * @returns {boolean} whether the stream must be opened anew
   */
  judge({ queue, totals }) {
    const counts = JSON.stringify([queue, totals]);
    const changed = this.#counts !== "" && counts !== this.#counts;
    const dead = this.#suspected && !this.#heard;
    this.#suspected = !this.#heard && !dead && (changed || this.#suspected);
    this.#counts = counts;
    this.#heard = false;
    return dead;
  }
}
