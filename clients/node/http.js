/** Requests to one server: sent again when that does no harm, ended when the client is. */
import { once } from "node:events";
import http from "node:http";
import https from "node:https";
import { setTimeout as sleep } from "node:timers/promises";

import { closed, DemucsWorkerError, refusal, unreachable, Unanswered } from "./errors.js";

const TRIES = 4;
const BUSY_MS = 60_000;
const LONGEST_RETRY_AFTER_MS = 30_000;
const ANSWER_MS = 30_000;

const NEVER_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH", "ECONNABORTED"]);

export class Transport {
  #agent;
  #closing = new AbortController();
  #headers;
  #module;

  constructor(url, apiKey) {
    this.url = address(url);
    this.#module = this.url.startsWith("https:") ? https : http;
    this.#agent = new this.#module.Agent({ keepAlive: true });
    this.#headers = apiKey ? { authorization: `Bearer ${apiKey}` } : {};
  }

  get isClosed() {
    return this.#closing.signal.aborted;
  }

  /** End every request and wait that goes on; later ones are refused. */
  close() {
    this.#closing.abort(closed());
    this.#agent.destroy();
  }

  /** Wait; ended by `close`, or by the caller's signal. */
  async pause(ms, signal) {
    const link = joined([this.#closing.signal, signal]);
    try {
      await sleep(ms, undefined, { signal: link.signal });
    } catch {
      throw link.signal.reason;
    } finally {
      link.release();
    }
  }

  /**
   * Send a request; gives the head of the answer, whose body is read by iterating over it.
   * @throws {Unanswered} when none comes
   */
  async open({ method = "GET", path, headers = {}, body = null, silenceMs = ANSWER_MS, signal, onProgress }) {
    if (this.isClosed) throw closed();
    const link = joined([this.#closing.signal, signal]);
    link.signal.throwIfAborted();
    const length = body === null ? {} : body.length === null ? {} : { "content-length": body.length };
    const request = this.#module.request(this.url + path, {
      method,
      agent: this.#agent,
      headers: { ...this.#headers, ...headers, ...length },
      timeout: silenceMs,
    });
    const stop = () => request.destroy(link.signal.reason);
    link.signal.addEventListener("abort", stop, { once: true });
    request.once("close", () => link.release());
    let silent = false;
    request.on("timeout", () => {
      silent = true;
      request.destroy(new Error("it gives no answer"));
    });
    request.on("error", () => {}); // told by `answered`, or by the answer's body
    const answered = once(request, "response");
    answered.catch(() => {}); // told below, after the body's own failure
    try {
      if (body !== null) await write(request, body, answered, onProgress);
      else request.end();
      const [response] = await answered;
      return response;
    } catch (error) {
      request.destroy();
      if (link.signal.aborted) throw link.signal.reason;
      if (error instanceof DemucsWorkerError) throw error;
      throw new Unanswered(inWords(error), { sent: !NEVER_SENT.has(error.code), silent });
    }
  }

  /** The rest of an answer as chunks. Throws Unanswered when the connection breaks. */
  async *chunks(response, signal) {
    try {
      for await (const chunk of response) yield chunk;
    } catch (error) {
      if (this.isClosed) throw closed();
      signal?.throwIfAborted();
      throw new Unanswered(inWords(error), { sent: true });
    }
  }

  /**
   * Send a request and read the JSON of the answer. It is sent again when it cannot have got through, when the
   * connection broke and hearing it twice does no harm (`repeatable`), and when the server has no room and says when to
   * come back; never after another error.
   */
  async call({ repeatable = true, ...request }) {
    const began = Date.now();
    let lost = 0;
    for (;;) {
      let answer;
      try {
        const response = await this.open(request);
        answer = { status: response.statusCode, headers: response.headers, body: await this.text(response) };
      } catch (error) {
        if (!(error instanceof Unanswered)) throw error;
        lost += 1;
        if ((error.sent && !repeatable) || lost >= TRIES) throw unreachable(this.url, error);
        await this.pause(pauseBefore(lost), request.signal);
        continue;
      }
      const wait = answer.status === 503 ? retryAfterMs(answer.headers) : null;
      const left = BUSY_MS - (Date.now() - began);
      if (wait === null || left <= 0 || request.body?.repeatable === false) return this.#parsed(answer);
      await this.pause(Math.min(wait, left), request.signal);
    }
  }

  async text(response) {
    const parts = [];
    for await (const chunk of this.chunks(response)) parts.push(chunk);
    return Buffer.concat(parts).toString("utf8");
  }

  #parsed({ status, body }) {
    if (status < 200 || status >= 300) throw refusal(status, body, this.url);
    try {
      return body === "" ? null : JSON.parse(body);
    } catch {
      throw refusal(status, body, this.url);
    }
  }
}

/** Milliseconds before an attempt that follows `attempt` vain ones: doubling, and never all clients at once. */
export function pauseBefore(attempt) {
  const longest = Math.min(200 * 2 ** Math.min(attempt - 1, 10), 5_000);
  return longest / 2 + (Math.random() * longest) / 2;
}

/** Milliseconds that a busy server asks for, at most half a minute; null where it asks for none. */
export function retryAfterMs(headers) {
  const value = headers["retry-after"] ?? "";
  return /^\d+$/.test(value) ? Math.min(Number(value) * 1_000, LONGEST_RETRY_AFTER_MS) : null;
}

async function write(request, body, answered, onProgress) {
  let early = false;
  const over = answered.then(() => { early = true; }, () => { early = true; });
  let sent = 0;
  for await (const chunk of body.chunks()) {
    // A server that refuses does so before it has read everything.
    if (early) break;
    if (!request.write(chunk)) await Promise.race([once(request, "drain").catch(() => {}), over]);
    sent += chunk.length;
    onProgress?.(sent, body.length);
  }
  if (!early) request.end();
}

function joined(signals) {
  const controller = new AbortController();
  const undo = [];
  for (const signal of signals.filter(Boolean)) {
    const abort = () => controller.abort(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    undo.push(() => signal.removeEventListener("abort", abort));
  }
  return { signal: controller.signal, release: () => undo.forEach((each) => each()) };
}

function address(url) {
  const text = (url.includes("://") ? url : `http://${url}`).replace(/\/+$/, "");
  let parsed = null;
  try {
    parsed = new URL(text);
  } catch {
    // said below
  }
  if (!["http:", "https:"].includes(parsed?.protocol) || parsed.username || parsed.search || parsed.hash) {
    const allowed = "an address such as http://127.0.0.1:8000 is needed";
    throw new DemucsWorkerError(`The server's URL is not valid: ${allowed}.`, { code: "invalid_setting" });
  }
  return text;
}

function inWords(error) {
  if (error.code === "ECONNREFUSED") return "connection refused";
  return error.message || error.errors?.[0]?.message || error.code || "the connection broke off";
}
