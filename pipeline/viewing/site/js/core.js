"use strict";
// One global object: a page that is opened from a file cannot load ES modules.
window.docbatch = (() => {
  const listeners = {};

  /** Call `listener` whenever `event` is emitted. */
  function on(event, listener) {
    (listeners[event] ??= []).push(listener);
  }

  function emit(event, ...values) {
    for (const listener of listeners[event] ?? []) listener(...values);
  }

  /** Make an element. Text is only ever set as text: what documents say never becomes markup. */
  function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === null || value === undefined || value === false) continue;
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (name === "style") Object.assign(made.style, value);
      else made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return made;
  }

  /** Make an element of SVG. */
  function svg(tag, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

  const format = {
    number: (value) => (value === null || value === undefined ? "–" : whole.format(value)),
    percent: (part, of) => (of ? `${((100 * part) / of).toFixed(1)} %` : "–"),
    confidence: (value) => (value === null || value === undefined ? "–" : value.toFixed(2)),
    /** Large numbers in three digits: 1.24 M. */
    short: (value) => {
      for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e4, " K"]])
        if (value >= size) return `${Number((value / Math.min(size, unit === " K" ? 1e3 : size)).toPrecision(3))}${unit}`;
      return whole.format(value);
    },
    seconds: (value) => {
      if (value === null || value === undefined) return "–";
      if (value < 10) return `${value.toFixed(1)} s`;
      if (value < 120) return `${Math.round(value)} s`;
      if (value < 7200) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
      return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
    },
    bytes: (value) => (value < 1e6 ? `${Math.ceil(value / 1e3)} KB` : `${(value / 1e6).toFixed(1)} MB`),
    date: (text) => (text ? `${text.slice(0, 10)} ${text.slice(11, 16)} UTC` : "–"),
  };

  /** Load a script that hands its data over by calling a function of this object. */
  function load(file) {
    return new Promise((resolve, reject) => {
      const script = el("script", { src: file, onload: resolve, onerror: () => reject(new Error(`${file}: cannot be read`)) });
      script.addEventListener("load", () => script.remove());
      document.head.append(script);
    });
  }

  return { on, emit, el, svg, format, load, summary: null };
})();
