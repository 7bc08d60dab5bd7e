/**
 * Client of demucs-server-worker for Node.js 18 and newer. No dependencies.
 *
 *     import { createClient } from "demucs-server-worker-client";
 *
 *     const client = createClient({ url: "http://127.0.0.1:8000" });
 *     const task = await client.upload("song.mp3", { stems: ["vocals"], format: "flac" });
 *     const done = await client.wait(task.id);
 *     await client.download(done, "stems");
 *     await client.shutdown();
 *
 * @module
 */
import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rename, rm } from "node:fs/promises";
import path from "node:path";

import { DemucsWorkerError, refusal, unreachable, Unanswered } from "./errors.js";
import { form } from "./form.js";
import { pauseBefore, retryAfterMs, Transport } from "./http.js";
import { SseParser } from "./sse.js";

export { DemucsWorkerError };

const API = "/api/v1";
const FINAL = new Set(["completed", "failed", "cancelled"]);
const FORMATS = new Set(["wav", "flac", "mp3", "m4a", "ogg", "opus"]);
// What was uploaded is looked into before the answer.
const UPLOAD_ANSWER_MS = 180_000;
// Three of the server's heartbeats: past that, nobody is at the other end.
const SILENCE_MS = 45_000;
// A stem in another format is encoded before its first byte comes.
const DOWNLOAD_SILENCE_MS = 300_000;
const POLL_MS = 500;
const DAMAGED_TRIES = 2;

/**
 * A client of one server.
 * @param {{url?: string, apiKey?: string, awayMs?: number}} [options] `url`: by default DEMUCS_WORKER_URL, else
 *   http://127.0.0.1:8000; `apiKey`: by default DEMUCS_WORKER_API_KEY; `awayMs`: how long `wait`, `events` and
 *   `download` outlast a server that is gone, 5 minutes by default
 */
export function createClient(options = {}) {
  return new Client(options);
}

class Client {
  #http;
  #awayMs;

  constructor({ url, apiKey, awayMs = 300_000 } = {}) {
    const key = apiKey ?? process.env.DEMUCS_WORKER_API_KEY;
    this.#http = new Transport(url ?? (process.env.DEMUCS_WORKER_URL || "http://127.0.0.1:8000"), key);
    this.#awayMs = awayMs;
  }

  /** The server's address. */
  get url() {
    return this.#http.url;
  }

  // --- tasks ----------------------------------------------------------------------------------------------------

  /** Add a task over files that the server can reach; when this resolves, the server has it on disk. */
  async addTask({ signal, ...fields }) {
    const body = json(fields);
    const headers = { "content-type": "application/json", ...idempotent(fields) };
    return this.#http.call({ method: "POST", path: `${API}/tasks`, headers, body, signal });
  }

