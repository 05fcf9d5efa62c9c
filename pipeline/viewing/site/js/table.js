"use strict";
// The table of answers. SlickGrid draws the rows that are in view; what it is given are row numbers.
(() => {
  const { el, on, emit, store, state, format, value } = docbatch;
  const CARD_BELOW_PX = 720;
  let grid = null;
  let isCards = false;
  let current = -1;

  function badge(kind, text, title) {
    return el("span", { class: `badge ${kind}`, title: title ?? null }, text);
  }

  /** Return the state of a row: a kind that styles know, and its word. */
  docbatch.stateOf = (row) => {
    if (value("status", row) !== "ok") return ["bad", value("status", row) === "error" ? "error" : "not asked"];
    return value("review", row) === "to review" ? ["doubt", "review"] : ["ok", "ok"];
  };

  function states(row) {
    const [kind, word] = docbatch.stateOf(row);
    const verdict = value("gold", row);
    const mark = value("mark", row);
    return [
      badge(kind, word),
      ["changed", "appeared", "vanished"].includes(value("change", row)) ? badge("mark", value("change", row)) : null,
      verdict === "right" ? badge("right", "✓ gold", "holds the gold answer") : verdict === "wrong" ? badge("wrong", "✗ gold", "does not hold the gold answer") : null,
      mark && mark !== "not marked" ? badge("mark", mark === "right" ? "✓ you" : mark === "wrong" ? "✗ you" : "✎ you", `marked ${mark}`) : null,
    ].filter(Boolean);
  }

  function confidence(row) {
    const given = store.confidence[row];
    if (given === null) return el("span", { class: "quiet" }, "–");
    return el("span", { class: "meter", title: `confidence ${given.toFixed(3)}` }, el("i", { style: { width: `${Math.round(44 * Math.min(Math.max(given, 0), 1))}px` } }), el("b", {}, given.toFixed(2)));
  }

  /** Return a source with its end in view: folders are cut before names are. */
  function source(row) {
    const name = value("source", row) ?? "";
    const at = name.lastIndexOf("/") + 1;
    return el("span", { class: "path", title: name }, at ? el("span", { class: "folder" }, name.slice(0, at)) : null, el("span", { class: "name" }, name.slice(at)));
  }

  function said(row) {
    return el("span", { class: value("status", row) === "ok" ? "said" : "said failed" }, store.answer[row].slice(0, 400).replace(/\s+/g, " ") || "–");
  }

  function card(row) {
    const page = store.page[row];
    return el("div", { class: "answer-card" },
      el("div", { class: "first" }, el("span", { class: "asked" }, value("question", row) ?? ""), el("span", { class: "badges" }, states(row))),
      el("div", { class: "second" }, said(row)),
      el("div", { class: "third" }, source(row), page === null ? null : el("span", {}, ` p. ${page}`), confidence(row)));
  }

  const draw = (make) => (_row, _cell, _value, _column, item) => {
    const made = make(item.row);
    return made instanceof Node ? made : el("span", {}, made);
  };

  function columns() {
    if (isCards) return [{ id: "card", name: "Answers", field: "row", formatter: draw(card), minWidth: 200, width: 600 }];
    const has = (name) => (docbatch.column(name).values ?? []).length > 0;
    const several = (name) => docbatch.column(name).values.length > 1;
    return [
      { id: "status", name: "State", width: 150, minWidth: 64, maxWidth: 190, formatter: draw((row) => el("span", { class: "badges" }, states(row))) },
      { id: "source", name: "Source", width: 210, minWidth: 90, formatter: draw(source) },
      store.page.some((page) => page !== null) ? { id: "page", name: "Page", width: 56, maxWidth: 70, cssClass: "n", headerCssClass: "n", formatter: draw((row) => format.number(store.page[row])) } : null,
      several("task") ? { id: "task", name: "Task", width: 86, maxWidth: 140, formatter: draw((row) => value("task", row) ?? "") } : null,
      { id: "question", name: "Question", width: 280, minWidth: 100, formatter: draw((row) => el("span", { title: value("question", row) }, value("question", row) ?? "")) },
      { id: "answer", name: "Answer", width: 400, minWidth: 120, formatter: draw(said) },
      has("goldAnswer") ? { id: "goldAnswer", name: "Gold", width: 130, minWidth: 60, formatter: draw((row) => value("goldAnswer", row) ?? "") } : null,
      { id: "confidence", name: "Confidence", width: 104, minWidth: 84, maxWidth: 120, formatter: draw(confidence) },
    ].filter(Boolean).map((column) => ({ ...column, field: "row", sortable: true }));
  }

  const provider = {
    getLength: () => docbatch.shown.rows.length,
    getItem: (place) => (place < docbatch.shown.rows.length ? { row: docbatch.shown.rows[place] } : undefined),
    getItemMetadata: (place) => ({ cssClasses: docbatch.shown.rows[place] === current ? "current" : "" }),
  };

  const options = () => ({
    rowHeight: isCards ? 92 : 36,
    forceFitColumns: true,
    enableCellNavigation: false, // rows are moved through, not cells: see app.js
    enableColumnReorder: false,
    enableHtmlRendering: false, // what documents say never becomes markup
    enableTextSelectionOnCells: true,
    showColumnHeader: !isCards,
  });

  function place() {
    return document.getElementById("grid");
  }

  function body() {
    return place().querySelector(".slick-viewport-top.slick-viewport-left");
  }

  docbatch.focusTable = () => body()?.focus();

  /** Make the table, anew when it changes between columns and cards. */
  function make() {
    const before = grid?.getViewport().top ?? 0;
    grid?.destroy();
    place().replaceChildren();
    isCards = place().clientWidth < CARD_BELOW_PX;
    place().classList.toggle("cards", isCards);
    grid = new Slick.Grid(place(), provider, columns(), options());
    place().setAttribute("aria-rowcount", String(docbatch.shown.rows.length));
    grid.onSort.subscribe((_event, { sortCol, sortAsc }) => {
      state.sort = `${sortAsc ? "" : "-"}${sortCol.id}`;
      docbatch.remember();
      docbatch.refresh();
    });
    grid.onClick.subscribe((_event, { row }) => docbatch.open(docbatch.shown.rows[row], true));
    showSort();
    // The rows as a whole take the keyboard, see app.js: what SlickGrid would focus beside them is no part of a grid.
    for (const inner of place().querySelectorAll("[tabindex='0']")) inner.removeAttribute("tabindex");
    body().setAttribute("tabindex", "0");
    body().setAttribute("role", "rowgroup");
    if (before) grid.scrollRowToTop(before);
  }

  function showSort() {
    const name = state.sort.replace(/^-/, "");
    if (!isCards) grid.setSortColumns(name ? [{ columnId: name, sortAsc: !state.sort.startsWith("-") }] : []);
  }

  docbatch.layOutTable = () => {
    if (document.getElementById("answers").hidden || !place().clientWidth) return;
    if (grid === null || place().clientWidth < CARD_BELOW_PX !== isCards) make();
    else grid.resizeCanvas();
  };

  /** Tell the table that other rows are to be seen. */
  on("shown", ({ rows }) => {
    if (grid === null) return;
    grid.invalidateAllRows();
    grid.updateRowCount();
    grid.render();
    place().setAttribute("aria-rowcount", String(rows.length));
    showSort();
  });

  on("filtered", () => grid?.scrollRowToTop(0));

  on("marked", () => {
    grid?.invalidateAllRows();
    grid?.render();
  });

  /** Mark a row as the one that is open, and bring it into view. */
  docbatch.setCurrent = (row) => {
    const places = [current, row].map((each) => docbatch.shown.rows.indexOf(each)).filter((each) => each >= 0);
    current = row;
    if (grid === null) return;
    grid.invalidateRows(places);
    grid.render();
    const at = docbatch.shown.rows.indexOf(row);
    if (at >= 0) grid.scrollRowIntoView(at, false);
  };

  docbatch.current = () => current;

  on("loaded", () => {
    // Columns that only later rows have a use for.
    if (grid !== null) make();
  });

  new ResizeObserver(() => docbatch.layOutTable()).observe(place());
  docbatch.pageRows = () => Math.max(1, Math.floor(place().clientHeight / (isCards ? 92 : 36)) - 2);
  emit("table");
})();
