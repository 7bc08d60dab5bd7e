// What can be taken away: all stems in one file, and the mix as it sounds now.

import { zipUrl } from "../api/tasks.js";
import { renderMix } from "../audio/mixdown.js";
import { icon, make, setAttribute } from "../page/dom.js";
import { percent } from "../page/format.js";
import { label, say } from "../page/language.js";
import { troubleOf } from "../tasks/words.js";

/** The browser reads the file while it stores it; milliseconds after which it surely has begun. */
const KEEP_MILLISECONDS = 60_000;

export class Takeaway {
  /** @type {AbortController | null} while a mix is rendered */
  #rendering = null;
  #words = make("span");
  #button = make("button", { class: "button", attributes: { type: "button" } }, icon("download"), this.#words);
  #said = make("span", { class: "takeaway-said", attributes: { role: "status" } });

  /** @param {import("./deck.js").Deck} deck */
  constructor(deck) {
    this.deck = deck;
    const words = make("span");
    say(words, "mixer.zip");
    const zip = make("a", { class: "button", attributes: { href: zipUrl(deck.task.id).href, download: "" } }, icon("download"), words); // prettier-ignore
    say(this.#words, "mixer.render");
    this.#button.addEventListener("click", () => (this.#rendering ? this.#rendering.abort() : void this.#render()));
    this.node = make("div", { class: "takeaway" }, zip, this.#button, this.#said);
  }

  close() {
    this.#rendering?.abort();
  }

  async #render() {
    this.#rendering = new AbortController();
    const { signal } = this.#rendering;
    say(this.#said, "nothing");
    const progress = (/** @type {number} */ part) => say(this.#words, "mixer.rendering", { part: () => percent(part) });
    progress(0);
    label(this.#button, "mixer.renderStop");
    try {
      const { file, gain } = await renderMix(await this.deck.files(), this.deck.channels, { signal, progress });
      save(file, `${stripEnding(this.deck.task.inputName)} - mix.wav`);
      if (gain < 1) say(this.#said, "mixer.turnedDown", { figure: (-20 * Math.log10(gain)).toFixed(1) });
    } catch (error) {
      if (!signal.aborted) say(this.#said, "mixer.trouble", { why: () => troubleOf(/** @type {Error} */ (error)) });
    } finally {
      this.#rendering = null;
      say(this.#words, "mixer.render");
      for (const name of ["aria-label", "title", "data-t-label"]) setAttribute(this.#button, name, null);
    }
  }
}

/**
 * @param {Blob} file
 * @param {string} name
 */
function save(file, name) {
  const url = URL.createObjectURL(file);
  make("a", { attributes: { href: url, download: name } }).click();
  setTimeout(() => URL.revokeObjectURL(url), KEEP_MILLISECONDS);
}

/** @param {string} name */
function stripEnding(name) {
  return name.replace(/\.[A-Za-z0-9]{1,5}$/, "") || name;
}
