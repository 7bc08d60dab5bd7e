// Asks for the status again and again, less often while nobody looks, and tells when there is no answer.

import { getStatus } from "../api/tasks.js";

const SHOWN_MILLISECONDS = 2_000;
const HIDDEN_MILLISECONDS = 15_000;

/**
 * @param {(status: import("../types.js").Status) => void} told
 * @param {() => void} silent
 */
export function pollStatus(told, silent) {
  let timer = 0;
  async function ask() {
    clearTimeout(timer);
    try {
      told(await getStatus());
    } catch {
      silent();
    }
    clearTimeout(timer); // another may have been set while this one waited
    timer = window.setTimeout(ask, document.hidden ? HIDDEN_MILLISECONDS : SHOWN_MILLISECONDS);
  }
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void ask();
  });
  void ask();
  return ask;
}
