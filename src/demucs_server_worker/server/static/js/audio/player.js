// Plays the stems of a song on one audio clock. Every piece of the song is scheduled for all stems at the same frame of
// the same context, so they cannot drift apart; late data delays all of them together.

import { audibleGains } from "./gains.js";
import { BLOCK_FRAMES, pieceAt } from "./plan.js";
import { Schedule } from "./schedule.js";

/** @typedef {import("../types.js").Channel} Channel */
/** @typedef {import("../types.js").Region} Region */
/** @typedef {"paused" | "playing" | "waiting"} PlayerState waiting: for data */

/** How far ahead of the clock pieces are scheduled, seconds: more than a hidden tab's timers are held back. */
const AHEAD_SECONDS = 6;
/** Between a decision and the frame where it is heard, seconds: the audio thread must not have passed it. */
const MARGIN_SECONDS = 0.05;
const PUMP_MILLISECONDS = 250;
/** A change of gain or pan takes about three times this long, seconds, and makes no click. */
const SMOOTH_SECONDS = 0.012;
const METER_SAMPLES = 2048;

export class Player {
  schedule = new Schedule();
  /** @type {Region | null} */
  loop = null;
  /** @type {PlayerState} */
  state = "paused";
  /** @type {Error | null} */
  trouble = null;
  #head = 0; // frame where playback goes on when nothing is scheduled
  /** @type {number | null} next frame to schedule; null when the end is scheduled */
  #cursor = 0;
  #generation = 0;
  #pumping = false;
  #timer = 0;

  /**
   * @param {AudioContext} context made by a gesture of the user, without which browsers keep it silent
   * @param {import("./blocks.js").Blocks} blocks
   * @param {readonly Channel[]} channels in the order of the stems; changed by the mixer, then `applyGains` is called
   * @param {() => void} changed called after each change of `state`
   */
  constructor(context, blocks, channels, changed) {
    this.context = context;
    this.blocks = blocks;
    this.channels = channels;
    this.changed = changed;
    this.sampleRate = blocks.files[0].layout.sampleRate;
    this.frames = Math.max(...blocks.files.map((file) => file.layout.frames));
    this.strips = channels.map(() => stripInto(context));
    this.applyGains();
  }

  /** Where the song is, in frames. */
  get position() {
    return Math.min(this.frames, this.schedule.songFrameAt(this.#heard()) ?? this.#head);
  }

  get playing() {
    return this.state !== "paused";
  }

  async play() {
    if (this.playing) return;
    this.trouble = null;
    if (this.position >= this.frames) this.#jump(this.loop?.start ?? 0);
    this.#become(this.schedule.entries.length > 0 ? "playing" : "waiting");
    this.#timer = window.setInterval(() => void this.#pump(), PUMP_MILLISECONDS);
    await this.context.resume();
    await this.#pump();
  }

  pause() {
    if (!this.playing) return;
    clearInterval(this.#timer);
    // The clock itself stops, and with it all stems at the same frame.
    void this.context.suspend();
    this.#become("paused");
  }

  /** @param {number} frame */
  seek(frame) {
    this.#jump(Math.max(0, Math.min(this.frames - 1, Math.round(frame))));
    if (this.playing) void this.#pump();
  }

  /** @param {Region | null} loop */
  setLoop(loop) {
    this.loop = loop;
    if (this.schedule.entries.length === 0) return;
    // What lies ahead was planned without the loop: the same song from a frame soon to come, planned anew.
    const at = this.#now() + (this.playing ? this.#margin() : 0);
    const song = this.schedule.songFrameAt(at);
    this.#jump(song ?? this.#head, at);
    if (this.playing) void this.#pump();
  }

  /** Makes the channels' faders, pans, mutes and solos heard. */
  applyGains() {
    const now = this.context.currentTime;
    const gains = audibleGains(this.channels);
    this.strips.forEach((strip, index) => {
      strip.gain.gain.setTargetAtTime(gains[index], now, SMOOTH_SECONDS);
      strip.pan.pan.setTargetAtTime(this.channels[index].pan, now, SMOOTH_SECONDS);
    });
  }

  /** The loudest sample of each stem in the last moments, as it is heard. */
  levels() {
    return this.strips.map((strip) => peakOf(strip.meter));
  }

  /** Ends for good. */
  close() {
    this.pause();
    this.#jump(0);
    this.blocks.close();
  }

  #now() {
    return Math.round(this.context.currentTime * this.sampleRate);
  }

  /** The context's frame that comes out of the loudspeakers now. */
  #heard() {
    return this.#now() - Math.round((this.context.outputLatency || 0) * this.sampleRate);
  }

  #margin() {
    return Math.round(MARGIN_SECONDS * this.sampleRate);
  }

