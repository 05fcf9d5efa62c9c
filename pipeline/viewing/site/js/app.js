"use strict";
// Puts the page together: which view is seen, the search box, and the keyboard.
(() => {
  const { el, on, emit, state, store } = docbatch;
  const byId = (id) => document.getElementById(id);
  const SEARCH_DELAY_MS = 60;
  const KEYS = [
    ["j or ↓", "next answer"], ["k or ↑", "previous answer"], ["Enter", "open it"], ["Esc", "close it"], ["/", "search"],
    ["y", "mark it right"], ["n", "mark it wrong"], ["c", "correct it"], ["z", "zoom the page"], ["o", "overview"], ["a", "answers"], ["?", "this help"],
  ];

  /** Called by data/summary.js. */
  docbatch.begin = (summary) => {
    docbatch.summary = summary;
    emit("begin", summary);
    docbatch.recall();
    showState();
  };

  function showState() {
    const isAnswers = state.view === "answers";
    byId("overview").hidden = isAnswers;
    byId("answers").hidden = !isAnswers;
    for (const view of ["overview", "answers"]) {
      if (state.view === view) byId(`to-${view}`).setAttribute("aria-current", "page");
      else byId(`to-${view}`).removeAttribute("aria-current");
    }
    if (byId("search").value !== state.query) byId("search").value = state.query;
    if (isAnswers) docbatch.layOutTable();
  }

  on("state", showState);

  /** Open what the address names, once its row is there. */
  function openNamed() {
    const row = store.rows.get(state.open);
    if (state.view !== "answers" || row === undefined) return;
    if (byId("panel").hidden || docbatch.current() !== row) docbatch.open(row);
  }

  function follow() {
    docbatch.recall();
    showState();
    docbatch.refresh();
    emit("filtered");
    if (state.open) openNamed();
    else if (!byId("panel").hidden) docbatch.close();
  }

  addEventListener("hashchange", follow);
  addEventListener("popstate", follow);

  const REFRESH_MS = 500;
  let refreshed = 0;

  on("rows", (first) => {
    // While more rows are read, choosing them anew each time would take longer than reading them.
    if (first && performance.now() - refreshed < REFRESH_MS) return;
    docbatch.refresh();
    refreshed = performance.now();
    if (first === 0) docbatch.layOutTable();
    openNamed();
  });

  on("loaded", () => {
    docbatch.refresh();
    openNamed();
  });

  on("failed", (error) => {
    byId("main").prepend(el("p", { class: "warning", role: "alert" }, error.message));
  });

  // ---- search ----

  let waiting = 0;
  byId("search").addEventListener("input", ({ target }) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      state.query = target.value;
      docbatch.remember();
      docbatch.refresh();
      emit("filtered");
    }, SEARCH_DELAY_MS);
  });

  // ---- keyboard ----

  /** Go to another row of those that are shown; open it where a panel is open. */
  docbatch.step = (by) => {
    const { rows } = docbatch.shown;
    if (!rows.length) return;
    const at = rows.indexOf(docbatch.current());
    const to = Math.min(Math.max(at < 0 ? 0 : at + by, 0), rows.length - 1);
    if (byId("panel").hidden) docbatch.setCurrent(rows[to]);
    else docbatch.open(rows[to]);
  };

  function isTyping(target) {
    return target.closest("input:not([type=checkbox]), textarea, select, dialog") !== null;
  }

  /** Elements that do something of their own with a key. */
  function isControl(target) {
    return target.closest("button, a, summary, input") !== null;
  }

  function correct() {
    const field = byId("correction");
    field?.focus();
    field?.select();
  }

  function goTo(view) {
    state.view = view;
    docbatch.remember(true);
    showState();
  }

  const opened = (act) => () => {
    if (!byId("panel").hidden) act(Number(byId("panel").dataset.row));
  };

  const ACTIONS = {
    j: () => docbatch.step(1), ArrowDown: () => docbatch.step(1), k: () => docbatch.step(-1), ArrowUp: () => docbatch.step(-1),
    PageDown: () => docbatch.step(docbatch.pageRows()), PageUp: () => docbatch.step(-docbatch.pageRows()),
    Home: () => docbatch.step(-Infinity), End: () => docbatch.step(Infinity),
    Enter: () => docbatch.current() >= 0 && docbatch.open(docbatch.current(), true),
    y: opened((row) => docbatch.mark(row, "right")), n: opened((row) => docbatch.mark(row, "wrong")), c: opened(correct), z: opened(() => docbatch.toggleZoom()),
  };
  const ANYWHERE = {
    "/": () => { goTo("answers"); byId("search").focus(); byId("search").select(); },
    "?": () => showHelp(), o: () => goTo("overview"), a: () => goTo("answers"),
    Escape: opened(() => docbatch.close()),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape" && !event.target.closest("dialog")) docbatch.focusTable();
      return;
    }
    const scrolls = event.target.closest(".stage, .answer-text, .raw, .scroll") && event.key.length > 1 && event.key !== "Escape";
    const acts = (event.key === "Enter" || event.key === " ") && isControl(event.target);
    const action = ANYWHERE[event.key] ?? (state.view === "answers" ? ACTIONS[event.key] : null);
    if (!action || scrolls || acts) return;
    event.preventDefault();
    action();
  });

  function showHelp() {
    const dialog = byId("help");
    dialog.replaceChildren(
      el("h2", { id: "help-title" }, "Keyboard"),
      el("dl", { class: "pairs keys" }, KEYS.flatMap(([key, what]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, what)])),
      el("p", { class: "quiet" }, "Searching finds all words, in any order; put words in quotes to find them as they stand. The address of this page always shows the same: copy it to share what you see."),
      el("div", { class: "row" }, el("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close")));
    dialog.showModal();
  }

  byId("help-button").addEventListener("click", showHelp);
  byId("marks-button").addEventListener("click", docbatch.showMarks);
  byId("theme-button").addEventListener("click", docbatch.toggleTheme);
})();
