// Puts the page together: what is told by the server goes into the store, and the views show the store.

import { Problem } from "./api/calls.js";
import { EventStream } from "./api/events.js";
import { Staleness } from "./api/staleness.js";
import { deleteTask, listModels, tellTask } from "./api/tasks.js";
import { HealthView } from "./health/view.js";
import { pollStatus } from "./health/poll.js";
import { Stage } from "./mixer/stage.js";
import { Connection } from "./page/connection.js";
import { byId, setText } from "./page/dom.js";
import { changeLanguage, language, onLanguage, startLanguage, t } from "./page/language.js";
import { notice } from "./page/notice.js";
import { openShortcuts } from "./page/shortcuts.js";
import { openTheme } from "./page/theme.js";
import { openViews } from "./page/views.js";
import { Filters } from "./tasks/filters.js";
import { TaskList } from "./tasks/list.js";
import { TaskPages } from "./tasks/pages.js";
import { Places } from "./tasks/places.js";
import { TaskRow } from "./tasks/row.js";
import { TaskStore } from "./tasks/store.js";
import { ChoiceForm } from "./uploads/choices.js";
import { openIntake } from "./uploads/intake.js";
import { Uploads } from "./uploads/uploads.js";
import { troubleOf } from "./tasks/words.js";

/** @typedef {import("./tasks/row.js").Verb} Verb */

await startLanguage();

const store = new TaskStore();
const filters = new Filters(byId("filters"));
const list = new TaskList({ list: byId("tasks"), empty: byId("empty") }, store, filters, (verb, id) => void act(verb, id));
const pages = new TaskPages(byId("more"), store, filters);
const places = new Places(store);
const health = new HealthView((id) => store.get(id)?.inputName ?? "");
const connection = new Connection(byId("connection"));
const choices = new ChoiceForm();
const uploads = new Uploads(byId("uploads"), (task) => store.put(task));
/** What plays: reachable by importing this module. */
export const stage = new Stage(byId("stage"), store);

openTheme(byId("theme"));
openLanguages(/** @type {HTMLSelectElement} */ (byId("language")));
openIntake((found) => uploads.add(found, choices.choices));
openShortcuts(() => stage.mixer?.deck ?? null);
openViews((id) => {
  list.choose(id);
  void stage.choose(id);
});
byId("more-button").addEventListener("click", () => void pages.next());
document.body.classList.remove("starting");

const staleness = new Staleness();
const stream = new EventStream({ told: hear, opened: () => void meet(), lost: part });
stream.open();
const askStatus = pollStatus(
  (status) => {
    filters.count(status);
    health.show(status);
    connection.status(true);
    if (staleness.judge(status)) stream.open();
    if (connection.hears) return;
    // It answers: the stream need not wait any longer. Where something in between lets no stream through, asking does.
    stream.hurry();
    void renew();
  },
  () => connection.status(false),
);

/** The stream is open: from here on nothing is missed. */
async function meet() {
  if (await renew()) connection.stream(true);
  void askStatus();
}

/** The stream broke: whether the server still answers is seen at once. */
function part() {
  connection.stream(false);
  void askStatus();
}

/** Reads all that may have been missed, and says whether that worked. */
async function renew() {
  try {
    choices.offer(await listModels());
    await pages.renew();
    await stage.choose(currentTask());
    return true;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    return false;
  }
}

/** @param {import("./api/events.js").Told} event */
function hear({ kind, taskId, task }) {
  staleness.heard();
  if (kind === "deleted" && taskId) store.remove(taskId);
  else if (task) store.put(task);
  if (task && (kind === "completed" || kind === "failed")) setText(byId("announcer"), TaskRow.announcement(task));
  places.told(kind);
}

/**
 * @param {Verb} verb
 * @param {string} id
 */
async function act(verb, id) {
  list.setBusy(id, true);
  try {
    if (verb === "delete") {
      await deleteTask(id);
      store.remove(id);
    } else {
      store.put(await tellTask(id, verb));
    }
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 404) store.remove(id);
    else notice(t("task.trouble", { why: troubleOf(error) }));
  } finally {
    list.setBusy(id, false);
    void askStatus();
  }
}

function currentTask() {
  const [name, id] = location.hash.slice(1).split("/");
  return name === "task" && id ? decodeURIComponent(id) : null;
}

/** @param {HTMLSelectElement} select */
function openLanguages(select) {
  select.value = language();
  select.addEventListener("change", () => void changeLanguage(select.value));
  onLanguage(() => (select.value = language()));
}
