"use strict";
// The rows of the table: a few arrays, in which texts that repeat are held once.
(() => {
  const { on, emit, load } = docbatch;
  const store = {
    count: 0,
    total: 0,
    keys: [],
    page: [],
    confidence: [],
    answer: [],
    /** Answers as they are searched. */
    lower: [],
    /** Column → {values, lower, codes}: of each row the number of its value, or -1. */
    coded: {},
    /** Row of each key. */
    rows: new Map(),
  };
  docbatch.store = store;

  docbatch.searchable = (text) => text.normalize("NFKC").toLowerCase();

  docbatch.column = (name) =>
    (store.coded[name] ??= {
      values: [],
      lower: [],
      numbers: new Map(),
      codes: new Int32Array(store.total).fill(-1),
    });

  /** Return the number of a value of a column, a new one if need be. */
  docbatch.number = (column, value) => {
    let number = column.numbers.get(value);
    if (number === undefined) {
      number = column.values.length;
      column.numbers.set(value, number);
      column.values.push(value);
      column.lower.push(docbatch.searchable(value));
    }
    return number;
  };

  /** Return a row's value in a column of which many values are equal; null where there is none. */
  docbatch.value = (name, row) => {
    const column = store.coded[name];
    const code = column ? column.codes[row] : -1;
    return code < 0 ? null : column.values[code];
  };

  /** Called by data/table-….js. */
  docbatch.addRows = (chunk) => {
    const { first, keys } = chunk;
    keys.forEach((key, index) => store.rows.set(key, first + index));
    for (let index = 0; index < keys.length; index++) {
      store.keys.push(keys[index]);
      store.page.push(chunk.page[index]);
      store.confidence.push(chunk.confidence[index]);
      store.answer.push(chunk.answer[index]);
      store.lower.push(docbatch.searchable(chunk.answer[index]));
    }
    for (const [name, { values, codes }] of Object.entries(chunk.coded)) {
      const column = docbatch.column(name);
      const numbers = values.map((value) => docbatch.number(column, value));
      codes.forEach((code, index) => (column.codes[first + index] = code < 0 ? -1 : numbers[code]));
    }
    store.count += keys.length;
    emit("rows", first, store.count);
  };

  on("begin", async (summary) => {
    store.total = summary.rows;
    const file = (number) => `data/table-${String(number).padStart(4, "0")}.js`;
    try {
      for (let number = 0; number < summary.tableFiles; number++) {
        await load(file(number));
        // The first rows are seen before the others are read.
        await new Promise((resume) => setTimeout(resume, 0));
      }
      emit("loaded");
    } catch (error) {
      emit("failed", error);
    }
  });
})();
