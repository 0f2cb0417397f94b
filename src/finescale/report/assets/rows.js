/* Tables of the data block as they were before they were packed; every script that reads one has this file. */
"use strict";

/** packing.columnar: where a column has levels, its cells are their places among them. */
function rowsOf({ levels, rows }) {
  return rows.map((row) => row.map((cell, i) => (levels[i] === null ? cell : levels[i][cell])));
}
