// Making elements. Text always goes in as text: nothing here parses markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {{class?: string, text?: string, attributes?: Record<string, string>}} [about]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, about = {}, ...children) {
  const node = document.createElement(tag);
  if (about.class) node.className = about.class;
  if (about.text !== undefined) node.textContent = about.text;
  for (const [name, value] of Object.entries(about.attributes ?? {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** @param {string} id */
export function byId(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`the page has no #${id}`);
  return node;
}

/**
 * A picture from the sprite, for the eyes only.
 * @param {string} name
 */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/**
 * @param {Element} svg made by `icon`, or holding one
 * @param {string} name
 */
export function setIcon(svg, name) {
  const use = svg.querySelector("use");
  const href = `static/icons.svg#${name}`;
  if (use && use.getAttribute("href") !== href) use.setAttribute("href", href);
}

/**
 * A name that came from outside, in its own direction.
 * @param {string} text
 * @param {string} [className]
 */
export function bdi(text, className = "name") {
  return make("bdi", { class: className, text, attributes: { dir: "auto" } });
}

/**
 * Changes the text only where it differs: a write would make the browser lay the line out again.
 * @param {Node} node
 * @param {string} text
 */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Writes an attribute only where it differs; null takes it away.
 * @param {Element} node
 * @param {string} name
 * @param {string | null} value
 */
export function setAttribute(node, name, value) {
  if (node.getAttribute(name) === value) return;
  if (value === null) node.removeAttribute(name);
  else node.setAttribute(name, value);
}
