// Runs before the first paint, so that neither colours nor direction jump. Not a module: modules run too late.
"use strict";
(() => {
  /** @param {string} name @returns {string | null} */
  const stored = (name) => {
    try {
      return localStorage.getItem(`demucs.${name}`);
    } catch {
      return null; // storage is forbidden: the defaults hold
    }
  };
  const root = document.documentElement;
  const theme = stored("theme");
  if (theme === '"light"' || theme === '"dark"') root.dataset.theme = theme.slice(1, -1);
  const language = stored("language");
  const wanted = language ? [language.slice(1, -1)] : navigator.languages;
  const hebrew = wanted.find((each) => /^(he|iw|en)\b/.test(each))?.match(/^(he|iw)\b/);
  root.lang = hebrew ? "he" : "en";
  root.dir = hebrew ? "rtl" : "ltr";
})();