  /**
   * Goes on at another frame of the song.
   * @param {number} song
   * @param {number} [at] the context's frame from which on
   */
  #jump(song, at = this.#now() + this.#margin()) {
    this.#generation += 1;
    this.#head = song;
    this.#cursor = song;
    this.schedule.cut(this.playing ? at : 0, this.sampleRate);
  }

  /** Schedules what lies ahead, and notices the end. */
  async #pump() {
    if (this.#pumping) return this.#notice();
    if (!this.playing) return;
    this.#pumping = true;
    try {
      while (this.playing && this.#wantsMore()) await this.#scheduleNext();
    } catch (error) {
      this.#fail(/** @type {Error} */ (error));
    } finally {
      this.#pumping = false;
    }
    this.#notice();
  }

  /** Sees the end of the song, and data that did not come in time. */
  #notice() {
    const heard = this.#heard();
    const silent = heard >= this.schedule.end;
    this.schedule.forgetBefore(heard);
    if (!this.playing || !silent) return;
    if (this.#cursor === null) this.#finish();
    else this.#become("waiting");
  }

  /**
   * What lies ahead still sounds, and meanwhile each turn asks again: a server that starts anew interrupts nothing.
   * @param {Error} error
   */
  #fail(error) {
    if (this.#now() < this.schedule.end) return;
    this.trouble = error;
    this.pause();
  }

  #wantsMore() {
    return this.#cursor !== null && this.schedule.end - this.#now() < AHEAD_SECONDS * this.sampleRate;
  }

  async #scheduleNext() {
    const generation = this.#generation;
    const piece = pieceAt(/** @type {number} */ (this.#cursor), this.frames, this.loop);
    const buffers = await this.blocks.get(piece.block);
    if (generation !== this.#generation) return; // sought meanwhile: planned anew by the next turn
    const context = Math.max(this.schedule.end, this.#now() + this.#margin());
    const nodes = buffers.map((buffer, index) => this.#start(buffer, index, piece, context));
    this.schedule.add({ song: piece.start, context, frames: piece.frames, nodes });
    this.#cursor = piece.next;
    this.#head = piece.next ?? this.frames;
    if (this.state === "waiting") this.#become("playing");
  }

  /**
   * @param {AudioBuffer} buffer
   * @param {number} index
   * @param {import("./plan.js").Piece} piece
   * @param {number} at the context's frame
   */
  #start(buffer, index, piece, at) {
    const node = new AudioBufferSourceNode(this.context, { buffer });
    node.connect(this.strips[index].gain);
    const offset = piece.start % BLOCK_FRAMES;
    node.start(at / this.sampleRate, offset / this.sampleRate, piece.frames / this.sampleRate);
    return node;
  }

  #finish() {
    this.pause();
    this.#head = this.frames;
    this.schedule.entries = [];
    this.changed();
  }

  /** @param {PlayerState} state */
  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.changed();
  }
}

/**
 * A context for songs at a rate: at their own, so that nothing is resampled between pieces, where the browser can.
 * @param {number} sampleRate hertz
 */
export function audioContext(sampleRate) {
  try {
    return new AudioContext({ sampleRate, latencyHint: "balanced" });
  } catch {
    return new AudioContext({ latencyHint: "balanced" });
  }
}

/** @param {AudioContext} context */
function stripInto(context) {
  const [gain, pan] = [new GainNode(context), new StereoPannerNode(context)];
  const meter = new AnalyserNode(context, { fftSize: METER_SAMPLES });
  gain.connect(pan).connect(meter).connect(context.destination);
  return { gain, pan, meter };
}

const measured = new Float32Array(METER_SAMPLES);

/** @param {AnalyserNode} meter */
function peakOf(meter) {
  meter.getFloatTimeDomainData(measured);
  return measured.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0);
}
