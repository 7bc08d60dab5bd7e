// The mixes that this browser remembers: those of the songs that were mixed last.

import { recall, remember } from "../page/memory.js";

const MOST = 50;

/** @typedef {import("../types.js").Channel} Channel */
/** @typedef {{id: string, channels: Channel[]}} Kept */

/**
 * @param {string} id of a task
 * @returns {Record<string, Partial<Channel>>} by stem
 */
export function recallMix(id) {
  const kept = all().find((mix) => mix.id === id);
  return Object.fromEntries((kept?.channels ?? []).map((channel) => [channel.name, channel]));
}

/**
 * @param {string} id of a task
 * @param {Channel[]} channels
 */
export function rememberMix(id, channels) {
  remember("mixes", [{ id, channels }, ...all().filter((mix) => mix.id !== id)].slice(0, MOST));
}

/** @returns {Kept[]} the one changed last first */
function all() {
  return recall("mixes", []);
}
