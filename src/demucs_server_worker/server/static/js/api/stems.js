// The routes of a task's stems: audio by ranges, peaks for drawing.

import { Problem, answered, apiUrl, call } from "./calls.js";

/**
 * Where a stem's audio is.
 * @param {string} id of the task
 * @param {string} stem
 * @param {string | null} format another one than the task's own; null means as it is
 */
export function stemUrl(id, stem, format = null) {
  const url = apiUrl(`tasks/${encodeURIComponent(id)}/stems/${encodeURIComponent(stem)}`);
  if (format) url.searchParams.set("format", format);
  return url;
}

/** While the server has its hands full making stems into another format; milliseconds, and how often. */
const PATIENCE_MILLISECONDS = 2_000;
const PATIENCE_TIMES = 60;

/**
 * The bytes of a range, and the size of the whole.
 * @param {URL} url
 * @param {number} start
 * @param {number} end the first byte that is not wanted; past the file's end the range is shorter
 * @param {AbortSignal} signal
 */
export async function fetchRange(url, start, end, signal) {
  const response = await patiently(url, { signal, headers: { Range: `bytes=${start}-${end - 1}` } });
  const bytes = await response.arrayBuffer();
  const total = Number(response.headers.get("Content-Range")?.split("/")[1] ?? bytes.byteLength);
  // Who stands in between may take ranges away; the whole then came, of which the part is what was asked for.
  if (response.status === 200) return { bytes: bytes.slice(start, end), total };
  if (response.status !== 206) throw new Problem("internal", `HTTP ${response.status}`, response.status);
  return { bytes, total };
}

/**
 * @param {URL} url
 * @param {RequestInit} about
 */
async function patiently(url, about) {
  for (let tries = 1; ; tries++) {
    try {
      return await answered(url, about);
    } catch (error) {
      const busy = error instanceof Problem && error.code === "not_ready" && tries < PATIENCE_TIMES;
      if (!busy) throw error;
      await new Promise((resolve) => setTimeout(resolve, PATIENCE_MILLISECONDS));
    }
  }
}

/**
 * The lowest and highest sample of each of many equal parts of a stem.
 * @param {string} id
 * @param {string} stem
 * @param {AbortSignal} signal
 * @returns {Promise<{min: number[], max: number[]}>}
 */
export function getPeaks(id, stem, signal) {
  return call(`tasks/${encodeURIComponent(id)}/peaks/${encodeURIComponent(stem)}`, { signal });
}
