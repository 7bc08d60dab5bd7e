// Which view is shown, from the address: #songs, #mixer, #health, or #task/ID. On wide screens all are.

import { byId, setAttribute } from "./dom.js";

const VIEWS = ["songs", "mixer", "health"];

/** @param {(id: string | null) => void} choose called with the task that the address names */
export function openViews(choose) {
  /** @type {string | null} */
  let task = null;
  const show = () => {
    const [name, id] = location.hash.slice(1).split("/");
    if (name === "task" && id) task = decodeURIComponent(id);
    const view = name === "task" ? "mixer" : VIEWS.includes(name) ? name : "songs";
    setAttribute(byId("views"), "data-view", view);
    for (const link of document.querySelectorAll(".tabs a")) {
      const here = link.getAttribute("data-view") === view;
      setAttribute(link, "aria-current", here ? "page" : null);
      // Going to the mixer goes back to the task that it has.
      if (link.getAttribute("data-view") === "mixer") setAttribute(link, "href", task ? `#task/${task}` : "#mixer");
    }
    choose(task);
  };
  window.addEventListener("hashchange", show);
  show();
}
