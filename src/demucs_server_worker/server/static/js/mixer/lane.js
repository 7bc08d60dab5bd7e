// One stem of the mixer: its name, its controls and its waveform.

import { stemUrl } from "../api/stems.js";
import { UNITY_FADER, gainOf } from "../audio/gains.js";
import { icon, make, setAttribute } from "../page/dom.js";
import { decibels, percent } from "../page/format.js";
import { label, say, t } from "../page/language.js";
import { stemName } from "../uploads/choices.js";
import { Wave } from "./wave.js";

/** @typedef {import("../types.js").Channel} Channel */

/** A pan this close to the middle is the middle. */
const CENTRE = 0.04;

export class Lane {
  wave = new Wave();
  #mute = toggle("M");
  #solo = toggle("S");
  #volume = slider("volume", 0, 100);
  #pan = slider("pan", -100, 100);
  #level = make("span", { class: "level-fill" });

  /**
   * @param {import("../types.js").Task} task
   * @param {Channel} channel changed in place
   * @param {() => void} mixed called after each change
   */
  constructor(task, channel, mixed) {
    this.channel = channel;
    const stem = () => stemName(channel.name);
    const name = make("span", { class: "lane-name" });
    say(name, "mixer.stem", { stem });
    label(this.#mute, "mixer.mute", { stem });
    label(this.#solo, "mixer.solo", { stem });
    label(this.#volume, "mixer.volume", { stem });
    label(this.#pan, "mixer.pan", { stem });
    const link = make("a", { class: "tool small", attributes: { href: stemUrl(task.id, channel.name).href, download: "" } }, icon("download")); // prettier-ignore
    label(link, "mixer.download", { stem });
    this.#listen(mixed);
    const level = make("span", { class: "level", attributes: { dir: "ltr" } }, this.#level);
    const head = make("div", { class: "lane-head" }, name, this.#mute, this.#solo, link);
    const ends = (/** @type {string} */ side) => make("span", { class: "pan-end", text: side, attributes: { "aria-hidden": "true" } }); // prettier-ignore
    const pan = make("span", { class: "pan-box", attributes: { dir: "ltr" } }, ends("L"), this.#pan, ends("R"));
    const controls = make("div", { class: "lane-controls" }, head, level, make("div", { class: "lane-sliders" }, this.#volume, pan)); // prettier-ignore
    this.node = make("li", { class: "lane", attributes: { "data-stem": channel.name } }, controls, this.wave.node);
    this.update(true);
  }

  /** @param {boolean} heard whether it is neither muted nor silenced by another's solo */
  update(heard) {
    const { muted, solo, fader, pan } = this.channel;
    setAttribute(this.#mute, "aria-pressed", String(muted));
    setAttribute(this.#solo, "aria-pressed", String(solo));
    setAttribute(this.node, "data-heard", String(heard));
    this.#volume.value = String(Math.round(fader * 100));
    this.#pan.value = String(Math.round(pan * 100));
    this.#volume.style.setProperty("--filled", `${fader * 100}%`);
    setAttribute(this.#volume, "aria-valuetext", decibels(gainOf(fader)));
    setAttribute(this.#pan, "aria-valuetext", panWords(pan));
  }

  /** @param {number} peak the loudest sample, 0 to 1 and more */
  set level(peak) {
    // The square root shows what the ear finds half as loud about half as long.
    this.#level.style.transform = `scaleX(${Math.min(1, Math.sqrt(peak)).toFixed(3)})`;
  }

  /** @param {() => void} mixed */
  #listen(mixed) {
    const change = (/** @type {() => Partial<Channel>} */ how) => () => {
      Object.assign(this.channel, how());
      mixed();
    };
    this.#mute.addEventListener("click", change(() => ({ muted: !this.channel.muted })));
    this.#solo.addEventListener("click", change(() => ({ solo: !this.channel.solo })));
    this.#volume.addEventListener("input", change(() => ({ fader: Number(this.#volume.value) / 100 })));
    this.#volume.addEventListener("dblclick", change(() => ({ fader: UNITY_FADER })));
    this.#pan.addEventListener("input", change(() => ({ pan: settled(Number(this.#pan.value) / 100) })));
    this.#pan.addEventListener("dblclick", change(() => ({ pan: 0 })));
  }
}

/** @param {number} pan */
function settled(pan) {
  return Math.abs(pan) < CENTRE ? 0 : pan;
}

/** @param {number} pan */
function panWords(pan) {
  if (pan === 0) return t("mixer.centre");
  return t(pan < 0 ? "mixer.left" : "mixer.right", { part: percent(Math.abs(pan)) });
}

/** @param {string} letter */
function toggle(letter) {
  return make("button", { class: `toggle toggle-${letter}`, text: letter, attributes: { type: "button" } });
}

/**
 * @param {string} name
 * @param {number} min
 * @param {number} max
 */
function slider(name, min, max) {
  return make("input", { class: `slider ${name}`, attributes: { type: "range", min: String(min), max: String(max), step: "1" } }); // prettier-ignore
}
