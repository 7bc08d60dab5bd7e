// Whether the page hears from the server, in words.

import { setAttribute } from "./dom.js";
import { say } from "./language.js";

export class Connection {
  /** @type {boolean | null} null: not tried yet */
  #hears = null;
  #answers = true;

  /** @param {HTMLElement} node */
  constructor(node) {
    this.node = node;
    this.#show();
  }

  /** @param {boolean} hears whether the stream of events is open */
  stream(hears) {
    this.#hears = hears;
    this.#show();
  }

  /** Whether the stream of events is open. */
  get hears() {
    return this.#hears === true;
  }

  /** @param {boolean} answers whether the last question was answered */
  status(answers) {
    this.#answers = answers;
    this.#show();
  }

  #show() {
    const state = this.#hears === null ? "joining" : !this.#answers ? "offline" : this.#hears ? "live" : "asking";
    setAttribute(this.node, "data-state", state);
    say(this.node, `connection.${state}`);
  }
}
