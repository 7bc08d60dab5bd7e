// What is asked for the songs to come: model, stems, format and priority, remembered in this browser.

import { byId, make } from "../page/dom.js";
import { hasWords, onLanguage, t } from "../page/language.js";
import { recall, remember } from "../page/memory.js";

/** @typedef {import("../types.js").Choices} Choices */
/** @typedef {import("../types.js").Model} Model */

const FORMATS = ["wav", "flac", "mp3", "m4a", "ogg", "opus"];
const PRIORITIES = ["high", "normal", "low"];
const USUAL_STEMS = ["drums", "bass", "other", "vocals"];

/** @type {Choices} */
const DEFAULTS = { model: "", stems: "all", format: "wav", priority: "normal" };

export class ChoiceForm {
  /** @type {Choices} */
  #wanted = { ...DEFAULTS, ...recall("choices", {}) };
  /** @type {Model[]} */
  #models = [];

  constructor() {
    for (const name of /** @type {(keyof Choices)[]} */ (Object.keys(DEFAULTS))) {
      this.#select(name).addEventListener("change", () => this.#changed(name));
    }
    this.#fill();
    onLanguage(() => this.#fill());
  }

  /** @returns {Choices} what the form shows */
  get choices() {
    return {
      model: this.#select("model").value,
      stems: this.#select("stems").value,
      format: this.#select("format").value,
      priority: this.#select("priority").value,
    };
  }

  /** @param {{models: Model[], default: string}} known */
  offer({ models, default: usual }) {
    this.#models = models;
    if (!models.some((model) => model.name === this.#wanted.model)) this.#wanted.model = usual;
    this.#fill();
  }

  /** @param {keyof Choices} name */
  #changed(name) {
    this.#wanted = { ...this.#wanted, [name]: this.#select(name).value };
    remember("choices", this.#wanted);
    if (name === "model") this.#fillStems();
  }

  #fill() {
    const model = (/** @type {Model} */ each) => ({
      value: each.name,
      text: each.onDisk ? each.name : t("options.fetched", { model: each.name }),
    });
    this.#offer("model", this.#models.map(model));
    this.#fillStems();
    this.#offer("format", FORMATS.map((value) => ({ value, text: t(`format.${value}`) })));
    this.#offer("priority", PRIORITIES.map((value) => ({ value, text: t(`priority.${value}`) })));
  }

  #fillStems() {
    const stems = this.#models.find((model) => model.name === this.#select("model").value)?.stems ?? USUAL_STEMS;
    const karaoke = stems.includes("vocals") ? ["karaoke"] : [];
    const only = (/** @type {string} */ stem) => ({ value: stem, text: t("stems.only", { stem: () => stemName(stem) }) });
    this.#offer("stems", [...["all", ...karaoke].map((value) => ({ value, text: t(`stems.${value}`) })), ...stems.map(only)]);
  }

  /**
   * @param {keyof Choices} name
   * @param {{value: string, text: string}[]} offers
   */
  #offer(name, offers) {
    const select = this.#select(name);
    select.replaceChildren(...offers.map(({ value, text }) => make("option", { text, attributes: { value } })));
    const wanted = this.#wanted[name];
    if (offers.some(({ value }) => value === wanted)) select.value = wanted;
  }

  /** @param {keyof Choices} name */
  #select(name) {
    return /** @type {HTMLSelectElement} */ (byId(name));
  }
}

/**
 * The name of a stem in the language of the page; of one that nobody foresaw, its own.
 * @param {string} stem
 */
export function stemName(stem) {
  return hasWords(`stem.${stem}`) ? t(`stem.${stem}`) : stem;
}
