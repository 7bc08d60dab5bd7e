// One stem on the server, read in blocks by range requests: what is not played is not in memory.

import { fetchRange } from "../api/stems.js";
import { BLOCK_FRAMES } from "./plan.js";
import { decodeFrames, readHeader } from "./wav.js";

/** Enough for a header with tags and a picture's thumbnail; where it is not, the file says so. */
const HEADER_BYTES = 65_536;

export class StemFile {
  /**
   * @param {string} name
   * @param {URL} url
   * @param {import("./wav.js").WavLayout} layout
   */
  constructor(name, url, layout) {
    this.name = name;
    this.url = url;
    this.layout = layout;
  }

  /**
   * Reads the header.
   * @param {string} name
   * @param {URL} url of a WAV file that answers range requests
   * @param {AbortSignal} signal
   */
  static async open(name, url, signal) {
    const { bytes, total } = await fetchRange(url, 0, HEADER_BYTES, signal);
    return new StemFile(name, url, readHeader(bytes, total));
  }

  /**
   * The samples of one block; the last one is shorter.
   * @param {number} block
   * @param {AbortSignal} signal
   * @returns {Promise<AudioBuffer>}
   */
  async block(block, signal) {
    const { channels, bits, dataStart, frames, sampleRate } = this.layout;
    const first = block * BLOCK_FRAMES;
    const count = Math.min(BLOCK_FRAMES, frames - first);
    const frameBytes = (channels * bits) / 8;
    const start = dataStart + first * frameBytes;
    const { bytes } = await fetchRange(this.url, start, start + count * frameBytes, signal);
    const buffer = new AudioBuffer({ length: count, numberOfChannels: channels, sampleRate });
    decodeFrames(bytes, this.layout).forEach((samples, channel) => buffer.copyToChannel(samples, channel));
    return buffer;
  }
}
