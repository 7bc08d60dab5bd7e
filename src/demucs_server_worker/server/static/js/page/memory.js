// What the browser remembers of this page. Where storage is forbidden or full, nothing is remembered and nothing breaks.

const PREFIX = "demucs.";

/**
 * @template T
 * @param {string} name
 * @param {T} otherwise given when nothing readable is stored
 * @param {Storage} [storage]
 * @returns {T}
 */
export function recall(name, otherwise, storage = storageOf("localStorage")) {
  try {
    const text = storage?.getItem(PREFIX + name);
    return text ? JSON.parse(text) : otherwise;
  } catch {
    return otherwise;
  }
}

/**
 * @param {string} name
 * @param {unknown} value
 * @param {Storage} [storage]
 */
export function remember(name, value, storage = storageOf("localStorage")) {
  try {
    storage?.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Full or forbidden.
  }
}

/**
 * @param {"localStorage" | "sessionStorage"} name
 * @returns {Storage | undefined}
 */
export function storageOf(name) {
  try {
    return window[name];
  } catch {
    return undefined;
  }
}
