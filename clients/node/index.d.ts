/** Client of demucs-server-worker for Node.js 18 and newer. Shapes are those of docs/http-api.md. */

export type TaskState = "queued" | "running" | "completed" | "failed" | "cancelled";
export type Stage = "queued" | "decoding" | "separating" | "encoding" | "done";
export type Priority = "high" | "normal" | "low";
export type AudioFormat = "wav" | "flac" | "mp3" | "m4a" | "ogg" | "opus";

/** How a song is separated and written; what is left out takes its default. */
export interface SeparationOptions {
  model?: string;
  stems?: string[];
  twoStems?: string;
  otherMethod?: "add" | "minus";
  format?: AudioFormat;
  bitDepth?: "16" | "24" | "float32";
  bitrate?: number;
  mp3Preset?: number;
  shifts?: number;
  overlap?: number;
  segment?: number;
  split?: boolean;
  clipMode?: "rescale" | "clamp" | "none";
  residual?: "none" | "other";
  sampleRate?: "source" | "model" | number;
  filename?: string;
  device?: string;
  precision?: "auto" | "fp32" | "bf16" | "fp16";
}

export interface TaskFields extends SeparationOptions {
  /** Your own id: the same id with the same request is the same task. */
  fileId?: string;
  projectName?: string;
  inputName?: string;
  priority?: Priority;
  webhook?: { url: string; events?: string[] };
}

export interface Ending {
  /** Ends the call with the signal's reason; what the server has taken goes on. */
  signal?: AbortSignal;
}

/** A song that lies on the server, below a folder that it allows. */
export interface TaskRequest extends TaskFields, Ending {
  inputPath: string;
  outputDir: string;
}

export interface UploadOptions extends TaskFields, Ending {
  /** The file's name, as the server is to know it. */
  name?: string;
  /** Bytes sent, and bytes to send where known, again and again. */
  onProgress?: (sent: number, total: number | null) => void;
}

export interface TaskError {
  code: string;
  message: string;
  retryable: boolean;
}

export interface Stem {
  name: string;
  path: string | null;
  url: string | null;
  format: AudioFormat;
  sampleRate: number;
  channels: number;
  durationSeconds: number;
  bytes: number;
  sha256: string;
  peak: number;
}

export interface Task {
  id: string;
  fileId: string | null;
  projectName: string | null;
  priority: Priority;
  state: TaskState;
  attempt: number;
  maxAttempts: number;
  /** 0 to 1 within the attempt; never falls. */
  progress: number;
  stage: Stage;
  queuePosition: number | null;
  etaSeconds: number | null;
  createdAt: string | null;
  startedAt: string | null;
  finishedAt: string | null;
  inputName: string;
  durationSeconds: number | null;
  options: Record<string, unknown>;
  stems: Stem[];
  error: TaskError | null;
  cached: boolean;
  webhook: { url: string; events: string[] } | null;
}

export interface WorkerEvent {
  event:
    | "queued"
    | "started"
    | "progress"
    | "retrying"
    | "completed"
    | "failed"
    | "cancelled"
    | "worker_started"
    | "worker_died"
    | "health_changed";
  at: string;
  taskId: string | null;
  task: Task | null;
  workerId: string | null;
  error: TaskError | null;
  detail: string | null;
}

export interface Status {
  version: string;
  uptimeSeconds: number;
  accepting: boolean;
  queue: { queued: number; running: number; byPriority: Record<Priority, number> };
  totals: { completed: number; failed: number; cancelled: number; retried: number };
  workers: {
    id: string;
    pid: number | null;
    state: "starting" | "idle" | "busy" | "stopping" | "dead";
    device: string | null;
    taskId: string | null;
    progress: number;
    tasksDone: number;
    restarts: number;
    rssBytes: number | null;
    cpuPercent: number | null;
    uptimeSeconds: number;
  }[];
  machine: {
    cpuPercent: number | null;
    memoryTotalBytes: number | null;
    memoryAvailableBytes: number | null;
    diskFreeBytes: number | null;
    gpus: {
      name: string;
      memoryTotalBytes: number | null;
      memoryUsedBytes: number | null;
      utilizationPercent: number | null;
    }[];
  };
  health: { ok: boolean; problems: string[] };
}

export interface Models {
  default: string;
  models: {
    name: string;
    source: "package" | "hub" | "repo";
    onDisk: boolean;
    members: number;
    stems: string[] | null;
    bytes: number | null;
    note: string;
  }[];
}

export interface ClientOptions {
  /** By default DEMUCS_WORKER_URL, else http://127.0.0.1:8000. */
  url?: string;
  /** By default DEMUCS_WORKER_API_KEY. */
  apiKey?: string;
  /** How long waits, events and downloads outlast a server that is gone, in milliseconds; 5 minutes by default. */
  awayMs?: number;
}

export interface Client {
  readonly url: string;
  addTask(request: TaskRequest): Promise<Task>;
  upload(
    source: string | URL | Blob | Uint8Array | AsyncIterable<Uint8Array>,
    options?: UploadOptions,
  ): Promise<Task>;
  getTask(id: string, options?: Ending): Promise<Task>;
  listTasks(options?: Ending & { state?: TaskState; limit?: number }): AsyncGenerator<Task, void, undefined>;
  cancel(id: string, options?: Ending): Promise<Task>;
  retry(id: string, options?: Ending): Promise<Task>;
  remove(id: string, options?: Ending): Promise<void>;
  getStatus(options?: Ending): Promise<Status>;
  getModels(options?: Ending): Promise<Models>;
  events(id?: string, options?: Ending): AsyncGenerator<WorkerEvent, void, undefined>;
  wait(
    id: string,
    options?: Ending & { timeoutMs?: number; onEvent?: (event: WorkerEvent) => unknown },
  ): Promise<Task>;
  download(
    task: string | Task,
    directory: string,
    options?: Ending & { stems?: string[]; format?: AudioFormat },
  ): Promise<string[]>;
  shutdown(): Promise<void>;
}

/** What goes wrong. */
export class DemucsWorkerError extends Error {
  /** One of the documented codes; from this client also `task_failed`, `task_cancelled`, `wait_timed_out`,
   * `client_closed`. */
  readonly code: string;
  /** Whether the same call can succeed later. */
  readonly retryable: boolean;
  /** The HTTP status, where a server answered. */
  readonly status?: number;
  readonly taskId?: string;
  /** Of `task_failed`: why. */
  readonly reason?: TaskError;
}

export function createClient(options?: ClientOptions): Client;

/** On one client that DEMUCS_WORKER_URL and DEMUCS_WORKER_API_KEY describe. */
export function addTask(request: TaskRequest): Promise<Task>;
export function getStatus(options?: Ending): Promise<Status>;
export function shutdown(): Promise<void>;
