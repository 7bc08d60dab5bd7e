/** What goes wrong, with the codes of docs/tasks.md. */
export class DemucsWorkerError extends Error {
  /**
   * @param {string} message what happened and what to do, for people
   * @param {{code?: string, retryable?: boolean, status?: number, taskId?: string, reason?: object, cause?: unknown}} [more]
   */
  constructor(message, { code = "internal", retryable = false, status, taskId, reason, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "DemucsWorkerError";
    /** One of the documented codes, for programs. */
    this.code = code;
    /** Whether the same call can succeed later. */
    this.retryable = retryable;
    /** The HTTP status, where a server answered. */
    this.status = status;
    /** The task it is about. */
    this.taskId = taskId;
    /** Of `task_failed`: why, as `{code, message, retryable}`. */
    this.reason = reason;
  }
}

/** The server did not answer, or the connection broke. `sent`: whether the request may have reached it. */
export class Unanswered extends Error {
  constructor(detail, { sent, silent = false }) {
    super(detail);
    this.sent = sent;
    this.silent = silent;
  }
}

export function unreachable(url, error) {
  return new DemucsWorkerError(
    `No server answers at ${url} (${error.message}). Start one with \`demucs-server-worker serve\`, or name another ` +
      "with url or DEMUCS_WORKER_URL.",
    { code: "server_unreachable", retryable: true, cause: error },
  );
}

/** The error that an answer tells: `application/problem+json`, or what some other server said. */
export function refusal(status, body, url) {
  let problem;
  try {
    problem = JSON.parse(body);
  } catch {
    problem = null;
  }
  if (typeof problem?.code !== "string" || typeof problem?.detail !== "string") {
    return new DemucsWorkerError(
      `What answers at ${url} is not demucs-server-worker: it answers with status ${status}. Check the URL, and what ` +
        "stands between.",
      { code: "not_our_server", status },
    );
  }
  const { code, detail, retryable = false, taskId } = problem;
  return new DemucsWorkerError(detail, { code, retryable, status, taskId });
}

export function closed() {
  return new DemucsWorkerError("This client has been shut down.", { code: "client_closed" });
}
