// Figures for people.

import { language, t } from "./language.js";

/**
 * `3:07`, or `1:02:03` from an hour on.
 * @param {number} seconds
 */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/**
 * With tenths, for a playing head: `3:07.4`.
 * @param {number} seconds
 */
export function preciseClock(seconds) {
  const tenths = Math.max(0, Math.floor(seconds * 10));
  return `${clock(tenths / 10)}.${tenths % 10}`;
}

/** @param {number} part 0 to 1 */
export function percent(part) {
  return new Intl.NumberFormat(language(), { style: "percent", maximumFractionDigits: 0 }).format(part);
}

/** @param {number} bytes */
export function size(bytes) {
  const [value, unit] = bytes >= 1e9 ? [bytes / 1e9, "gigabyte"] : [bytes / 1e6, "megabyte"];
  const digits = value >= 100 ? 0 : 1;
  const style = /** @type {const} */ ("unit");
  return new Intl.NumberFormat(language(), { style, unit, maximumFractionDigits: digits }).format(value);
}

/**
 * How long something will still take, no more exact than it is known.
 * @param {number} seconds
 */
export function remaining(seconds) {
  if (seconds < 10) return t("eta.moments");
  if (seconds < 55) return t("eta.seconds", { n: Math.ceil(seconds / 5) * 5 });
  if (seconds < 3570) return t("eta.minutes", { n: Math.round(seconds / 60) || 1 });
  return t("eta.hours", { n: Math.round(seconds / 3600) });
}

/**
 * How long ago a moment was.
 * @param {string} moment ISO 8601
 */
export function ago(moment) {
  const seconds = (Date.parse(moment) - Date.now()) / 1000;
  const relative = new Intl.RelativeTimeFormat(language(), { numeric: "auto" });
  if (seconds > -60) return t("time.now");
  if (seconds > -3600) return relative.format(Math.round(seconds / 60), "minute");
  if (seconds > -86_400) return relative.format(Math.round(seconds / 3600), "hour");
  return relative.format(Math.round(seconds / 86_400), "day");
}

/**
 * Facts in one line. Each stands for itself: figures and words of another direction do not change places.
 * @param {...string} parts empty ones are left out
 */
export function joined(...parts) {
  return parts.filter(Boolean).map((part) => `\u2068${part}\u2069`).join(" · ");
}

/** @param {number} gain 1 leaves the sound as it is */
export function decibels(gain) {
  if (gain <= 0) return t("mixer.silent");
  const value = 20 * Math.log10(gain);
  const rounded = Math.abs(value) < 0.05 ? 0 : value;
  const figure = new Intl.NumberFormat(language(), {
    minimumFractionDigits: 1, maximumFractionDigits: 1, signDisplay: "exceptZero",
  }).format(rounded); // prettier-ignore
  return t("mixer.decibels", { figure });
}
