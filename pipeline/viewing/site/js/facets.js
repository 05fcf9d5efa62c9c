"use strict";
// What rows are chosen by: a button for each facet, whose list says how many rows each value would show.
(() => {
  const { el, on, state, format } = docbatch;
  const MOST_VALUES = 300;
  let openList = null;

  function values(facet) {
    const counts = docbatch.shown.counts.get(facet.name) ?? new Map();
    const chosen = state.chosen.get(facet.name) ?? new Set();
    return [...counts].filter(([value, count]) => count || chosen.has(value)).sort((one, other) => other[1] - one[1]);
  }

  /** A facet with one value chooses nothing. */
  function isUseful(facet) {
    const column = docbatch.column(facet.name);
    return state.chosen.has(facet.name) || column.values.length > 1 || (column.values.length === 1 && facet.name === "code");
  }

  function close() {
    openList?.button.setAttribute("aria-expanded", "false");
    openList?.list.remove();
    openList = null;
  }

  function option(facet, value, count) {
    const chosen = state.chosen.get(facet.name)?.has(value) ?? false;
    const box = el("input", { type: "checkbox", checked: chosen, "data-value": value, onchange: () => docbatch.toggle(facet.name, value) });
    return el("li", {}, el("label", {}, box, el("span", { class: "value" }, value), el("span", { class: "count" }, format.number(count))));
  }

  function fill(facet, list, query = "") {
    const wanted = docbatch.searchable(query);
    const found = values(facet).filter(([value]) => docbatch.searchable(value).includes(wanted));
    const more = found.length > MOST_VALUES ? [el("li", { class: "quiet" }, `and ${format.number(found.length - MOST_VALUES)} more: search for them`)] : [];
    const focused = list.contains(document.activeElement) ? document.activeElement.dataset.value : null;
    list.replaceChildren(...found.slice(0, MOST_VALUES).map(([value, count]) => option(facet, value, count)), ...more);
    if (focused !== null) [...list.querySelectorAll("input")].find((box) => box.dataset.value === focused)?.focus();
  }

  function open(facet, button) {
    const list = el("ul", {});
    const many = values(facet).length > 12;
    const search = el("input", { type: "search", placeholder: "Find a value", "aria-label": `Find a value of ${facet.label}`, oninput: () => fill(facet, list, search.value) });
    const box = el("div", { class: "popover", role: "group", "aria-label": facet.label }, many ? search : null, list);
    fill(facet, list);
    button.after(box);
    button.setAttribute("aria-expanded", "true");
    openList = { facet, button, list: box, refill: () => fill(facet, list, many ? search.value : "") };
    const over = box.getBoundingClientRect().right - document.documentElement.clientWidth + 12;
    if (over > 0) box.style.marginLeft = `${-over}px`;
    (many ? search : (list.querySelector("input") ?? button)).focus();
  }

  function button(facet) {
    const made = el("button", { type: "button", class: "facet", id: `facet-${facet.name}`, "aria-expanded": "false" }, facet.label, el("span", { class: "caret", "aria-hidden": "true" }, "▾"));
    made.addEventListener("click", () => {
      const again = openList?.button === made;
      close();
      if (!again) open(facet, made);
    });
    return el("span", { class: "facet-place", "data-facet": facet.name }, made);
  }

  function chip(name, text, label, remove) {
    return el("button", { type: "button", class: "chip", onclick: remove, "aria-label": `Remove the filter ${label} ${text}` }, el("span", { class: "quiet" }, `${label} `), text, el("span", { "aria-hidden": "true" }, " ×"));
  }

  function showChips() {
    const chips = docbatch.summary.facets.flatMap(({ name, label }) => [...(state.chosen.get(name) ?? [])].map((value) => chip(name, value, label, () => docbatch.toggle(name, value))));
    if (chips.length || state.query) chips.push(el("button", { type: "button", class: "chip clear", onclick: docbatch.clearFilters }, "Clear all"));
    document.getElementById("chips").replaceChildren(...chips);
  }

  on("begin", (summary) => document.getElementById("facets").replaceChildren(...summary.facets.map(button)));

  on("shown", ({ rows }) => {
    const { count, total } = docbatch.store;
    const shown = rows.length === total ? `${format.number(total)} answers` : `${format.number(rows.length)} of ${format.number(total)} answers`;
    document.getElementById("shown").textContent = count < total ? `${shown}; reading ${format.number(count)} of ${format.number(total)} …` : shown;
    for (const facet of docbatch.summary.facets) {
      const place = document.querySelector(`[data-facet="${facet.name}"]`);
      place.hidden = !isUseful(facet);
      place.firstChild.classList.toggle("active", state.chosen.has(facet.name));
    }
    showChips();
    openList?.refill();
  });

  document.addEventListener("click", ({ target }) => {
    // A box that a click has redrawn is in no document any more.
    if (openList && target.isConnected && !target.closest(".facet-place")) close();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !openList) return;
    const { button: opener } = openList;
    close();
    opener.focus();
    event.stopImmediatePropagation();
  });
})();
