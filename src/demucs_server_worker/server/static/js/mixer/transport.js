// Play and pause, to the start, the loop, the time, and the mix as it came.

import { icon, make, setAttribute, setIcon, setText } from "../page/dom.js";
import { clock, preciseClock } from "../page/format.js";
import { label, say } from "../page/language.js";
import { troubleOf } from "../tasks/words.js";

export class Transport {
  #play = make("button", { class: "play", attributes: { type: "button" } }, icon("play"));
  #loop = make("button", { class: "tool", attributes: { type: "button" } }, icon("loop"));
  #time = make("span", { class: "time-now" });
  #said = make("span", { class: "transport-said", attributes: { role: "status" } });

  /** @param {import("./deck.js").Deck} deck */
  constructor(deck) {
    this.deck = deck;
    const start = make("button", { class: "tool", attributes: { type: "button" } }, icon("start"));
    const reset = make("button", { class: "tool", attributes: { type: "button" } }, icon("reset"));
    label(start, "mixer.start");
    label(reset, "mixer.reset");
    this.#play.addEventListener("click", () => void deck.toggle());
    start.addEventListener("click", () => deck.seek(0));
    this.#loop.addEventListener("click", () => deck.toggleLoop());
    reset.addEventListener("click", () => deck.reset());
    const whole = make("span", { class: "time-whole", text: `/ ${clock(deck.duration)}` });
    const time = make("span", { class: "time", attributes: { dir: "ltr" } }, this.#time, whole);
    const words = make("div", { class: "transport-words" }, time, this.#said);
    this.node = make("div", { class: "transport" }, start, this.#play, this.#loop, words, reset);
  }

  /** After a change of the deck. */
  update() {
    const { state, region, looping, trouble } = this.deck;
    const busy = state !== "paused";
    setIcon(this.#play, busy ? "pause" : "play");
    label(this.#play, busy ? "mixer.pause" : "mixer.play");
    setAttribute(this.#play, "data-state", state);
    this.#loop.disabled = region === null;
    setAttribute(this.#loop, "aria-pressed", String(region !== null && looping));
    label(this.#loop, region ? "mixer.loop" : "mixer.noLoop");
    if (trouble) say(this.#said, "mixer.trouble", { why: () => troubleOf(trouble) });
    else if (state === "opening") say(this.#said, "mixer.opening");
    else if (state === "waiting") say(this.#said, "mixer.waiting");
    else say(this.#said, "nothing");
    this.tick();
  }

  /** As time passes. */
  tick() {
    setText(this.#time, preciseClock(this.deck.position));
  }
}
