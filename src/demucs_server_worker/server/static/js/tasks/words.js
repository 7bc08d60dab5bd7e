// What is said about a task.

import { Problem } from "../api/calls.js";
import { ago, clock, joined, percent, remaining } from "../page/format.js";
import { hasWords, language, t } from "../page/language.js";

/** @typedef {import("../types.js").Task} Task */

/**
 * One line: where it is and how long it will take, or what came of it.
 * @param {Task} task
 */
export function lineOf(task) {
  switch (task.state) {
    case "queued":
      return joined(waiting(task), nameOfPriority(task));
    case "running":
      return joined(t(`stage.${task.stage}`), percent(task.progress), eta(task), attempt(task));
    case "completed":
      return joined(length(task), t("task.stems", { n: task.stems.length }), finished(task), cached(task));
    case "failed":
      return task.error ? reasonOf(task.error) : t("state.failed");
    case "cancelled":
      return joined(t("state.cancelled"), finished(task));
  }
}

/**
 * Why something did not work.
 * @param {Error} error
 */
export function troubleOf(error) {
  return error instanceof Problem ? reasonOf(error) : error.message;
}

/**
 * Why something failed. The server speaks English and exactly; other languages say the kind of problem.
 * @param {{code: string, message: string}} error
 */
export function reasonOf({ code, message }) {
  const key = `error.${code}`;
  return language() === "en" && message && code !== "offline" ? message : hasWords(key) ? t(key) : message;
}

/** @param {Task} task */
function waiting(task) {
  if (task.attempt > 1 && task.error) return t("task.attempt", { n: task.attempt, of: task.maxAttempts });
  return task.queuePosition ? t("task.place", { n: task.queuePosition }) : t("state.queued");
}

/** @param {Task} task */
function nameOfPriority(task) {
  return task.priority === "normal" ? "" : t(`priority.${task.priority}`);
}

/** @param {Task} task */
function eta(task) {
  return task.etaSeconds === null ? "" : remaining(task.etaSeconds);
}

/** @param {Task} task */
function attempt(task) {
  return task.attempt > 1 ? t("task.attempt", { n: task.attempt, of: task.maxAttempts }) : "";
}

/** @param {Task} task */
function length(task) {
  return task.durationSeconds ? clock(task.durationSeconds) : "";
}

/** @param {Task} task */
function finished(task) {
  return task.finishedAt ? ago(task.finishedAt) : "";
}

/** @param {Task} task */
function cached(task) {
  return task.cached ? t("task.cached") : "";
}
