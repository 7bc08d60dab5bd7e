// Colours: as the system has them, light, or dark.

import { icon, setIcon } from "./dom.js";
import { label } from "./language.js";
import { recall, remember } from "./memory.js";

/** @type {readonly string[]} */
const THEMES = ["auto", "light", "dark"];

/** @param {HTMLElement} button goes through the three */
export function openTheme(button) {
  /** @type {string} */
  let theme = THEMES.find((each) => each === recall("theme", null)) ?? "auto";
  button.append(icon(theme));
  const show = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    setIcon(button, theme);
    label(button, `theme.${theme}`);
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    remember("theme", theme);
    show();
  });
  show();
}
