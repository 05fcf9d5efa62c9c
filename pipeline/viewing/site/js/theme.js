"use strict";
// Runs before anything is drawn, so that a dark page is never white first.
(() => {
  const KEY = "docbatch-theme";

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is switched off
    }
  }

  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  docbatch.toggleTheme = () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // it holds for this visit
    }
  };

  const theme = stored();
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();
