"use strict";
// The panel of one answer: what was asked, said, quoted and known, with its pages.
(() => {
  const { el, on, store, state, format, load, value } = docbatch;
  const { number } = format;
  const MOST_FILES = 20;
  /** File number → promise of its details; a few are kept. */
  const files = new Map();
  const panel = document.getElementById("panel");
  let viewer = null;

  /** Called by data/detail-….js. */
  docbatch.addDetails = (file, details) => (docbatch.handedOver = { file, details });

  function fetchFile(file) {
    if (!files.has(file)) {
      if (files.size >= MOST_FILES) files.delete(files.keys().next().value);
      const read = load(`data/detail-${String(file).padStart(4, "0")}.js`).then(() => docbatch.handedOver.details);
      read.catch(() => files.delete(file));
      files.set(file, read);
    }
    return files.get(file);
  }

  async function detailOf(row) {
    const size = docbatch.summary.detailRows;
    return (await fetchFile(Math.floor(row / size)))[row % size];
  }

  function block(title, ...children) {
    const inside = children.flat().filter(Boolean);
    return inside.length ? el("section", { class: "block" }, title ? el("h3", {}, title) : null, ...inside) : null;
  }

  function pairs(entries) {
    const given = entries.filter(([, given]) => given !== null && given !== undefined && given !== "" && !(Array.isArray(given) && !given.length));
    return el("dl", { class: "pairs" }, given.flatMap(([name, given]) => [el("dt", {}, name), el("dd", {}, given instanceof Node ? given : String(given))]));
  }

  /** Show a structured answer as names and values. */
  function fields(text) {
    let parsed;
    try {
      parsed = JSON.parse(text ?? "null");
    } catch {
      return el("pre", {}, text); // cut because it is long
    }
    if (parsed === null || typeof parsed !== "object") return null;
    const shown = (given) => (given === null ? el("span", { class: "quiet" }, "null") : typeof given === "object" ? el("pre", {}, JSON.stringify(given, null, 1)) : String(given));
    return pairs(Object.entries(parsed).map(([name, given]) => [name, shown(given)]));
  }

  function badges(detail, row) {
    const [kind, word] = docbatch.stateOf(row);
    const found = { true: ["ok", "quote found"], false: ["bad", "quote not found"] }[detail.evidence_found];
    const verdict = { right: ["right", "✓ holds the gold answer"], wrong: ["wrong", "✗ not the gold answer"] }[detail.verdict];
    return el("div", { class: "badges" },
      [[kind, word === "review" ? "to review" : word === "ok" ? "answered" : word], verdict, found].filter(Boolean).map(([each, text]) => el("span", { class: `badge ${each}` }, text)),
      detail.confidence == null ? null : el("span", { class: "badge plain" }, `confidence ${detail.confidence.toFixed(2)}`));
  }

  function answer(detail) {
    const said = !detail.answer ? el("p", { class: "quiet" }, "No answer.") : el("p", { class: "answer-text", tabindex: detail.answer.length > 600 ? "0" : null }, detail.answer);
    return [
      said,
      detail.fields ? el("details", { open: !detail.answer }, el("summary", {}, "Fields"), fields(detail.fields)) : null,
      detail.error ? el("p", { class: "error" }, el("b", {}, `${detail.error_code}: `), detail.error) : null,
    ];
  }

  function gold(detail) {
    if (!detail.gold_answer) return null;
    const page = detail.gold_page ? ` (page ${detail.gold_page})` : "";
    return block("Gold answer", el("p", { class: `gold ${detail.verdict}` }, `${detail.gold_answer}${page}`));
  }

  // ---- marks ----

  function marking(detail, row) {
    const mark = docbatch.markOf(row);
    const reviewed = docbatch.isTakenBack(row) ? null : detail.reviewed;
    const current = mark ?? reviewed;
    const correction = el("input", { type: "text", id: "correction", value: current?.correction ?? "", placeholder: "What it should be", autocomplete: "off" });
    const choice = (verdict, text, key) =>
      el("button", { type: "button", class: `verdict ${verdict}`, "aria-pressed": String(current?.verdict === verdict), onclick: () => docbatch.mark(row, verdict) }, text, el("kbd", { "aria-hidden": "true" }, key));
    const said = current
      ? `${mark ? "Marked" : "Reviewed"} ${current.verdict}${current.correction ? `: ${current.correction}` : ""}, ${format.date(current.marked_at)}${!mark && current.answer !== detail.answer ? "; the answer was another then" : ""}`
      : "Not marked yet.";
    return el("section", { class: "block marking", "aria-label": "Your mark" },
      el("div", { class: "row" }, choice("right", "✓ Right", "y"), choice("wrong", "✗ Wrong", "n"),
        el("form", { class: "correcting", onsubmit: (event) => { event.preventDefault(); if (correction.value.trim()) docbatch.mark(row, "corrected", correction.value.trim()); } },
          el("label", { for: "correction", class: "hidden" }, "Corrected value"), correction,
          el("button", { type: "submit", class: "verdict corrected", "aria-pressed": String(current?.verdict === "corrected") }, "✎ Correct", el("kbd", { "aria-hidden": "true" }, "c")))),
      el("p", { class: "quiet", role: "status", id: "mark-said" }, said));
  }

  // ---- facts ----

  function attempt(each) {
    const took = [`${number(each.prompt_tokens)} prompt tokens`, each.cached_tokens ? `${number(each.cached_tokens)} cached` : null, `${number(each.output_tokens)} written`, format.seconds(each.engine_seconds)];
    const head = `${each.kind}${each.attempt ? `, attempt ${each.attempt + 1}` : ""} · ${each.pages?.length ? `pages ${ranges(each.pages)} · ` : ""}${took.filter(Boolean).join(" · ")}`;
    return el("li", {}, el("p", { class: "quiet" }, head, each.finish_reason && each.finish_reason !== "stop" ? ` · ended by ${each.finish_reason}` : ""),
      each.error ? el("p", { class: "error" }, `${each.error_code}: ${each.error}`) : null, each.text ? el("pre", { class: "raw", tabindex: "0" }, each.text) : null);
  }

  /** Write page numbers as 1–3, 7. */
  function ranges(pages) {
    const runs = [];
    for (const page of pages) {
      if (runs.length && page === runs.at(-1)[1] + 1) runs.at(-1)[1] = page;
      else runs.push([page, page]);
    }
    return runs.map(([first, last]) => (first === last ? first : `${first}–${last}`)).join(", ");
  }

  function facts(document) {
    if (!document) return null;
    return pairs([
      ["kind", document.kind], ["size", document.bytes == null ? null : format.bytes(document.bytes)], ["pages", document.pages], ["with a text layer", document.text_layer_pages],
      ["blank", document.blank_pages], ["languages", document.languages?.join(", ")], ["same bytes as", document.duplicate_of],
      ["error", document.error], ["SHA-256", el("code", {}, document.document_id || "–")]]);
  }

  /** List the other answers about the same document; they lie beside each other. */
  function neighbours(row) {
    const column = docbatch.column("source");
    const same = (other) => other >= 0 && other < store.count && column.codes[other] === column.codes[row];
    let [first, last] = [row, row];
    while (same(first - 1) && row - first < 40) first--;
    while (same(last + 1) && last - row < 40) last++;
    if (first === last) return null;
    const items = [];
    for (let other = first; other <= last; other++) {
      const [kind, word] = docbatch.stateOf(other);
      const page = store.page[other] === null ? "" : `p. ${store.page[other]} · `;
      items.push(el("li", { class: other === row ? "current" : null },
        el("button", { type: "button", class: "neighbour", "aria-current": other === row ? "true" : null, onclick: () => docbatch.open(other) },
          el("span", { class: `badge ${kind}` }, word), el("span", { class: "asked" }, `${page}${value("question", other) ?? ""}`), el("span", { class: "said" }, store.answer[other].slice(0, 160)))));
    }
    return el("ul", { class: "neighbours" }, items);
  }

  function ids(detail) {
    return pairs([
      ["task", detail.task], ["model", detail.model], ["engine", detail.engine], ["pages read", detail.pages_total == null ? null : `${detail.pages_read} of ${detail.pages_total}`],
      ["requests", detail.requests], ["prompt tokens", number(detail.prompt_tokens)], ["cached", number(detail.cached_tokens)], ["output tokens", number(detail.output_tokens)],
      ["engine time", format.seconds(detail.engine_seconds)],
      ["GPU seconds", detail.gpu_seconds ? detail.gpu_seconds.toFixed(1) : null], ["cost", detail.cost ? detail.cost.toPrecision(3) : null], ["ended by", detail.finish_reason], ["made", format.date(detail.created_at)],
      ["question_id", detail.question_id], ["answer_id", el("code", {}, detail.answer_id)]]);
  }

  function more(title, content, isOpen = false) {
    return content ? el("details", { class: "block", open: isOpen }, el("summary", {}, title), content) : null;
  }

  function show(detail, row) {
    const place = docbatch.shown.rows.indexOf(row);
    const { length } = docbatch.shown.rows;
    const where = `${detail.source}${detail.page == null ? "" : `, page ${detail.page}`}`;
    viewer = docbatch.viewer(detail.images);
    const about = el("div", { class: "about" },
      badges(detail, row),
      el("h2", { class: "question" }, detail.question ?? ""),
      el("div", { class: "answer" }, answer(detail)),
      docbatch.difference?.(detail) ?? null,
      gold(detail),
      marking(detail, row),
      detail.reasons.length ? block("Why to look at it", el("ul", {}, detail.reasons.map((reason) => el("li", {}, reason)))) : null,
      detail.evidence_quote ? block("Quote", el("blockquote", { tabindex: "0" }, detail.evidence_quote), detail.evidence_pages?.length ? el("p", { class: "quiet" }, `page ${ranges(detail.evidence_pages)}`) : null) : null,
      more(`Replies and attempts (${detail.attempts.length})`, detail.attempts.length ? el("ol", { class: "attempts" }, detail.attempts.map(attempt)) : null),
      more("Document", facts(detail.document)),
      more("Other answers about it", neighbours(row), true),
      more("This answer", ids(detail)));
    panel.replaceChildren(
      el("div", { class: "panel-bar" },
        el("button", { type: "button", "aria-label": "Previous answer", title: "Previous (k)", disabled: place <= 0, onclick: () => docbatch.step(-1) }, "‹"),
        el("button", { type: "button", "aria-label": "Next answer", title: "Next (j)", disabled: place < 0 || place >= length - 1, onclick: () => docbatch.step(1) }, "›"),
        el("span", { class: "where", title: where }, where),
        el("span", { class: "count" }, place < 0 ? "" : `${number(place + 1)} of ${number(length)}`),
        el("button", { type: "button", id: "panel-close", "aria-label": "Close", title: "Close (Esc)", onclick: () => docbatch.close() }, "×")),
      el("div", { class: "panel-body" }, about, viewer));
    panel.dataset.row = row;
    about.scrollTop = 0;
  }

  /** Open the panel of a row. */
  docbatch.open = async (row, push = false) => {
    state.view = "answers";
    state.open = store.keys[row];
    panel.hidden = false;
    document.body.classList.add("panel-open");
    docbatch.remember(push);
    docbatch.setCurrent(row);
    try {
      const detail = await detailOf(row);
      if (state.open === store.keys[row]) show(detail, row);
    } catch (error) {
      panel.replaceChildren(el("p", { class: "warning" }, `${error.message}; is the folder of this report whole?`));
    }
  };

  docbatch.close = () => {
    panel.hidden = true;
    panel.replaceChildren();
    document.body.classList.remove("panel-open");
    state.open = "";
    docbatch.remember();
    docbatch.focusTable();
  };

  docbatch.toggleZoom = () => viewer?.toggleZoom?.();

  on("marked", async (row) => {
    const shown = Number(panel.dataset.row);
    if (panel.hidden || (row !== null && row !== shown)) return;
    const place = panel.querySelector(".marking");
    const focused = document.activeElement?.closest(".marking") ? document.activeElement.className : null;
    place?.replaceWith(marking(await detailOf(shown), shown));
    if (focused) panel.querySelector(`.marking [class="${focused}"]`)?.focus();
  });
})();
