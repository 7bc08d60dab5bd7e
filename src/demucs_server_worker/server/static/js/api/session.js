// The API key is asked for once: the server then remembers this browser by a cookie that scripts cannot read.

import { byId } from "../page/dom.js";
import { say } from "../page/language.js";

/** @type {Promise<void> | null} */
let opening = null;

/** Resolves when a session is open, however many calls wait for it. */
export function openSession() {
  opening ??= ask().finally(() => (opening = null));
  return opening;
}

async function ask() {
  const dialog = /** @type {HTMLDialogElement} */ (byId("key-dialog"));
  const form = /** @type {HTMLFormElement} */ (byId("key-form"));
  const input = /** @type {HTMLInputElement} */ (byId("key"));
  const error = byId("key-error");
  error.textContent = "";
  dialog.addEventListener("cancel", prevent); // nothing works without the key: Escape would leave an empty page
  dialog.showModal();
  for (;;) {
    await new Promise((resolve) => {
      form.addEventListener("submit", (event) => resolve(event.preventDefault()), { once: true });
    });
    const problem = await offer(input.value);
    if (problem === "") break;
    say(error, problem);
    input.select();
  }
  input.value = "";
  dialog.removeEventListener("cancel", prevent);
  dialog.close();
}

/** @param {Event} event */
function prevent(event) {
  event.preventDefault();
}

/**
 * @param {string} key
 * @returns {Promise<string>} the words of the problem; "" when the session is open
 */
async function offer(key) {
  try {
    const response = await fetch(new URL("api/v1/session", document.baseURI), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ key }),
    });
    if (response.ok) return "";
    return response.status === 401 ? "key.wrong" : "key.trouble";
  } catch {
    return "key.offline";
  }
}
