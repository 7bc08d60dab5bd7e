// Files on their way: a few at a time, each with its row, which gives way to the task's row when it has arrived.

import { Problem } from "../api/calls.js";
import { openSession } from "../api/session.js";
import { UploadRow } from "./row.js";
import { newKey, sendSong } from "./send.js";

const AT_ONCE = 3;
/** A full queue and a server that starts are waited for. */
const PATIENT_CODES = new Set(["queue_full", "shutting_down"]);
const PATIENCE_MILLISECONDS = 5_000;

/** @typedef {import("../types.js").Choices} Choices */
/** @typedef {{file: File, folder: string, key: string, choices: Choices, row: UploadRow, ended: AbortController}} Upload */

export class Uploads {
  /** @type {Upload[]} */
  #waiting = [];
  #running = 0;

  /**
   * @param {HTMLElement} list
   * @param {(task: import("../types.js").Task) => void} arrived
   */
  constructor(list, arrived) {
    this.list = list;
    this.arrived = arrived;
    window.addEventListener("beforeunload", (event) => {
      if (this.#running > 0 || this.#waiting.length > 0) event.preventDefault();
    });
  }

  /**
   * @param {readonly import("./files.js").Found[]} found
   * @param {Choices} choices
   */
  add(found, choices) {
    for (const { file, folder } of found) {
      const row = new UploadRow(file, { again: () => this.#again(upload), drop: () => this.#drop(upload) });
      /** @type {Upload} */
      const upload = { file, folder, key: newKey(), choices, row, ended: new AbortController() };
      this.list.append(row.node);
      this.#waiting.push(upload);
    }
    this.#next();
  }

  #next() {
    while (this.#running < AT_ONCE) {
      const upload = this.#waiting.shift();
      if (!upload) return;
      this.#running += 1;
      void this.#send(upload).finally(() => {
        this.#running -= 1;
        this.#next();
      });
    }
  }

  /** @param {Upload} upload */
  async #send(upload) {
    const { row, ended } = upload;
    try {
      const task = await this.#sendPatiently(upload);
      this.arrived(task);
      row.node.remove();
    } catch (error) {
      if (ended.signal.aborted) row.node.remove();
      else row.refused(error instanceof Problem ? error : new Problem("internal", String(error), 0));
    }
  }

  /** @param {Upload} upload */
  async #sendPatiently(upload) {
    for (;;) {
      try {
        return await sendSong(upload, { signal: upload.ended.signal, progress: (part) => upload.row.sent(part) });
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (error.status === 401) await openSession();
        else if (PATIENT_CODES.has(error.code)) await later(upload.ended.signal);
        else throw error;
        upload.row.wait();
      }
    }
  }

  /** @param {Upload} upload */
  #again(upload) {
    upload.row.wait();
    this.#waiting.push(upload);
    this.#next();
  }

  /** @param {Upload} upload */
  #drop(upload) {
    upload.ended.abort();
    this.#waiting = this.#waiting.filter((each) => each !== upload);
    upload.row.node.remove();
  }
}

/** @param {AbortSignal} signal */
function later(signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, PATIENCE_MILLISECONDS);
    signal.addEventListener("abort", () => [clearTimeout(timer), resolve(null)], { once: true });
  });
}
