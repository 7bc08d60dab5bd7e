// What is played next: a song is played in pieces, each within one block of the file and within the loop. Pure.

/** @typedef {import("../types.js").Region} Region */

/**
 * @typedef {object} Piece
 * @property {number} block which block of the file
 * @property {number} start where in the song, in frames
 * @property {number} frames how long
 * @property {number | null} next where in the song the following piece starts; null at the end
 */

/** Frames of one block: three seconds at 44.1 kHz, which a fetch brings quickly and a phone holds easily. */
export const BLOCK_FRAMES = 131_072;

/**
 * The piece that starts at `from`.
 * @param {number} from in frames, before the song's end
 * @param {number} total frames of the song
 * @param {Region | null} loop a head behind the loop's end plays on to the end of the song
 * @returns {Piece}
 */
export function pieceAt(from, total, loop) {
  const block = Math.floor(from / BLOCK_FRAMES);
  const looping = loop !== null && from < loop.end;
  const stop = Math.min((block + 1) * BLOCK_FRAMES, total, looping ? loop.end : total);
  const next = looping && stop === loop.end ? loop.start : stop < total ? stop : null;
  return { block, start: from, frames: stop - from, next };
}

/**
 * @param {number} total frames of the song
 */
export function blockCount(total) {
  return Math.ceil(total / BLOCK_FRAMES);
}
