// One file on its way to the server, or refused by it.

import { bdi, icon, make, setAttribute, setIcon } from "../page/dom.js";
import { label, say } from "../page/language.js";
import { percent, size } from "../page/format.js";
import { troubleOf } from "../tasks/words.js";

/** @typedef {"waiting" | "sending" | "checking" | "refused" | "broken"} UploadState */

export class UploadRow {
  #mark = icon("upload");
  #line = make("span", { class: "row-line" });
  #fill = make("span", { class: "bar-fill" });
  #bar = make("span", { class: "bar", attributes: { role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" } }, this.#fill); // prettier-ignore
  #again = make("button", { class: "tool small", attributes: { type: "button" } }, icon("retry"));
  #drop = make("button", { class: "tool small", attributes: { type: "button" } }, icon("stop"));

  /**
   * @param {File} file
   * @param {{again: () => void, drop: () => void}} acts
   */
  constructor(file, { again, drop }) {
    this.file = file;
    label(this.#again, "upload.again", { name: file.name });
    label(this.#drop, "upload.drop", { name: file.name });
    label(this.#bar, "upload.progress", { name: file.name });
    this.#again.addEventListener("click", again);
    this.#drop.addEventListener("click", drop);
    const words = make("span", { class: "row-words" }, bdi(file.name, "row-name"), this.#line);
    const actions = make("span", { class: "row-actions" }, this.#again, this.#drop);
    this.node = make("li", { class: "row" }, make("span", { class: "row-mark" }, this.#mark), words, actions, this.#bar);
    this.wait();
  }

  wait() {
    this.#become("waiting", "upload.waiting", { size: () => size(this.file.size) });
    this.sent(0);
  }

  /** @param {number} part 0 to 1 */
  sent(part) {
    this.#fill.style.transform = `scaleX(${part})`;
    setAttribute(this.#bar, "aria-valuenow", String(Math.round(part * 100)));
    if (part >= 1) this.#become("checking", "upload.checking");
    else if (part > 0) this.#become("sending", "upload.sending", { part: () => percent(part), size: () => size(this.file.size) });
  }

  /** @param {import("../api/calls.js").Problem} problem */
  refused(problem) {
    if (problem.offline) this.#become("broken", "upload.offline");
    else if (problem.status >= 500) this.#become("broken", "upload.trouble", { reason: () => troubleOf(problem) });
    else this.#become("refused", "upload.refused", { reason: () => troubleOf(problem) });
  }

  /**
   * @param {UploadState} state
   * @param {string} key
   * @param {import("../page/language.js").Values} [values]
   */
  #become(state, key, values) {
    const over = state === "refused" || state === "broken";
    setAttribute(this.node, "data-state", state);
    setIcon(this.#mark, over ? "failed" : "upload");
    say(this.#line, key, values);
    setAttribute(this.#line, "role", over ? "alert" : null);
    this.#bar.hidden = over;
    this.#again.hidden = state !== "broken";
  }
}
