"use strict";
// Page images, with what the answer quotes marked where it stands.
(() => {
  const { el } = docbatch;

  function mark([x0, y0, x1, y1]) {
    const percent = (share) => `${(100 * share).toFixed(3)}%`;
    return el("span", { class: "box", style: { left: percent(x0), top: percent(y0), width: percent(x1 - x0), height: percent(y1 - y0) } });
  }

  function name(image) {
    return image.ordinal === image.number ? `page ${image.number}` : `page ${image.ordinal} of the folder: ${image.source}, page ${image.number}`;
  }

  function sheet(image) {
    if (!image.file) {
      const why = image.missing ?? "this page was not drawn; report.pages=all draws every page";
      return el("p", { class: "missing" }, `No image of ${name(image)}: ${why}.`);
    }
    const picture = el("img", {
      src: `pages/${image.file}`, width: image.width, height: image.height, loading: "lazy", decoding: "async",
      alt: `${image.source}, ${name(image)}${image.boxes.length ? `, ${image.boxes.length} lines marked` : ""}`,
      onerror: () => sheetPlace.replaceChildren(el("p", { class: "missing" }, `The image of ${name(image)} is not beside this page: pages/${image.file}.`)),
    });
    const sheetPlace = el("div", { class: "sheet" }, picture, ...image.boxes.map(mark));
    return sheetPlace;
  }

  /** Return a viewer of the pages of an answer, those with evidence first. */
  docbatch.viewer = (images) => {
    if (!images.length) return el("div", { class: "viewer" }, el("p", { class: "missing" }, "This answer names no page."));
    const ordered = [...images].sort((one, other) => (other.boxes?.length > 0) - (one.boxes?.length > 0));
    const stage = el("div", { class: "stage", tabindex: "0", role: "region", "aria-label": "Page image" });
    const tabs = ordered.map((image) =>
      el("button", { type: "button", class: "page-tab", "aria-pressed": "false", onclick: () => show(image) },
        `Page ${image.ordinal}`, image.boxes?.length ? el("span", { class: "dot", title: "the quote stands here" }) : null));
    const zoom = el("button", { type: "button", "aria-pressed": "false", title: "Zoom (z)", onclick: () => toggleZoom() }, "Zoom");

    function toggleZoom() {
      const is = stage.classList.toggle("zoomed");
      zoom.setAttribute("aria-pressed", String(is));
      reveal();
    }

    /** Scroll to what is marked. */
    function reveal() {
      const [box] = stage.querySelectorAll(".box");
      if (!box) return;
      stage.scrollTop = box.offsetTop - stage.clientHeight / 3;
      stage.scrollLeft = box.offsetLeft - 40;
    }

    function show(image) {
      stage.replaceChildren(sheet(image));
      tabs.forEach((tab, index) => tab.setAttribute("aria-pressed", String(ordered[index] === image)));
      stage.scrollTop = 0;
      requestAnimationFrame(reveal);
    }

    const made = el("div", { class: "viewer" }, el("div", { class: "viewer-bar" }, el("div", { class: "tabs" }, tabs), zoom), stage);
    made.toggleZoom = toggleZoom;
    show(ordered[0]);
    return made;
  };
})();
