// Workers, queue, machine, and what is wrong.

import { bdi, byId, make, setAttribute, setText } from "../page/dom.js";
import { label, onLanguage, say, t } from "../page/language.js";
import { joined, percent, size } from "../page/format.js";
import { LoadPlot } from "./plot.js";

/** @typedef {import("../types.js").Status} Status */
/** @typedef {import("../types.js").WorkerStatus} WorkerStatus */

export class HealthView {
  /** @type {Status | null} */
  #last = null;
  /** @type {Map<string, WorkerCard>} */
  #cards = new Map();
  #problems = byId("problems");
  #workers = byId("workers");
  #depth = byId("depth");
  #plot = new LoadPlot(byId("load"));

  /** @param {(id: string) => string} nameOf the name of a task, by its id */
  constructor(nameOf) {
    this.nameOf = nameOf;
    onLanguage(() => this.#last && this.#write(this.#last));
  }

  /** @param {Status} status */
  show(status) {
    this.#last = status;
    this.#plot.add(status.machine);
    this.#write(status);
  }

  /** @param {Status} status */
  #write(status) {
    this.#showProblems(status);
    this.#showWorkers(status.workers);
    const { running, queued, byPriority } = status.queue;
    const urgent = byPriority.high ? t("health.high", { n: byPriority.high }) : "";
    setText(this.#depth, joined(t("health.running", { n: running }), t("health.waiting", { n: queued }), urgent));
  }

  /** @param {Status} status */
  #showProblems({ accepting, health }) {
    const problems = [...(accepting ? [] : [t("health.closing")]), ...health.problems];
    const shown = [...this.#problems.children].map((node) => node.textContent).join("\n");
    if (problems.length && shown === problems.join("\n")) return; // untouched, a screen reader does not repeat it
    const items = problems.map((problem) => make("li", { class: "problem" }, bdi(problem, "sentence")));
    const fine = make("li", { class: "fine" });
    say(fine, "health.fine");
    if (problems.length || !this.#problems.querySelector(".fine")) {
      this.#problems.replaceChildren(...(problems.length ? items : [fine]));
    }
  }

  /** @param {readonly WorkerStatus[]} workers */
  #showWorkers(workers) {
    for (const worker of workers) {
      let card = this.#cards.get(worker.id);
      if (!card) {
        card = new WorkerCard(worker.id);
        this.#cards.set(worker.id, card);
        this.#workers.append(card.node);
      }
      card.update(worker, worker.taskId ? this.nameOf(worker.taskId) : "");
    }
    const told = new Set(workers.map(({ id }) => id));
    for (const [id, card] of this.#cards) {
      if (told.has(id)) continue;
      card.node.remove();
      this.#cards.delete(id);
    }
  }
}

class WorkerCard {
  #state = make("span", { class: "worker-state" });
  #task = bdi("", "worker-task");
  #facts = make("span", { class: "worker-facts" });
  #fill = make("span", { class: "bar-fill" });
  #bar = make("span", { class: "bar", attributes: { role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" } }, this.#fill); // prettier-ignore

  /** @param {string} id */
  constructor(id) {
    const head = make("span", { class: "worker-head" }, bdi(id, "worker-name"), this.#state);
    this.node = make("li", { class: "worker" }, head, this.#task, this.#facts, this.#bar);
    label(this.#bar, "health.workerProgress", { name: id });
  }

  /**
   * @param {WorkerStatus} worker
   * @param {string} taskName "" when it has none
   */
  update(worker, taskName) {
    setAttribute(this.node, "data-state", worker.state);
    say(this.#state, `worker.${worker.state}`);
    setText(this.#task, taskName || t("worker.nothing"));
    setAttribute(this.#task, "title", taskName || null);
    const facts = [
      worker.device ?? "",
      worker.cpuPercent === null ? "" : t("worker.cpu", { part: percent(worker.cpuPercent / 100) }),
      worker.rssBytes === null ? "" : size(worker.rssBytes),
      worker.restarts ? t("worker.restarts", { n: worker.restarts }) : "",
    ];
    setText(this.#facts, joined(...facts));
    setAttribute(this.#bar, "aria-valuenow", String(Math.round(worker.progress * 100)));
    this.#fill.style.transform = `scaleX(${worker.state === "busy" ? worker.progress : 0})`;
  }
}
