// The keyboard: what each key does to the mixer, and the table that tells it. By place on the keyboard where it is a
// letter or digit, so that a Hebrew layout works alike.

import { byId, make } from "./dom.js";
import { say } from "./language.js";

/** @typedef {import("../mixer/deck.js").Deck} Deck */
/** @typedef {{shown: string, codes: string[], words: string, run: (deck: Deck, event: KeyboardEvent) => void}} Shortcut */

const STEP_SECONDS = 5;
const DIGITS = Array.from({ length: 9 }, (_, index) => `Digit${index + 1}`);

/** @type {readonly Shortcut[]} */
const SHORTCUTS = [
  { shown: "Space, K", codes: ["Space", "KeyK"], words: "keys.play", run: (deck) => void deck.toggle() },
  { shown: "←", codes: ["ArrowLeft"], words: "keys.back", run: (deck) => deck.seek(deck.position - STEP_SECONDS) },
  { shown: "→", codes: ["ArrowRight"], words: "keys.forth", run: (deck) => deck.seek(deck.position + STEP_SECONDS) },
  { shown: "Home", codes: ["Home"], words: "keys.start", run: (deck) => deck.seek(0) },
  { shown: "1–9", codes: DIGITS, words: "keys.mute", run: press },
  { shown: "Shift + 1–9", codes: DIGITS, words: "keys.solo", run: press },
  { shown: "[", codes: ["BracketLeft"], words: "keys.loopStart", run: (deck) => bound(deck, "start") },
  { shown: "]", codes: ["BracketRight"], words: "keys.loopEnd", run: (deck) => bound(deck, "end") },
  { shown: "L", codes: ["KeyL"], words: "keys.loop", run: (deck) => deck.toggleLoop() },
  { shown: "Esc", codes: ["Escape"], words: "keys.noLoop", run: (deck) => deck.loop(null) },
];

/** @param {() => Deck | null} deckNow what is mixed now */
export function openShortcuts(deckNow) {
  const help = /** @type {HTMLDialogElement} */ (byId("help-dialog"));
  byId("help").addEventListener("click", () => help.showModal());
  byId("keys").append(...[...SHORTCUTS, { shown: "?", words: "keys.help" }].flatMap(rowOf));
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || taken(event)) return;
    if (event.key === "?") return help.showModal();
    const deck = deckNow();
    const shortcut = SHORTCUTS.find(({ codes }) => codes.includes(event.code));
    if (!deck || !shortcut) return;
    event.preventDefault();
    shortcut.run(deck, event);
  });
}

/**
 * Whether the key belongs to what has the focus.
 * @param {KeyboardEvent} event
 */
function taken(event) {
  const target = /** @type {Element} */ (event.target);
  if (document.querySelector("dialog[open]")) return true;
  if (target.matches("select, textarea, input:not([type=range])")) return true;
  if (target.matches("input[type=range]")) return /^(Arrow|Home|End|Page)/.test(event.key);
  return event.code === "Space" && target.matches("button, a");
}

/**
 * Mutes a channel, or with Shift makes it solo; again, and it is as before.
 * @param {Deck} deck
 * @param {KeyboardEvent} event with a digit
 */
function press(deck, event) {
  const channel = deck.channels[Number(event.code.slice(-1)) - 1];
  if (!channel) return;
  const name = event.shiftKey ? "solo" : "muted";
  channel[name] = !channel[name];
  deck.mixed();
}

/**
 * Sets one end of the loop to where the song is.
 * @param {Deck} deck
 * @param {"start" | "end"} side
 */
function bound(deck, side) {
  const at = deck.position;
  const region = { ...(deck.region ?? { start: 0, end: deck.duration }), [side]: at };
  if (region.end <= region.start) region[side === "start" ? "end" : "start"] = side === "start" ? deck.duration : 0;
  deck.loop(region);
}

/** @param {{shown: string, words: string}} shortcut */
function rowOf({ shown, words }) {
  const what = make("dd");
  say(what, words);
  const keys = shown.split(", ").map((key) => make("kbd", { text: key, attributes: { dir: "ltr" } }));
  return [make("dt", {}, ...keys), what];
}
