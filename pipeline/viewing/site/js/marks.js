"use strict";
// What a person says about answers. It is kept in the browser, and saved and loaded as one CSV.
(() => {
  const { el, emit, on, store, format } = docbatch;
  const COLUMNS = ["answer_id", "source", "page", "question", "task", "answer", "verdict", "correction", "marked_at"];
  const NAMES = { right: "right", wrong: "wrong", corrected: "corrected" };
  let marks = {};
  let storageKey = "";

  on("begin", (summary) => {
    storageKey = `docbatch-marks-${summary.id}`;
    try {
      marks = JSON.parse(localStorage.getItem(storageKey) ?? "{}");
    } catch {
      marks = {};
    }
    count();
  });

  on("rows", (first, end) => {
    for (let row = first; row < end; row++) apply(row);
  });

  /** Say in the facet what is marked: what the browser knows, else what was merged into the reviews. */
  function apply(row) {
    const column = docbatch.column("mark");
    const verdict = marks[store.keys[row]]?.verdict ?? docbatch.value("reviewed", row);
    column.codes[row] = docbatch.number(column, NAMES[verdict] ?? "not marked");
  }

  /** Return the mark of a row, as {verdict, correction, marked_at}; null without one. */
  docbatch.markOf = (row) => {
    const mark = marks[store.keys[row]];
    return mark && mark.verdict !== "none" ? mark : null;
  };

  docbatch.isTakenBack = (row) => marks[store.keys[row]]?.verdict === "none";

  /** Mark a row; the same mark again takes it back. */
  docbatch.mark = (row, verdict, correction = "") => {
    const key = store.keys[row];
    const before = marks[key]?.verdict ?? docbatch.value("reviewed", row);
    const isSame = before === verdict && verdict !== "corrected";
    // A mark that was merged already is taken back by a mark that says so.
    if (isSame && !docbatch.value("reviewed", row)) delete marks[key];
    else marks[key] = { verdict: isSame ? "none" : verdict, correction, marked_at: new Date().toISOString() };
    keep();
    apply(row);
    emit("marked", row);
  };

  function keep() {
    try {
      localStorage.setItem(storageKey, JSON.stringify(marks));
    } catch {
      emit("failed", new Error("The browser keeps no marks (storage is full or switched off): save them as CSV before closing."));
    }
    count();
  }

  function count() {
    const kept = Object.values(marks).filter((mark) => mark.verdict !== "none").length;
    document.getElementById("marks-count").textContent = format.number(kept);
  }

  // ---- CSV ----

  /** Quote a cell; what a spreadsheet would take for a formula gets an apostrophe, which merging takes off again. */
  function cell(text, isOthers) {
    const given = String(text ?? "");
    const safe = isOthers && /^[=+\-@\t\r']/.test(given) ? `'${given}` : given;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  }

  function line(key) {
    const { verdict, correction, marked_at } = marks[key];
    const row = store.rows.get(key);
    if (row === undefined) return null;
    const others = [docbatch.value("question", row), docbatch.value("task", row), store.answer[row]];
    return [
      cell(key.split(".")[0]),
      cell(docbatch.value("source", row), true),
      cell(store.page[row]),
      ...others.map((text) => cell(text, true)),
      cell(verdict),
      cell(correction, true),
      cell(marked_at),
    ].join(",");
  }

  docbatch.marksAsCsv = () => {
    const lines = Object.keys(marks).map(line).filter((each) => each !== null);
    return `${[COLUMNS.join(","), ...lines].join("\r\n")}\r\n`;
  };

  /** Split a CSV into rows of cells. */
  function parse(text) {
    const rows = [[]];
    for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|\r|$)/g)) {
      rows.at(-1).push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
      if (end === "") break;
      if (end !== ",") rows.push([]);
    }
    return rows.filter((row) => row.length > 1);
  }

  function unquoted(text) {
    return /^'[=+\-@\t\r']/.test(text) ? text.slice(1) : text;
  }

  /** Add the marks of a CSV; of two marks of an answer the later counts. Return how many were taken. */
  docbatch.loadMarks = (text) => {
    const [header = [], ...rows] = parse(text.replace(/^\ufeff/, ""));
    const at = Object.fromEntries(COLUMNS.map((name) => [name, header.indexOf(name)]));
    if (at.answer_id < 0 || at.source < 0 || at.verdict < 0) throw new Error("this is no CSV of marks");
    let taken = 0;
    for (const row of rows) {
      const [verdict, source] = [row[at.verdict], unquoted(row[at.source] ?? "")];
      const key = keyOf(row[at.answer_id], source);
      if (key === null || !(verdict === "none" || NAMES[verdict])) continue;
      const marked_at = row[at.marked_at] ?? "";
      taken++;
      if (marks[key] && marks[key].marked_at > marked_at) continue;
      marks[key] = { verdict, correction: unquoted(row[at.correction] ?? ""), marked_at };
      apply(store.rows.get(key));
    }
    keep();
    emit("marked", null);
    return taken;
  };

  /** Return the key of an answer; the same bytes under two names have one id. */
  function keyOf(id, source) {
    for (let number = 0; ; number++) {
      const key = number ? `${id}.${number}` : id;
      const row = store.rows.get(key);
      if (row === undefined) return null;
      if (docbatch.value("source", row) === source) return key;
    }
  }

  function save() {
    const file = new Blob(["\ufeff", docbatch.marksAsCsv()], { type: "text/csv" });
    const link = el("a", { href: URL.createObjectURL(file), download: `marks-${docbatch.summary.title}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  docbatch.showMarks = () => {
    const dialog = document.getElementById("marks");
    const said = el("p", { class: "quiet", role: "status" });
    const pick = el("input", {
      type: "file", accept: ".csv,text/csv", id: "marks-file", class: "hidden", tabindex: "-1",
      onchange: async () => {
        try {
          said.textContent = `${format.number(docbatch.loadMarks(await pick.files[0].text()))} marks loaded.`;
        } catch (error) {
          said.textContent = `Not loaded: ${error.message}.`;
        }
      },
    });
    dialog.replaceChildren(
      el("h2", { id: "marks-title" }, "Your marks"),
      el("p", {}, "Marks are kept in this browser. Save them as a CSV to send them, or to make them part of the output:"),
      el("pre", {}, "python -m pipeline.report output=… marks=marks.csv"),
      el("div", { class: "row" },
        el("button", { type: "button", class: "primary", id: "marks-save", onclick: save }, "Save CSV"),
        el("button", { type: "button", onclick: () => pick.click() }, "Load CSV"),
        el("label", { for: "marks-file", class: "hidden" }, "CSV of marks"), pick,
        el("button", { type: "button", onclick: () => dialog.close() }, "Close")),
      said,
    );
    dialog.showModal();
  };
})();
