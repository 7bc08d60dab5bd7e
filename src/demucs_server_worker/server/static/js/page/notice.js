// A sentence that comes when something did not work, and goes by itself.

import { byId } from "./dom.js";

const SHOWN_MILLISECONDS = 8_000;
let timer = 0;

/** @param {string} sentence */
export function notice(sentence) {
  const node = byId("notice");
  node.textContent = sentence;
  node.hidden = false;
  clearTimeout(timer);
  timer = window.setTimeout(() => (node.hidden = true), SHOWN_MILLISECONDS);
}
