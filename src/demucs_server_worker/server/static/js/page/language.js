// The words of the page: one file a language, the same keys in each. A change of language rewrites what is shown.

import { remember } from "./memory.js";
import { setAttribute, setText } from "./dom.js";

/** @typedef {string | Record<string, string>} Words a sentence, or one for each plural form */
/** @typedef {Record<string, string | number | (() => string)>} Values functions are asked anew at each rewriting */

const LANGUAGES = { en: "ltr", he: "rtl" };

/** @type {Record<string, Words>} */
let words = {};
/** @type {WeakMap<Element, Record<string, Values | undefined>>} */
const valuesOf = new WeakMap();
/** @type {Set<() => void>} */
const watchers = new Set();

/** The language of the page, "en" or "he". */
export function language() {
  return document.documentElement.lang;
}

/** Loads the words of the language that early.js chose, and writes them into the page. */
export async function startLanguage() {
  words = await load(language());
  rewrite(document.documentElement);
}

/** @param {string} name */
export async function changeLanguage(name) {
  if (!(name in LANGUAGES)) return;
  words = await load(name);
  document.documentElement.lang = name;
  document.documentElement.dir = LANGUAGES[/** @type {keyof typeof LANGUAGES} */ (name)];
  remember("language", name);
  rewrite(document.documentElement);
  for (const watcher of watchers) watcher();
}

/**
 * Calls `watcher` after each change of the language.
 * @param {() => void} watcher
 * @returns {() => void} ends that
 */
export function onLanguage(watcher) {
  watchers.add(watcher);
  return () => void watchers.delete(watcher);
}

/**
 * @param {string} key
 * @param {Values} [values] fill the {braces}; `n` chooses the plural form
 */
export function t(key, values = {}) {
  const found = words[key];
  if (found === undefined) return key;
  const sentence = typeof found === "string" ? found : plural(found, Number(resolve(values.n)));
  return sentence.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? shown(values[name]) : whole));
}

/** @param {string} key */
export function hasWords(key) {
  return key in words;
}

/**
 * Writes words into a node and keeps them in step with the language.
 * @param {Element} node
 * @param {string} key
 * @param {Values} [values]
 */
export function say(node, key, values) {
  keep(node, "t", key, values);
  setText(node, t(key, values));
}

/**
 * The same for the name of a control, which is its tooltip too.
 * @param {Element} node
 * @param {string} key
 * @param {Values} [values]
 */
export function label(node, key, values) {
  keep(node, "tLabel", key, values);
  writeLabel(node, t(key, values));
}

/** @param {string} name */
async function load(name) {
  const response = await fetch(new URL(`static/i18n/${name}.json`, document.baseURI));
  if (!response.ok) throw new Error(`the words of "${name}" could not be read: ${response.status}`);
  return /** @type {Promise<Record<string, Words>>} */ (response.json());
}

/**
 * @param {Element} node
 * @param {"t" | "tLabel"} where
 * @param {string} key
 * @param {Values | undefined} values
 */
function keep(node, where, key, values) {
  setAttribute(node, where === "t" ? "data-t" : "data-t-label", key);
  valuesOf.set(node, { ...valuesOf.get(node), [where]: values });
}

/** @param {Element} root */
function rewrite(root) {
  for (const node of root.querySelectorAll("[data-t]")) {
    setText(node, t(node.getAttribute("data-t") ?? "", valuesOf.get(node)?.t));
  }
  for (const node of root.querySelectorAll("[data-t-label]")) {
    writeLabel(node, t(node.getAttribute("data-t-label") ?? "", valuesOf.get(node)?.tLabel));
  }
}

/**
 * @param {Element} node
 * @param {string} text
 */
function writeLabel(node, text) {
  setAttribute(node, "aria-label", text);
  if (node.matches("button, a, input")) setAttribute(node, "title", text);
}

/**
 * @param {Record<string, string>} forms
 * @param {number} n
 */
function plural(forms, n) {
  return forms[new Intl.PluralRules(language()).select(n)] ?? forms.other;
}

/** @param {Values[string] | undefined} value */
function resolve(value) {
  return typeof value === "function" ? value() : value;
}

/** @param {Values[string]} value */
function shown(value) {
  const resolved = resolve(value);
  return typeof resolved === "number" ? new Intl.NumberFormat(language()).format(resolved) : String(resolved);
}
