// What faders, pans, mutes and solos make of a sound. Pure.

/** @typedef {import("../types.js").Channel} Channel */

/** Where a fader leaves the sound as it is; above it is room for 3.9 dB more. */
export const UNITY_FADER = 0.8;

/**
 * The gain of a fader: quadratic, so that its middle is useful.
 * @param {number} fader 0 to 1
 */
export function gainOf(fader) {
  return (fader / UNITY_FADER) ** 2;
}

/**
 * The gain with which each channel is heard: nothing where it is muted, or where others are solo and it is not.
 * @param {readonly Channel[]} channels
 * @returns {number[]}
 */
export function audibleGains(channels) {
  const anySolo = channels.some((channel) => channel.solo);
  return channels.map((channel) => {
    const heard = !channel.muted && (!anySolo || channel.solo);
    return heard ? gainOf(channel.fader) : 0;
  });
}

/**
 * What each input channel gives to each side, as the Web Audio API's StereoPannerNode does it (section "panner
 * algorithm" of the specification), so that a rendered mix sounds as the one that was heard.
 * @param {number} pan -1 to 1
 * @param {number} inputs 1 or 2
 * @returns {{left: number[], right: number[]}} gains by input channel
 */
export function panGains(pan, inputs) {
  if (inputs === 1) {
    const angle = ((pan + 1) / 2) * (Math.PI / 2);
    return { left: [Math.cos(angle)], right: [Math.sin(angle)] };
  }
  const angle = (pan <= 0 ? pan + 1 : pan) * (Math.PI / 2);
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return pan <= 0 ? { left: [1, cos], right: [0, sin] } : { left: [cos, 0], right: [sin, 1] };
}

/**
 * Adds one stem to a mix.
 * @param {{left: Float32Array, right: Float32Array}} mix changed in place
 * @param {readonly Float32Array[]} stem (1 or 2 channels, frames)
 * @param {number} gain
 * @param {number} pan -1 to 1
 */
export function addStem(mix, stem, gain, pan) {
  const { left, right } = panGains(pan, Math.min(stem.length, 2));
  stem.slice(0, 2).forEach((samples, input) => {
    const [toLeft, toRight] = [gain * left[input], gain * right[input]];
    for (let frame = 0; frame < samples.length; frame++) {
      mix.left[frame] += samples[frame] * toLeft;
      mix.right[frame] += samples[frame] * toRight;
    }
  });
}
