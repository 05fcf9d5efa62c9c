"use strict";
// What is shown: a search, chosen values of facets, and an order. It is all in the address, so that a link shows the same.
(() => {
  const { store, emit } = docbatch;
  const state = { view: "overview", query: "", chosen: new Map(), sort: "", open: "" };
  docbatch.state = state;
  /** The rows that are shown, in order, and how many there are of each value of each facet. */
  docbatch.shown = { rows: new Int32Array(0), counts: new Map() };

  function terms(query) {
    const found = docbatch.searchable(query).match(/"[^"]+"|\S+/g) ?? [];
    return found.map((term) => (term.length > 2 && term.startsWith('"') && term.endsWith('"') ? term.slice(1, -1) : term));
  }

  let searched = { query: "", count: 0, matches: null };

  /** Return which rows match: every term is in the answer, the question, the source or the gold answer. */
  function search(query) {
    const same = searched.count === store.count && searched.matches;
    if (same && searched.query === query) return searched.matches;
    // One more letter can only leave some of the rows that are found already.
    const matches = same && query.startsWith(searched.query) && !query.includes('"') ? searched.matches : new Uint8Array(store.count).fill(1);
    for (const term of terms(query)) keep(matches, term);
    searched = { query, count: store.count, matches };
    return matches;
  }

  /** Keep the matches that hold a term. */
  function keep(matches, term) {
    const { lower } = store;
    const columns = ["source", "question", "goldAnswer"].map((name) => docbatch.column(name)).filter((column) => column.values.length);
    // Texts that repeat are looked at once.
    const held = columns.map((column) => Uint8Array.from(column.lower, (text) => text.includes(term)));
    for (let row = 0; row < matches.length; row++) {
      if (!matches[row]) continue;
      let found = false;
      for (let index = 0; index < columns.length && !found; index++) {
        const code = columns[index].codes[row];
        found = code >= 0 && held[index][code] === 1;
      }
      if (!found && !lower[row].includes(term)) matches[row] = 0;
    }
  }

  function facets() {
    return docbatch.summary.facets.map((facet) => {
      const column = docbatch.column(facet.name);
      const chosen = state.chosen.get(facet.name);
      const parts = (value) => (facet.several ? value.split("\n") : [value]);
      const allowed = chosen?.size ? column.values.map((value) => parts(value).some((part) => chosen.has(part))) : null;
      return { ...facet, column, parts, allowed, counts: new Int32Array(column.values.length) };
    });
  }

  /** Choose the rows. A facet's own choice does not lessen its counts: they say what choosing another would show. */
  function choose() {
    const matches = state.query.trim() ? search(state.query) : null;
    const all = facets();
    const active = all.filter((facet) => facet.allowed);
    const rows = new Int32Array(store.count);
    let count = 0;
    for (let row = 0; row < store.count; row++) {
      let misses = 0;
      let missed = null;
      for (const facet of active) {
        const code = facet.column.codes[row];
        if (code >= 0 && facet.allowed[code]) continue;
        missed = facet;
        if (++misses > 1) break;
      }
      if (misses > 1 || (matches && !matches[row])) continue;
      if (missed === null) rows[count++] = row;
      for (const facet of missed === null ? all : [missed]) {
        const code = facet.column.codes[row];
        if (code >= 0) facet.counts[code]++;
      }
    }
    return { rows: rows.slice(0, count), counts: new Map(all.map((facet) => [facet.name, counted(facet)])) };
  }

  function counted({ column, parts, counts }) {
    const found = new Map();
    column.values.forEach((value, code) => parts(value).forEach((part) => found.set(part, (found.get(part) ?? 0) + counts[code])));
    return found;
  }

  /** Return a comparison of rows by a column; rows without a value come last, whichever way it goes. */
  function order(name, sign) {
    if (name === "confidence" || name === "page") {
      const values = store[name];
      return (a, b) => {
        const [one, other] = [values[a], values[b]];
        if (one === null || other === null) return (one === null) - (other === null) || a - b;
        return sign * (one - other) || a - b;
      };
    }
    if (name === "answer") {
      const values = store.lower;
      return (a, b) => (values[a] < values[b] ? -sign : values[a] > values[b] ? sign : a - b);
    }
    const column = docbatch.column(name);
    const collator = new Intl.Collator("en", { numeric: true });
    const ranked = column.values.map((_, code) => code).sort((a, b) => collator.compare(column.values[a], column.values[b]));
    const rank = new Int32Array(ranked.length);
    ranked.forEach((code, place) => (rank[code] = place));
    const place = (row) => (column.codes[row] < 0 ? null : rank[column.codes[row]]);
    return (a, b) => {
      const [one, other] = [place(a), place(b)];
      if (one === null || other === null) return (one === null) - (other === null) || a - b;
      return sign * (one - other) || a - b;
    };
  }

  const SORTABLE = ["source", "page", "question", "answer", "goldAnswer", "confidence", "status", "task", "gold", "mark"];

  /** Choose and order the rows, and say so. */
  docbatch.refresh = () => {
    const began = performance.now();
    const shown = choose();
    const name = state.sort.replace(/^-/, "");
    if (SORTABLE.includes(name)) shown.rows.sort(order(name, state.sort.startsWith("-") ? -1 : 1));
    docbatch.shown = shown;
    emit("shown", shown);
    docbatch.lastRefreshMs = performance.now() - began;
  };

  /** Write the state into the address. */
  docbatch.remember = (push = false) => {
    const given = new URLSearchParams();
    if (state.query) given.set("q", state.query);
    for (const [name, values] of state.chosen) for (const value of values) given.append(name, value);
    if (state.sort) given.set("sort", state.sort);
    if (state.open) given.set("open", state.open);
    const text = given.toString();
    const address = `#/${state.view}${state.view === "answers" && text ? `?${text}` : ""}`;
    if (address !== location.hash) history[push ? "pushState" : "replaceState"](null, "", address);
  };

  /** Take the state from the address. */
  docbatch.recall = () => {
    const [view, text = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
    const given = new URLSearchParams(text);
    state.view = view === "answers" ? "answers" : "overview";
    state.query = given.get("q") ?? "";
    state.sort = given.get("sort") ?? "";
    state.open = given.get("open") ?? "";
    state.chosen = new Map();
    for (const { name } of docbatch.summary.facets) if (given.has(name)) state.chosen.set(name, new Set(given.getAll(name)));
  };

  /** Choose or unchoose a value of a facet. */
  docbatch.toggle = (name, value) => {
    const chosen = state.chosen.get(name) ?? new Set();
    if (!chosen.delete(value)) chosen.add(value);
    if (chosen.size) state.chosen.set(name, chosen);
    else state.chosen.delete(name);
    docbatch.remember();
    docbatch.refresh();
  };

  docbatch.clearFilters = () => {
    state.chosen = new Map();
    state.query = "";
    docbatch.remember();
    emit("state");
    docbatch.refresh();
  };

  /** Return the address of the answers with some values chosen. */
  docbatch.link = (choices) => `#/answers?${new URLSearchParams(Object.entries(choices))}`;
})();
