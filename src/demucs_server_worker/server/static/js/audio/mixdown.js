// The current mix as a WAV file, made block by block: in memory are one block of each stem and what the browser keeps
// of the growing file, which it may put on disk.

import { addStem, audibleGains } from "./gains.js";
import { BLOCK_FRAMES, blockCount } from "./plan.js";
import { encodeFrames, writeHeader } from "./wav.js";

/** Loudest sample of a mix that had to be turned down. */
const CEILING = 0.999;

/**
 * @param {readonly import("./stem_file.js").StemFile[]} files
 * @param {readonly import("../types.js").Channel[]} channels
 * @param {{signal: AbortSignal, progress: (part: number) => void}} about
 * @returns {Promise<{file: Blob, gain: number}>} gain: below 1 where the mix would have clipped
 */
export async function renderMix(files, channels, { signal, progress }) {
  const gains = audibleGains(channels);
  const heard = files.flatMap((file, index) =>
    gains[index] > 0 ? [{ file, gain: gains[index], pan: channels[index].pan }] : [],
  );
  const frames = Math.max(...files.map((file) => file.layout.frames));
  const song = { heard, frames, signal, progress };
  const { file, peak } = await renderOnce(song, files[0].layout.sampleRate, 1);
  if (peak <= 1) return { file, gain: 1 };
  // Stems that are turned up, or heard without those that cancelled them, can sum to more than full scale.
  const gain = CEILING / peak;
  return { file: (await renderOnce(song, files[0].layout.sampleRate, gain)).file, gain };
}

/**
 * @param {Song} song
 * @param {number} sampleRate hertz
 * @param {number} gain
 */
async function renderOnce(song, sampleRate, gain) {
  /** @type {BlobPart[]} */
  const parts = [writeHeader(song.frames, sampleRate)];
  let peak = 0;
  for await (const { left, right, part } of blocksOf(song)) {
    peak = Math.max(peak, loudest(left), loudest(right));
    // As a Blob of its own a part lies with the browser, which may put it on disk, and not in the page's memory.
    parts.push(new Blob([encodeFrames(left, right, gain)]));
    song.progress(part);
  }
  return { file: new Blob(parts, { type: "audio/wav" }), peak };
}

/**
 * @typedef {object} Song
 * @property {{file: import("./stem_file.js").StemFile, gain: number, pan: number}[]} heard
 * @property {number} frames
 * @property {AbortSignal} signal
 * @property {(part: number) => void} progress
 */

/**
 * The mix, block by block.
 * @param {Song} song
 */
async function* blocksOf({ heard, frames, signal }) {
  const count = blockCount(frames);
  for (let block = 0; block < count; block++) {
    const length = Math.min(BLOCK_FRAMES, frames - block * BLOCK_FRAMES);
    const mix = { left: new Float32Array(length), right: new Float32Array(length) };
    const buffers = await Promise.all(heard.map(({ file }) => file.block(block, signal)));
    buffers.forEach((buffer, index) => {
      const samples = Array.from({ length: buffer.numberOfChannels }, (_, channel) => buffer.getChannelData(channel));
      addStem(mix, samples, heard[index].gain, heard[index].pan);
    });
    yield { ...mix, part: (block + 1) / count };
  }
}

/** @param {Float32Array} samples */
function loudest(samples) {
  return samples.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0);
}
