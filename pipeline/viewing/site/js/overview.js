"use strict";
// The first screen: what was asked, answered, and what is left to do. Every figure is one of data/summary.js.
(() => {
  const { el, svg, format, on, link } = docbatch;
  const { number, percent, short, seconds } = format;

  function tile(label, value, note, href, kind = "") {
    const inside = [el("span", { class: "label" }, label), el("b", {}, value), el("span", { class: "note" }, note || "\u00a0")];
    return el("li", {}, href ? el("a", { class: `tile ${kind}`, href }, inside) : el("div", { class: `tile ${kind}` }, inside));
  }

  function tiles({ totals, run }) {
    const { counts, tasks } = totals;
    const sum = (name) => tasks.reduce((total, task) => total + task[name], 0);
    const prompt = sum("prompt_tokens");
    return el("ul", { class: "tiles" },
      tile("Inputs", number(totals.inputs), totals.input_errors ? `${number(totals.input_errors)} with an error` : "all were read"),
      tile("Pages", number(totals.pages), "of all inputs"),
      tile("Answers", number(counts.rows), "one per question and input", "#/answers"),
      tile("Answered", percent(counts.ok, counts.rows), `${number(counts.ok)} answers`, link({ status: "ok" }), "ok"),
      tile("To review", number(counts.review), "answered, but doubtful", `${link({ status: "ok", review: "to review", sort: "confidence" })}`, "doubt"),
      tile("Errors", number(counts.errors), counts.errors ? "no whole answer" : "none", counts.errors ? link({ status: "error" }) : null, counts.errors ? "bad" : ""),
      counts.gold ? tile("Holds gold", percent(counts.right, counts.gold), `${number(counts.right)} of ${number(counts.gold)} answers hold the gold one`, link({ gold: "wrong" })) : null,
      tile("Tokens", short(prompt + sum("output_tokens")), `${percent(sum("cached_tokens"), prompt)} of prompts cached`),
      tile("Engine time", seconds(sum("engine_seconds")), `${number(sum("requests"))} requests; the last run took ${seconds(run.seconds)}`),
      ...(sum("gpu_seconds") || sum("cost") ? [tile("Cost", number(Math.round(100 * sum("cost")) / 100), `by the prices set; ${number(Math.round(sum("gpu_seconds") / 36) / 100)} GPU hours`)] : []));
  }

  /** A bar of three parts: answered, to review, errors. */
  function bar(counts) {
    const sure = counts.ok - counts.review;
    const parts = [["ok", sure, "answered"], ["doubt", counts.review, "to review"], ["bad", counts.rows - counts.ok, "errors"]];
    const label = parts.map(([, count, name]) => `${number(count)} ${name}`).join(", ");
    const shares = parts.filter(([, count]) => count).map(([kind, count]) => el("span", { class: kind, style: { flexGrow: String(count) } }));
    return el("div", { class: "stack", role: "img", "aria-label": label, title: label }, shares);
  }

  function table(caption, heads, rows, note) {
    const cell = (content, index) => el(index ? "td" : "th", { scope: index ? null : "row", class: heads[index].n ? "n" : null }, content);
    return el("section", { class: "card" },
      el("h2", {}, caption),
      note ? el("p", { class: "quiet" }, note) : null,
      el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
        el("table", {},
          el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col", class: head.n ? "n" : null }, head.text)))),
          el("tbody", {}, rows.map((row) => el("tr", {}, row.map(cell)))))));
  }

  const text = (value) => ({ text: value });
  const figure = (value) => ({ text: value, n: true });

  function tasks({ totals }) {
    const scored = totals.counts.gold > 0;
    const heads = [text("Task"), text("Answers"), figure("Rows"), figure("To review"), figure("Errors"), ...(scored ? [figure("Holds gold")] : []),
      figure("Confidence"), figure("Prompt tokens"), figure("Cached"), figure("Output tokens"), figure("Engine time")];
    const rows = totals.tasks.map((task) => {
      const { counts } = task;
      const name = [el("a", { href: link({ task: task.task }) }, task.task), el("span", { class: "under" }, task.models.join(", "))];
      return [name, bar(counts), number(counts.rows), number(counts.review), number(counts.errors),
        ...(scored ? [counts.gold ? `${percent(counts.right, counts.gold)}` : "–"] : []),
        format.confidence(counts.median_confidence), number(task.prompt_tokens), percent(task.cached_tokens, task.prompt_tokens),
        number(task.output_tokens), seconds(task.engine_seconds)];
    });
    return table("Tasks", heads, rows, "Confidence is the median of the answers; tokens and time are those of all requests in the tables.");
  }

  function histogram({ totals }) {
    const bars = totals.tasks[0].bars.map((_, place) => totals.tasks.reduce((sum, task) => sum + task.bars[place], 0));
    const most = Math.max(...bars);
    if (!most) return null;
    const drawn = bars.map((count, place) => {
      const height = count ? Math.max((96 * count) / most, 1.5) : 0;
      const rect = svg("rect", { x: place * 20 + 1, y: 100 - height, width: 18, height, rx: 1.5 });
      rect.append(svg("title", {}, `${(place / 20).toFixed(2)} to ${((place + 1) / 20).toFixed(2)}: ${number(count)} answers`));
      return rect;
    });
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((tick) => {
      const anchor = tick === 0 ? "start" : tick === 1 ? "end" : "middle";
      return svg("text", { x: tick * 400, y: 116, "text-anchor": anchor }, String(tick));
    });
    const label = `Histogram of confidence: ${bars.map((count, place) => `${count} from ${place / 20}`).join(", ")}`;
    return el("section", { class: "card" }, el("h2", {}, "Confidence"),
      el("p", { class: "quiet" }, "Answers by how sure the engine was of the least certain part, 0 to 1."),
      svg("svg", { viewBox: "0 0 400 120", role: "img", "aria-label": label, class: "histogram" }, ...drawn, ...ticks));
  }

  /** What an evaluation has drawn: images, for the page is sent without anything else. */
  function quality({ plots }) {
    return plots.map(({ file, title, note }) => el("section", { class: "card" }, el("h2", {}, title), el("p", { class: "quiet" }, note),
      el("img", { src: file, alt: `${title}: ${note}`, class: "plot" })));
  }

  function failures({ totals }) {
    if (!totals.codes.length)
      return el("section", { class: "card" }, el("h2", {}, "What failed"), el("p", { class: "good" }, "Nothing: every input was read, and every question was answered."));
    const rows = totals.codes.map((code) => [
      code.answers ? el("a", { href: link({ code: code.code }) }, code.code) : code.code,
      number(code.inputs), number(code.answers),
      [el("span", {}, code.meaning || "–"), el("span", { class: "under" }, code.remedy ? `What to do: ${code.remedy}` : "")],
      el("details", {}, el("summary", {}, `${code.examples.length} example${code.examples.length === 1 ? "" : "s"}`),
        el("ul", {}, code.examples.map((example) => el("li", {}, example)))),
    ]);
    return table("What failed", [text("Code"), figure("Inputs"), figure("Answers"), text("Meaning"), text("Which")], rows);
  }

  function questions({ totals }) {
    const scored = totals.counts.gold > 0;
    const heads = [text("Question"), text("Answers"), figure("Rows"), figure("To review"), figure("Errors"), ...(scored ? [figure("Holds gold")] : []), figure("Confidence")];
    const rows = totals.questions.map(({ task, question_id, question, counts }) => [
      [el("a", { href: link({ question, task }) }, question || question_id), el("span", { class: "under" }, `${task} · ${question_id}`)],
      bar(counts), number(counts.rows), number(counts.review), number(counts.errors),
      ...(scored ? [counts.gold ? `${number(counts.right)} of ${number(counts.gold)}` : "–"] : []), format.confidence(counts.median_confidence)]);
    const all = totals.questions_in_all;
    return table("Questions", heads, rows, rows.length < all ? `The ${rows.length} of ${number(all)} with most to look at.` : "Those with most to look at first.");
  }

  function inputs({ totals }) {
    const rows = totals.kinds.map((kind) => [
      el("a", { href: link({ kind: kind.kind }) }, kind.kind), number(kind.inputs), number(kind.errors), number(kind.pages),
      number(kind.text_layer_pages), number(kind.blank_pages)]);
    const heads = [text("Kind"), figure("Inputs"), figure("With an error"), figure("Pages"), figure("With a text layer"), figure("Blank")];
    const languages = Object.entries(totals.languages).map(([name, count]) => `${name} ${number(count)}`).join(" · ");
    return table("Inputs", heads, rows, languages ? `Languages: ${languages}` : null);
  }

  function flat(settings, before = "") {
    return Object.entries(settings).flatMap(([name, value]) =>
      value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length
        ? flat(value, `${before}${name}.`)
        : [[`${before}${name}`, typeof value === "string" ? value : JSON.stringify(value)]]);
  }

  function pairs(entries) {
    return el("dl", { class: "pairs" }, entries.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  }

  function record({ run, hasSummary }) {
    return el("section", { class: "card" }, el("h2", {}, "Run"),
      pairs([["input", run.input ?? "–"], ["model", run.model], ["engine", run.engine], ["begun", format.date(run.begun)], ["ended", format.date(run.ended)],
        ["state", run.error ? `${run.state}: ${run.error}` : run.state]]),
      hasSummary ? el("p", {}, "What each shard took: ", el("a", { href: "../summary.md" }, "summary.md")) : null,
      el("details", {}, el("summary", {}, "Versions"), pairs(Object.entries(run.versions))),
      el("details", {}, el("summary", {}, "Settings of the last run"), pairs(flat(run.settings))));
  }

  function notes({ run }) {
    const missing = Object.entries(run.missing ?? {});
    const licence = run.licence;
    return [
      run.state === "complete" ? null : el("p", { class: "warning" }, `The run is ${run.state}${run.error ? `: ${run.error}` : ""}. The same command again goes on.`),
      missing.length ? el("p", { class: "warning" }, `Answers are missing: ${missing.map(([shard, count]) => `shard ${shard} ${number(count)}`).join("; ")}. Submit the same again to get them.`) : null,
      licence ? el("p", { class: "quiet" }, `${licence.notice} `, /^https:\/\//.test(licence.url) ? el("a", { href: licence.url, rel: "noreferrer" }, licence.name) : licence.name) : null,
    ];
  }

  on("begin", (summary) => {
    const { run, totals } = summary;
    document.title = `${summary.title}: docbatch report`;
    document.getElementById("title").textContent = summary.title;
    document.getElementById("answer-count").textContent = number(summary.rows);
    document.getElementById("overview").replaceChildren(
      el("p", { class: "subtitle" }, `${totals.tasks.map((task) => task.task).join(", ")} · ${run.model} · ${format.date(run.ended)}`),
      ...notes(summary).filter(Boolean),
      tiles(summary), tasks(summary), failures(summary),
      el("div", { class: "columns" }, ...[histogram(summary), ...quality(summary), inputs(summary)].filter(Boolean)),
      questions(summary), record(summary));
  });
})();
