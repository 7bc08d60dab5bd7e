// What plays one finished task: its stems, its channels and its loop, in seconds. No element of the page.

import { stemUrl } from "../api/stems.js";
import { Blocks } from "../audio/blocks.js";
import { UNITY_FADER } from "../audio/gains.js";
import { Player, audioContext } from "../audio/player.js";
import { StemFile } from "../audio/stem_file.js";
import { recallMix, rememberMix } from "./kept.js";

/** @typedef {import("../types.js").Channel} Channel */
/** @typedef {"paused" | "opening" | "waiting" | "playing"} DeckState */

/** A shorter loop is a slip of the hand, or a click that moved; seconds. */
const SHORTEST_LOOP_SECONDS = 0.1;

export class Deck {
  /** @type {Player | null} */
  player = null;
  /** @type {{start: number, end: number} | null} in seconds */
  region = null;
  looping = true;
  /** @type {Error | null} why the stems could not be opened */
  trouble = null;
  /** @type {AudioContext | null} */
  #context = null;
  #opening = false;
  #head = 0; // seconds; where to begin once there is a player
  #ended = new AbortController();
  /** @type {Promise<StemFile[]> | null} */
  #files = null;

  /**
   * @param {import("../types.js").Task} task a completed one
   * @param {() => void} changed called after each change that is not the mere passing of time
   */
  constructor(task, changed) {
    this.task = task;
    this.changed = changed;
    this.duration = Math.max(...task.stems.map((stem) => stem.durationSeconds));
    const kept = recallMix(task.id);
    /** @type {Channel[]} */
    this.channels = task.stems.map(({ name }) => ({ ...untouched(name), ...kept[name] }));
  }

  /** @returns {DeckState} */
  get state() {
    return this.#opening ? "opening" : (this.player?.state ?? "paused");
  }

  /** Seconds from the song's start. */
  get position() {
    return this.player ? this.player.position / this.player.sampleRate : this.#head;
  }

  /** The stems on the server, opened once; in another form than WAV they are made into it there. */
  files() {
    this.#files ??= Promise.all(this.task.stems.map((stem) => this.#open(stem)));
    this.#files.catch(() => (this.#files = null)); // asked again, it is tried again
    return this.#files;
  }

  async toggle() {
    if (this.#opening) return;
    if (this.player?.playing) this.player.pause();
    else await this.#play();
  }

  /** @param {number} seconds */
  seek(seconds) {
    this.#head = Math.max(0, Math.min(this.duration, seconds));
    this.player?.seek(this.#head * this.player.sampleRate);
    this.changed();
  }

  /**
   * Loops between two moments; what is too short ends the loop.
   * @param {{start: number, end: number} | null} region
   */
  loop(region) {
    const long = region !== null && region.end - region.start >= SHORTEST_LOOP_SECONDS;
    this.region = long ? region : null;
    this.looping = true;
    this.#tellLoop();
    if (this.region && (this.position < this.region.start || this.position >= this.region.end)) this.seek(this.region.start);
    this.changed();
  }

  /** Switches the loop off without forgetting where it was, or on again. */
  toggleLoop() {
    this.looping = !this.looping;
    this.#tellLoop();
    this.changed();
  }

  /** Makes a change of the channels heard, and remembers it. */
  mixed() {
    this.player?.applyGains();
    rememberMix(this.task.id, this.channels);
    this.changed();
  }

  /** Every channel as it came. */
  reset() {
    for (const channel of this.channels) Object.assign(channel, untouched(channel.name));
    this.mixed();
  }

  close() {
    this.#ended.abort();
    this.player?.close();
    if (this.#context?.state !== "closed") void this.#context?.close();
  }

  async #play() {
    this.trouble = null;
    try {
      // Made before anything is waited for: later, a browser may not take it for the user's wish any more.
      this.#context ??= audioContext(this.task.stems[0].sampleRate);
      void this.#context.resume();
      if (!this.player) await this.#ready(this.#context);
      await this.player?.play();
    } catch (error) {
      this.trouble = this.#ended.signal.aborted ? null : /** @type {Error} */ (error);
      this.changed();
    }
  }

  /** @param {AudioContext} context */
  async #ready(context) {
    this.#opening = true;
    this.changed();
    try {
      const files = await this.files();
      if (this.#ended.signal.aborted) return;
      this.player = new Player(context, new Blocks(files), this.channels, () => this.#heard());
      this.player.seek(this.#head * this.player.sampleRate);
      this.#tellLoop();
    } finally {
      this.#opening = false;
      this.changed();
    }
  }

  #heard() {
    this.trouble = this.player?.trouble ?? null;
    this.changed();
  }

  #tellLoop() {
    if (!this.player) return;
    const rate = this.player.sampleRate;
    const end = Math.min(this.player.frames, Math.round((this.region?.end ?? 0) * rate));
    const region = { start: Math.round((this.region?.start ?? 0) * rate), end };
    this.player.setLoop(this.region && this.looping ? region : null);
  }

  /** @param {import("../types.js").Stem} stem */
  #open({ name, format }) {
    const url = stemUrl(this.task.id, name, format === "wav" ? null : "wav");
    return StemFile.open(name, url, this.#ended.signal);
  }
}

/** @param {string} name @returns {Channel} a channel that changes nothing */
function untouched(name) {
  return { name, fader: UNITY_FADER, pan: 0, muted: false, solo: false };
}