  /** Add a task over a file that goes along: a path, a Blob, a Buffer, or a stream of bytes. */
  async upload(source, { name, onProgress, signal, ...fields } = {}) {
    const body = await form(source, name, fields);
    const headers = { "content-type": body.type, ...idempotent(fields) };
    return this.#http.call({
      method: "POST", path: `${API}/tasks`, headers, body, signal, onProgress,
      repeatable: body.repeatable, silenceMs: UPLOAD_ANSWER_MS,
    });
  }

  /** The task as it is now. */
  async getTask(id, { signal } = {}) {
    return this.#http.call({ path: taskPath(id), signal });
  }

  /** Tasks, newest first, as an async iterator. */
  async *listTasks({ state, limit = Infinity, signal } = {}) {
    let left = limit;
    let cursor = null;
    while (left > 0) {
      const query = new URLSearchParams({ limit: String(Math.min(left, 100)) });
      if (state) query.set("state", state);
      if (cursor !== null) query.set("cursor", String(cursor));
      const page = await this.#http.call({ path: `${API}/tasks?${query}`, signal });
      yield* page.tasks.slice(0, left);
      left -= page.tasks.length;
      cursor = page.cursor;
      if (cursor === null || page.tasks.length === 0) return;
    }
  }

  /** Cancel a queued or running task. */
  async cancel(id, { signal } = {}) {
    return this.#http.call({ method: "POST", path: `${taskPath(id)}/cancel`, repeatable: false, signal });
  }

  /** Queue a failed or cancelled task again. */
  async retry(id, { signal } = {}) {
    return this.#http.call({ method: "POST", path: `${taskPath(id)}/retry`, repeatable: false, signal });
  }

  /** Remove a finished task and its files. */
  async remove(id, { signal } = {}) {
    await this.#http.call({ method: "DELETE", path: taskPath(id), repeatable: false, signal });
  }

  // --- the server -----------------------------------------------------------------------------------------------

  /** Queue, workers, machine and health. */
  async getStatus({ signal } = {}) {
    return this.#http.call({ path: `${API}/status`, signal });
  }

  /** The models that the server lets clients ask for. */
  async getModels({ signal } = {}) {
    return this.#http.call({ path: `${API}/models`, signal });
  }

  /**
   * Close this client: waits, event streams and transfers that go on end with `client_closed`, and so does every later
   * call. The server, and the tasks it has, go on.
   */
  async shutdown() {
    this.#http.close();
  }

  // --- what happens ---------------------------------------------------------------------------------------------

  /**
   * What happens from now on, as an async iterator: to one task, up to its last event, or to all. Connections that
   * break are made again, and miss nothing that the server still knows.
   */
  async *events(id, { signal } = {}) {
    const feed = { parser: new SseParser() };
    let vain = 0;
    for (;;) {
      const stream = await this.#openFeed(feed, id, signal, SILENCE_MS);
      if (stream === null) {
        throw unreachable(this.url, new Error("no events get through; a proxy may hold them back"));
      }
      try {
        for await (const event of this.#heard(feed, stream, signal)) {
          vain = 0;
          if (event === null) continue;
          yield event;
          if (id !== undefined && FINAL.has(event.event)) return;
        }
      } finally {
        stream.destroy();
      }
      if (id !== undefined) {
        // A stream may end because all has been said.
        const task = await this.#now(id, signal);
        if (FINAL.has(task.state)) {
          yield seen(task);
          return;
        }
      }
      vain += 1;
      await this.#http.pause(pauseBefore(vain), signal);
    }
  }

  /** Wait until a task is completed, through restarts of the server and broken connections. */
  async wait(id, { timeoutMs = Infinity, onEvent, signal } = {}) {
    if (timeoutMs === Infinity) return this.#wait(id, onEvent, signal);
    const deadline = new AbortController();
    const late = new DemucsWorkerError(`Task ${id} is not finished after ${timeoutMs} ms; it goes on.`, {
      code: "wait_timed_out", retryable: true, taskId: id,
    });
    const forward = () => deadline.abort(signal.reason);
    if (signal?.aborted) forward();
    signal?.addEventListener("abort", forward, { once: true });
    const timer = setTimeout(() => deadline.abort(late), timeoutMs);
    try {
      return await this.#wait(id, onEvent, deadline.signal);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", forward);
    }
  }

  async #wait(id, onEvent, signal) {
    const feed = { parser: new SseParser() };
    for (;;) {
      const stream = await this.#openFeed(feed, id, signal, SILENCE_MS);
      try {
        // What happened while nobody listened; and a task that is finished has no more events.
        const task = await this.#now(id, signal);
        if (FINAL.has(task.state)) {
          await onEvent?.(seen(task));
          return conclude(task);
        }
        if (stream === null) return await this.#poll(task, onEvent, signal);
        for await (const event of this.#heard(feed, stream, signal)) {
          if (event === null) continue;
          await onEvent?.(event);
          if (FINAL.has(event.event)) return conclude(event.task);
        }
      } finally {
        stream?.destroy();
      }
      await this.#http.pause(pauseBefore(1), signal);
    }
  }

  /** Where no stream gets through. */
  async #poll(task, onEvent, signal) {
    for (let last = task; ; ) {
      await this.#http.pause(POLL_MS, signal);
      const now = await this.#now(task.id, signal);
      const changed = ["state", "attempt", "stage", "progress"].some((each) => now[each] !== last[each]);
      if (changed) await onEvent?.(seen(now));
      if (FINAL.has(now.state)) return conclude(now);
      last = now;
    }
  }

  /** The task, from a server that may be away for a while. */
  async #now(id, signal) {
    return this.#outlast(signal, () => this.getTask(id, { signal }));
  }

  /** The stream of events after the last one heard; null where the server can be reached and gives none. */
  async #openFeed(feed, id, signal, silenceMs) {
    const { lastId } = feed.parser;
    // What was heard in part went down with the old connection.
    feed.parser = new SseParser(lastId);
    const headers = { accept: "text/event-stream", ...(lastId ? { "last-event-id": lastId } : {}) };
    const target = id === undefined ? `${API}/events` : `${taskPath(id)}/events`;
    return this.#outlast(signal, async () => {
      let response;
      try {
        response = await this.#http.open({ path: target, headers, signal, silenceMs });
      } catch (error) {
        if (error instanceof Unanswered) {
          if (error.silent) return null;
          throw unreachable(this.url, error);
        }
        throw error;
      }
      const { statusCode: status } = response;
      // 204: the task's last event is among those that were heard.
      if (status === 204) return response;
      if (status === 200 && /^text\/event-stream/.test(response.headers["content-type"] ?? "")) return response;
      if (status === 200) {
        response.destroy();
        return null;
      }
      const error = refusal(status, await this.#http.text(response), this.url);
      if ([502, 503, 504].includes(status)) error.retryable = true;
      throw error;
    });
  }

  /** Events of a stream; null for a sign of life. Ends when the connection does. */
  async *#heard(feed, stream, signal) {
    const decoder = new TextDecoder();
    try {
      for await (const chunk of this.#http.chunks(stream, signal)) {
        yield null;
        for (const message of feed.parser.feed(decoder.decode(chunk, { stream: true }))) {
          const event = parsed(message.data);
          if (event !== null) yield event;
        }
      }
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
    }
  }

  /** Do it again while the server is away, as when it is restarted. */
  async #outlast(signal, work) {
    const began = Date.now();
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work();
      } catch (error) {
        const passes = error instanceof DemucsWorkerError && error.retryable && !signal?.aborted;
        if (!passes || Date.now() - began > this.#awayMs) throw error;
      }
      await this.#http.pause(pauseBefore(attempt), signal);
    }
  }

  // --- stems ----------------------------------------------------------------------------------------------------

  /**
   * Fetch the stems of a completed task into a folder, as `vocals.flac` and so on. What breaks off is taken up where it
   * broke off; what has come is checked against the task's hash, and only then gets its name.
   */
  async download(task, directory, { stems, format, signal } = {}) {
    const body = typeof task === "string" ? await this.getTask(task, { signal }) : task;
    if (body.state !== "completed") {
      const detail = `Task ${body.id} is ${body.state}: it cannot be downloaded.`;
      throw new DemucsWorkerError(detail, { code: "task_conflict", taskId: body.id });
    }
    await mkdir(directory, { recursive: true });
    const files = [];
    for (const stem of chosen(body, stems)) {
      const wanted = format ?? stem.format;
      if (!/^[\w-]{1,32}$/.test(stem.name) || !FORMATS.has(wanted)) {
        const detail = `${stem.name}.${wanted} is no name of a stem.`;
        throw new DemucsWorkerError(detail, { code: "invalid_option" });
      }
      const target = path.join(directory, `${stem.name}.${wanted}`);
      const query = wanted === stem.format ? "" : `?format=${wanted}`;
      const sha256 = wanted === stem.format ? stem.sha256 : null;
      if (sha256 === null || (await hashOf(target)) !== sha256) {
        await this.#fetch(`${taskPath(body.id)}/stems/${stem.name}${query}`, target, sha256, signal);
      }
      files.push(target);
    }
    return files;
  }

  async #fetch(source, target, sha256, signal) {
    // The hash in its name: what an earlier run left is taken up, and never mixed with another file's bytes.
    const mark = sha256 === null ? randomUUID() : String(sha256).replace(/\W/g, "");
    const part = path.join(path.dirname(target), `.${path.basename(target)}.${mark.slice(0, 16)}.part`);
    const file = await open(part, "a+");
    let keep = sha256 !== null;
    try {
      for (let attempt = 0; attempt < DAMAGED_TRIES; attempt += 1) {
        await this.#fill(file, source, signal);
        if (sha256 === null || (await hashOf(part)) === sha256) {
          await file.sync();
          await rename(part, target);
          keep = true;
          return;
        }
        await file.truncate(0);
      }
      keep = false;
    } finally {
      await file.close();
      if (!keep) await rm(part, { force: true });
    }
    const detail = `${path.basename(target)} arrived ${DAMAGED_TRIES} times with other bytes than the server says it has.`;
    throw new DemucsWorkerError(detail, { code: "download_damaged", retryable: true });
  }

  /** Let all bytes come, over as many connections as that takes. */
  async #fill(file, source, signal) {
    let began = Date.now();
    let etag = "";
    for (let vain = 1; ; vain += 1) {
      const { size } = await file.stat();
      const range = size === 0 ? {} : { range: `bytes=${size}-`, ...(etag.startsWith('"') ? { "if-range": etag } : {}) };
      let pause = pauseBefore(vain);
      let trouble;
      try {
        const headers = { "accept-encoding": "identity", ...range };
        const response = await this.#http.open({ path: source, headers, signal, silenceMs: DOWNLOAD_SILENCE_MS });
        const { statusCode: status } = response;
        const start = Number(/^bytes (\d+)-/.exec(response.headers["content-range"] ?? "")?.[1] ?? -1);
        if (status === 200 || (status === 206 && start === size)) {
          if (status === 200) await file.truncate(0);
          etag = response.headers.etag ?? "";
          for await (const chunk of this.#http.chunks(response, signal)) {
            await file.appendFile(chunk);
            [began, vain] = [Date.now(), 0];
          }
          return;
        }
        if (status === 206 || status === 416) {
          // What is here is not the beginning of what is there.
          response.destroy();
          await file.truncate(0);
        } else {
          const wait = status === 503 ? retryAfterMs(response.headers) : null;
          trouble = refusal(status, await this.#http.text(response), this.url);
          if (wait === null) throw trouble;
          pause = wait;
        }
      } catch (error) {
        if (!(error instanceof Unanswered)) throw error;
        trouble = unreachable(this.url, error);
      }
      if (trouble && Date.now() - began > this.#awayMs) throw trouble;
      await this.#http.pause(pause, signal);
    }
  }
}

