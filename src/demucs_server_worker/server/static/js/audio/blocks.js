// The blocks of all stems that are in memory: those used last, and never more than a limit.

import { BLOCK_FRAMES } from "./plan.js";

/** Raw samples that may lie in memory beside those being played; half of it on small devices. */
const LIMIT_BYTES = 48_000_000;
const SMALL_DEVICE_GIGABYTES = 4;
const SAMPLE_BYTES = 4;

export class Blocks {
  /** @type {Map<number, Promise<AudioBuffer[]>>} by block, the one used longest ago first */
  #held = new Map();
  #ended = new AbortController();

  /** @param {readonly import("./stem_file.js").StemFile[]} files stems of one song */
  constructor(files) {
    this.files = files;
    const channels = files.reduce((sum, file) => sum + file.layout.channels, 0);
    this.most = Math.max(3, Math.floor(limitBytes() / (channels * BLOCK_FRAMES * SAMPLE_BYTES)));
  }

  /** How many blocks are held. */
  get count() {
    return this.#held.size;
  }

  /**
   * One block of every stem, all of them or none: what is played together arrives together.
   * @param {number} block
   * @returns {Promise<AudioBuffer[]>} in the order of the stems
   */
  get(block) {
    const held = this.#held.get(block) ?? this.#fetch(block);
    this.#held.delete(block);
    this.#held.set(block, held);
    for (const oldest of this.#held.keys()) {
      if (this.#held.size <= this.most) break;
      this.#held.delete(oldest);
    }
    return held;
  }

  /** Lets everything go and breaks off what is under way. */
  close() {
    this.#ended.abort();
    this.#held.clear();
  }

  /** @param {number} block */
  #fetch(block) {
    const fetched = Promise.all(this.files.map((file) => file.block(block, this.#ended.signal)));
    fetched.catch(() => this.#held.delete(block)); // asked again, it is fetched again
    return fetched;
  }
}

function limitBytes() {
  const memory = /** @type {{deviceMemory?: number}} */ (navigator).deviceMemory ?? SMALL_DEVICE_GIGABYTES;
  return memory <= SMALL_DEVICE_GIGABYTES ? LIMIT_BYTES / 2 : LIMIT_BYTES;
}
