"use strict";
// What a comparison of two runs adds: how an answer was before, and what changed by question.
(() => {
  const { el, on, format, link } = docbatch;
  const { number } = format;

  function words(text) {
    return (text ?? "").match(/\S+|\s+/g) ?? [];
  }

  /** Return the words of a text, with those that the other has not, between a common beginning and end, marked. */
  function marked(text, other, tag) {
    const [own, others] = [words(text), words(other)];
    let first = 0;
    while (first < own.length && own[first] === others[first]) first++;
    let last = 0;
    while (last < own.length - first && last < others.length - first && own.at(-1 - last) === others.at(-1 - last)) last++;
    const middle = own.slice(first, own.length - last).join("");
    return [own.slice(0, first).join(""), middle ? el(tag, {}, middle) : "", own.slice(own.length - last).join("")];
  }

  /** Return the answer as it was before and as it is now; nothing where no runs are compared. */
  docbatch.difference = (detail) => {
    if (!detail.change) return null;
    const { old, change } = detail;
    if (change === "appeared") return el("section", { class: "block" }, el("h3", {}, "Before"), el("p", { class: "quiet" }, "The old run has no such answer."));
    const was = [old.status, old.needs_review ? "to review" : "sure", old.confidence == null ? null : `confidence ${old.confidence.toFixed(2)}`].filter(Boolean).join(", ");
    if (change === "vanished") return el("section", { class: "block" }, el("h3", {}, "Now"), el("p", { class: "quiet" }, "The new run has no such answer any more: what is shown is the old one."));
    const now = change === "same" ? null : el("p", { class: "compared" }, marked(detail.answer, old.answer, "ins"));
    return el("section", { class: "block", "aria-label": "Comparison" },
      el("h3", {}, change === "same" ? "Before: the same" : "Before"), el("p", { class: "compared" }, change === "same" ? old.answer ?? "–" : marked(old.answer, detail.answer, "del")),
      el("p", { class: "quiet" }, was), now ? el("h3", {}, "Now") : null, now);
  };

  on("begin", ({ difference }) => {
    if (!difference) return;
    const { counts, questions } = difference;
    const cell = (text, is = "td") => el(is, { class: typeof text === "number" ? "n" : null, scope: is === "th" ? "row" : null }, typeof text === "number" ? number(text) : text);
    const rows = questions.filter((each) => each.same !== each.rows).slice(0, 200).map((each) =>
      el("tr", {}, cell([el("a", { href: link({ question: each.question, task: each.task }) }, each.question), el("span", { class: "under" }, `${each.task} · ${each.question_id}`)], "th"),
        ...[each.changed, each.appeared, each.vanished, each.same, each.flips].map((text) => cell(text))));
    const heads = ["Question", "Changed", "Appeared", "Vanished", "Same", "Flips"];
    const tiles = ["changed", "appeared", "vanished", "same"].map((name) =>
      el("li", {}, el("a", { class: "tile", href: link({ change: name }) }, el("span", { class: "label" }, name), el("b", {}, number(counts[name] ?? 0)))));
    document.getElementById("overview").prepend(
      el("section", { class: "card", id: "difference" }, el("h2", {}, "What has changed"), el("ul", { class: "tiles" }, tiles),
        rows.length
          ? el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Changes by question" },
              el("table", {}, el("thead", {}, el("tr", {}, heads.map((head, index) => el("th", { scope: "col", class: index && index < 5 ? "n" : null }, head)))), el("tbody", {}, rows)))
          : el("p", { class: "good" }, "Nothing: both runs give the same answers.")));
  });
})();
