// What the page knows of tasks: by id, the newest word about each, told to watchers in batches.

/** @typedef {import("../types.js").Task} Task */

/** Told at most this often while the tab is hidden, where no frames are drawn; milliseconds. */
const HIDDEN_MILLISECONDS = 500;

export class TaskStore {
  /** @type {Map<string, Task>} */
  #tasks = new Map();
  /** @type {Set<string>} */
  #changed = new Set();
  /** @type {Set<(changed: ReadonlySet<string>) => void>} */
  #watchers = new Set();
  #planned = false;
  #words = 0;
  /** @type {Map<string, number>} when each task was last told of, counted in words */
  #told = new Map();

  /** How many words there were so far. Whoever asks for many tasks notes it: what is told meanwhile is newer. */
  get words() {
    return this.#words;
  }

  /** @param {string} id */
  get(id) {
    return this.#tasks.get(id);
  }

  /** All of them, in no order. */
  all() {
    return this.#tasks.values();
  }

  get size() {
    return this.#tasks.size;
  }

  /**
   * @param {Task} task
   * @param {number} [asked] `words` when it was asked for; a word about it that came since stays
   */
  put(task, asked = this.#words) {
    if (!this.#isNews(task.id, asked)) return;
    this.#tasks.set(task.id, task);
    this.#note(task.id);
  }

  /**
   * What a task waits for, known for many at once: without a new word about the rest of it.
   * @param {Task} told
   */
  place(told) {
    const known = this.#tasks.get(told.id);
    if (known?.state === "queued" && told.state === "queued") this.put({ ...known, queuePosition: told.queuePosition });
  }

  /**
   * @param {string} id
   * @param {number} [asked] as for `put`
   */
  remove(id, asked = this.#words) {
    if (this.#isNews(id, asked) && this.#tasks.delete(id)) this.#note(id);
  }

  /**
   * @param {string} id
   * @param {number} asked
   */
  #isNews(id, asked) {
    if ((this.#told.get(id) ?? 0) > asked) return false;
    this.#told.set(id, ++this.#words);
    return true;
  }

  /**
   * @param {(changed: ReadonlySet<string>) => void} watcher gets the ids of tasks that came, changed or went
   */
  watch(watcher) {
    this.#watchers.add(watcher);
  }

  /** @param {string} id */
  #note(id) {
    this.#changed.add(id);
    if (this.#planned) return;
    this.#planned = true;
    if (document.hidden) setTimeout(() => this.#tell(), HIDDEN_MILLISECONDS);
    else requestAnimationFrame(() => this.#tell());
  }

  #tell() {
    this.#planned = false;
    const changed = this.#changed;
    this.#changed = new Set();
    for (const watcher of this.#watchers) watcher(changed);
  }
}
