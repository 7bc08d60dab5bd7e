// One upload: the file and the choices for it as a form, with progress. XMLHttpRequest, since fetch tells no progress.

import { Problem, apiUrl, problemFrom } from "../api/calls.js";

/** @typedef {import("../types.js").Task} Task */

/**
 * @param {{file: File, folder: string, key: string, choices: import("../types.js").Choices}} upload `key` makes a second
 *   try of the same upload the same task
 * @param {{signal: AbortSignal, progress: (part: number) => void}} about
 * @returns {Promise<Task>}
 */
export function sendSong(upload, { signal, progress }) {
  const request = new XMLHttpRequest();
  return new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => progress(event.total ? event.loaded / event.total : 0);
    request.onload = () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(problemFrom(request.status, request.responseText));
    };
    request.onerror = () => reject(new Problem("offline", "", 0));
    request.onabort = () => reject(new DOMException("aborted", "AbortError"));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.open("POST", apiUrl("tasks"));
    request.setRequestHeader("Idempotency-Key", upload.key);
    request.send(formOf(upload));
  });
}

/** @param {{file: File, folder: string, choices: import("../types.js").Choices}} upload */
function formOf({ file, folder, choices }) {
  const form = new FormData();
  // Fields first: the server knows what is wanted before the song arrives.
  form.set("model", choices.model);
  form.set("format", choices.format);
  form.set("priority", choices.priority);
  if (choices.stems === "karaoke") form.set("twoStems", "vocals");
  else if (choices.stems !== "all") form.set("stems", choices.stems);
  if (folder) form.set("projectName", folder);
  form.set("file", file, file.name);
  return form;
}

/** A key that nobody else has. Not crypto.randomUUID, which pages over plain HTTP do not get. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
