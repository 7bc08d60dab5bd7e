// The routes of tasks, workers and models.

import { apiUrl, call } from "./calls.js";

/** @typedef {import("../types.js").Task} Task */
/** @typedef {import("../types.js").TaskState} TaskState */

/**
 * A page of tasks, newest first.
 * @param {{state?: TaskState | null, cursor?: number | null, limit: number}} about
 * @returns {Promise<{tasks: Task[], cursor: number | null}>}
 */
export function listTasks({ state, cursor, limit }) {
  const query = new URLSearchParams({ limit: String(limit) });
  if (state) query.set("state", state);
  if (cursor !== null && cursor !== undefined) query.set("cursor", String(cursor));
  return call(`tasks?${query}`);
}

/**
 * @param {string} id
 * @returns {Promise<Task>}
 */
export function getTask(id) {
  return call(`tasks/${encodeURIComponent(id)}`);
}

/**
 * @param {string} id
 * @param {"cancel" | "retry"} verb
 * @returns {Promise<Task>}
 */
export function tellTask(id, verb) {
  return call(`tasks/${encodeURIComponent(id)}/${verb}`, { method: "POST" });
}

/**
 * @param {string} id
 * @returns {Promise<void>}
 */
export function deleteTask(id) {
  return call(`tasks/${encodeURIComponent(id)}`, { method: "DELETE" });
}

/** @returns {Promise<import("../types.js").Status>} */
export function getStatus() {
  return call("status");
}

/** @returns {Promise<{models: import("../types.js").Model[], default: string}>} */
export function listModels() {
  return call("models");
}

/** @param {string} id */
export function zipUrl(id) {
  return apiUrl(`tasks/${encodeURIComponent(id)}/stems.zip`);
}
