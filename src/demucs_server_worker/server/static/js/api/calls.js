// One call to the HTTP API: JSON in, JSON out, problems as errors, and the key asked for where one is needed.

import { openSession } from "./session.js";

/** A problem as the server tells it (application/problem+json), or a network that does not answer. */
export class Problem extends Error {
  /**
   * @param {string} code one of the contract's, or "offline"
   * @param {string} detail
   * @param {number} status 0 where there was no answer
   */
  constructor(code, detail, status) {
    super(detail);
    this.code = code;
    this.status = status;
  }

  get offline() {
    return this.code === "offline";
  }
}

/** @param {string} path below /api/v1/ */
export function apiUrl(path) {
  return new URL(`api/v1/${path}`, document.baseURI);
}

/**
 * @template T
 * @param {string} path below /api/v1/
 * @param {{method?: string, signal?: AbortSignal, headers?: Record<string, string>}} [about]
 * @returns {Promise<T>}
 */
export async function call(path, about = {}) {
  const response = await answered(apiUrl(path), about);
  return response.status === 204 ? /** @type {T} */ (undefined) : response.json();
}

/**
 * A response that is not an error. Where the server wants a key, the user is asked for it and the call is made again.
 * @param {URL} url
 * @param {RequestInit} about
 */
export async function answered(url, about) {
  for (;;) {
    const response = await send(url, about);
    if (response.ok) return response;
    const problem = problemFrom(response.status, await response.text());
    if (problem.status !== 401) throw problem;
    await openSession();
  }
}

/**
 * @param {number} status
 * @param {string} body
 */
export function problemFrom(status, body) {
  try {
    const { code, detail } = JSON.parse(body);
    return new Problem(String(code), String(detail), status);
  } catch {
    return new Problem("internal", `HTTP ${status}`, status); // what stands in between answered, not the server
  }
}

/**
 * @param {URL} url
 * @param {RequestInit} about
 */
async function send(url, about) {
  try {
    return await fetch(url, about);
  } catch (error) {
    if (about.signal?.aborted) throw error;
    throw new Problem("offline", String(error), 0);
  }
}
