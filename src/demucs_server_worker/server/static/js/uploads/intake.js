// Where songs come in: dropped anywhere on the page, pasted, or chosen.

import { byId } from "../page/dom.js";
import { chosen, dropped } from "./files.js";

/** @param {(found: import("./files.js").Found[]) => void} take */
export function openIntake(take) {
  takeDrops(take);
  takeChoices("choose-files", "files", take);
  takeChoices("choose-folder", "folder", take);
  window.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files;
    if (files?.length) take(chosen(files));
  });
  byId("intake").addEventListener("submit", (event) => event.preventDefault());
}

/** @param {(found: import("./files.js").Found[]) => void} take */
function takeDrops(take) {
  const veil = byId("drop-veil");
  const holdsFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
  window.addEventListener("dragenter", (event) => (veil.hidden = !holdsFiles(event)));
  window.addEventListener("dragover", (event) => {
    if (holdsFiles(event)) event.preventDefault(); // without this the browser opens the file in place of the page
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  window.addEventListener("drop", (event) => {
    veil.hidden = true;
    if (!event.dataTransfer || !holdsFiles(event)) return;
    event.preventDefault();
    void dropped(event.dataTransfer).then(take);
  });
}

/**
 * @param {string} button
 * @param {string} input
 * @param {(found: import("./files.js").Found[]) => void} take
 */
function takeChoices(button, input, take) {
  const files = /** @type {HTMLInputElement} */ (byId(input));
  byId(button).addEventListener("click", () => files.click());
  files.addEventListener("change", () => {
    if (files.files) take(chosen(files.files));
    files.value = ""; // so that the same file can be chosen again
  });
}
