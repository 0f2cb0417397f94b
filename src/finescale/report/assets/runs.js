/* The table of runs: drawn from the data block, sorted by its headings, downloaded as CSV. */
"use strict";

const RUNS = JSON.parse(document.getElementById("data").textContent).runs;

function cellText(value, digits) {
  if (value === null || value === "") return "–";
  if (typeof value !== "number") return String(value);
  if (digits !== undefined) return value.toFixed(digits);
  return Number.isInteger(value) ? value.toLocaleString("en") : String(+value.toPrecision(4));
}

/** Numbers by size, words by alphabet, what is missing last whichever the direction. */
function compare(a, b, direction) {
  const missing = (value) => value === null || value === "";
  if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b));
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en");
  return direction * order;
}

function csvField(value) {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv() {
  return [RUNS.columns, ...RUNS.rows].map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";
}

function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
  link.download = "runs.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function fill(body, shown, rows) {
  body.replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    for (const { index, digits, kind } of shown) {
      const cell = document.createElement("td");
      cell.textContent = cellText(row[index], digits);
      if (kind) cell.className = kind;
      line.append(cell);
    }
    return line;
  }));
}

function sortable(table) {
  const headings = [...table.tHead.rows[0].cells];
  const shown = headings.map((heading) => ({
    index: RUNS.columns.indexOf(heading.dataset.column),
    digits: heading.dataset.digits === undefined ? undefined : Number(heading.dataset.digits),
    kind: heading.className,
  }));
  headings.forEach((heading, i) => {
    heading.querySelector("button").addEventListener("click", () => {
      const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      const at = shown[i].index;
      fill(table.tBodies[0], shown, [...RUNS.rows].sort((a, b) => compare(a[at], b[at], direction)));
    });
  });
  fill(table.tBodies[0], shown, RUNS.rows);
}

sortable(document.getElementById("runs-table"));
document.getElementById("runs-csv").addEventListener("click", download);
