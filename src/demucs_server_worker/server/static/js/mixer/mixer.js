// The mixer of one finished task: header, transport, ruler, a lane a stem, and what can be taken away.

import { getPeaks } from "../api/stems.js";
import { audibleGains } from "../audio/gains.js";
import { bdi, make, setText } from "../page/dom.js";
import { clock, joined, size } from "../page/format.js";
import { onLanguage, t } from "../page/language.js";
import { Deck } from "./deck.js";
import { Lane } from "./lane.js";
import { Takeaway } from "./takeaway.js";
import { Timeline } from "./timeline.js";
import { Transport } from "./transport.js";

/** How much of a lane the loudest stem fills, and what silence is at most drawn larger by. */
const FILL = 0.95;
const LARGEST_SCALE = 8;
/** The usual order of a mixing desk; what is not named comes behind. */
const ORDER = ["vocals", "drums", "bass", "guitar", "piano", "other"];

export class Mixer {
  #frame = 0;
  #facts = make("p", { class: "stage-facts" });
  #ended = new AbortController();

  /** @param {import("../types.js").Task} task a completed one */
  constructor(task) {
    this.deck = new Deck({ ...task, stems: sorted(task.stems) }, () => this.#changed());
    this.node = make("div", { class: "desk" });
    this.transport = new Transport(this.deck);
    this.takeaway = new Takeaway(this.deck);
    this.timeline = new Timeline(this.deck, this.node);
    this.lanes = this.deck.channels.map((channel) => new Lane(task, channel, () => this.deck.mixed()));
    for (const lane of this.lanes) this.timeline.follow(lane.wave.node);
    const title = make("h3", { class: "stage-title" }, bdi(task.inputName));
    const ruler = make("div", { class: "ruler-row" }, this.timeline.ruler);
    const lanes = make("ul", { class: "lanes" }, ...this.lanes.map((lane) => lane.node));
    const head = make("header", { class: "stage-head" }, title, this.#facts);
    this.node.append(head, this.transport.node, ruler, lanes, this.takeaway.node);
    this.#changed();
    this.forgetLanguage = onLanguage(() => this.#changed());
    void this.#drawWaves();
    if (task.options.format === "wav") void this.deck.files().catch(() => {}); // headers only; play tells a failure
  }

  close() {
    cancelAnimationFrame(this.#frame);
    this.#ended.abort();
    this.forgetLanguage();
    this.lanes.forEach((lane) => lane.wave.close());
    this.takeaway.close();
    this.deck.close();
  }

  #changed() {
    if (this.#ended.signal.aborted) return;
    const gains = audibleGains(this.deck.channels);
    this.lanes.forEach((lane, index) => lane.update(gains[index] > 0));
    setText(this.#facts, factsOf(this.deck.task));
    this.transport.update();
    this.timeline.update();
    cancelAnimationFrame(this.#frame);
    this.#tick();
  }

  /** Follows the sound, frame by frame, as long as it plays. */
  #tick() {
    this.transport.tick();
    this.timeline.update();
    const levels = this.deck.state === "playing" ? (this.deck.player?.levels() ?? []) : [];
    this.lanes.forEach((lane, index) => (lane.level = levels[index] ?? 0));
    if (this.deck.state !== "paused") this.#frame = requestAnimationFrame(() => this.#tick());
  }

  async #drawWaves() {
    const { signal } = this.#ended;
    // One scale for all: the loudest stem fills its lane, and the others are as quiet beside it as they sound.
    const scale = Math.min(LARGEST_SCALE, FILL / Math.max(...this.deck.task.stems.map((stem) => stem.peak), 1e-6));
    for (const lane of this.lanes) {
      try {
        lane.wave.show(await getPeaks(this.deck.task.id, lane.channel.name, signal), scale);
      } catch {
        return; // the mixer was closed, or the stems are gone: playing them says which
      }
    }
  }
}

/** @param {import("../types.js").Stem[]} stems */
function sorted(stems) {
  const rank = (/** @type {string} */ name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  return [...stems].sort((a, b) => rank(a.name) - rank(b.name));
}

/** @param {import("../types.js").Task} task */
function factsOf({ options, stems, durationSeconds }) {
  const bytes = stems.reduce((sum, stem) => sum + stem.bytes, 0);
  const rate = t("mixer.rate", { figure: stems[0].sampleRate / 1000 });
  const length = clock(durationSeconds ?? stems[0].durationSeconds);
  return joined(length, options.model, t(`format.${options.format}`), rate, size(bytes));
}