// --- one client for everybody ---------------------------------------------------------------------------------------

let shared = null;

function defaultClient() {
  shared ??= createClient();
  return shared;
}

/** As `client.addTask`, on a client that DEMUCS_WORKER_URL and DEMUCS_WORKER_API_KEY describe. */
export async function addTask(fields) {
  return defaultClient().addTask(fields);
}

/** As `client.getStatus`, on that client. */
export async function getStatus(options) {
  return defaultClient().getStatus(options);
}

/** As `client.shutdown`, on that client; the next call makes a new one. */
export async function shutdown() {
  const client = shared;
  shared = null;
  await client?.shutdown();
}

// --- small pure parts -----------------------------------------------------------------------------------------------

function taskPath(id) {
  return `${API}/tasks/${encodeURIComponent(id)}`;
}

// Without an id of the caller's, one of our own: a request that is repeated after a broken connection finds the task
// that the first one made.
function idempotent({ fileId }) {
  return fileId === undefined || fileId === null ? { "idempotency-key": randomUUID() } : {};
}

function json(fields) {
  const bytes = Buffer.from(JSON.stringify(fields));
  return { length: bytes.length, repeatable: true, chunks: async function* () { yield bytes; } };
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

/** An event that says how a task was found, where no stream told how it got there. */
function seen(task) {
  const kind = { queued: "queued", running: "progress" }[task.state] ?? task.state;
  const at = task.finishedAt ?? task.startedAt ?? task.createdAt;
  return { event: kind, at, taskId: task.id, task, workerId: null, error: task.error, detail: null };
}

function conclude(task) {
  if (task.state === "failed") {
    const detail = `Task ${task.id} failed: ${task.error?.message ?? "the server does not say why"}`;
    const retryable = task.error?.retryable ?? false;
    throw new DemucsWorkerError(detail, { code: "task_failed", retryable, taskId: task.id, reason: task.error });
  }
  if (task.state === "cancelled") {
    throw new DemucsWorkerError(`Task ${task.id} was cancelled.`, { code: "task_cancelled", taskId: task.id });
  }
  return task;
}

function chosen(task, names) {
  if (names === undefined) return task.stems;
  return names.map((name) => {
    const stem = task.stems.find((each) => each.name === name);
    if (stem !== undefined) return stem;
    const allowed = `this task has ${task.stems.map((each) => each.name).join(", ")}`;
    throw new DemucsWorkerError(`stems=${name} is not valid: ${allowed}.`, { code: "invalid_option" });
  });
}

/** The SHA-256 of a file; null where there is none. */
async function hashOf(file) {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(file)) hash.update(chunk);
  } catch (error) {
    if (error.code === "ENOENT") return null;
    throw error;
  }
  return hash.digest("hex");
}
