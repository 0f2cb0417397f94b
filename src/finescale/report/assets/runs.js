/* The table of runs: drawn from the data block a screenful at a time, filtered, sorted, downloaded as CSV. */
"use strict";

let RUNS = null;
const AT_A_TIME = 200;
const TERM = /^([a-z_]+)(<=|>=|<|>|=)(.+)$/i;

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

/** What a term of the filter asks of a row: `column=value`, `column<number` …, or a word in any column shown. */
function asked(term, shown) {
  const [, name, sign, wanted] = term.match(TERM) ?? [];
  const at = name === undefined ? -1 : RUNS.columns.indexOf(name.toLowerCase());
  if (at < 0) return (row) => shown.some(({ index }) => String(row[index] ?? "").toLowerCase().includes(term));
  const number = Number(wanted);
  if (sign === "=") {
    return (row) => (typeof row[at] === "number" ? row[at] === number : String(row[at] ?? "").toLowerCase() === wanted);
  }
  const holds = { "<": (a) => a < number, ">": (a) => a > number, "<=": (a) => a <= number, ">=": (a) => a >= number };
  return (row) => typeof row[at] === "number" && holds[sign](row[at]);
}

function csvField(value) {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function download(rows) {
  const text = [RUNS.columns, ...rows].map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  link.download = "runs.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

class RunsTable {
  constructor(table) {
    this.body = table.tBodies[0];
    this.headings = [...table.tHead.rows[0].cells];
    this.shown = this.headings.map((heading) => ({
      index: RUNS.columns.indexOf(heading.dataset.column),
      digits: heading.dataset.digits === undefined ? undefined : Number(heading.dataset.digits),
      kind: heading.className,
    }));
    this.order = (rows) => rows;
    this.filter = document.getElementById("runs-filter");
    this.frame = table.closest(".scroll");
    this.table = table;
    this.headings.forEach((heading, i) => {
      heading.querySelector("button").addEventListener("click", () => this.sort(heading, this.shown[i].index));
    });
    this.filter.addEventListener("input", () => this.show());
    this.frame.addEventListener("scroll", () => this.more(), { passive: true });
    document.getElementById("runs-csv").addEventListener("click", () => download(this.rows));
    this.show();
  }

  sort(heading, at) {
    const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of this.headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    this.order = (rows) => [...rows].sort((a, b) => compare(a[at], b[at], direction));
    this.show();
  }

  show() {
    const terms = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean).map((term) => asked(term, this.shown));
    this.rows = this.order(RUNS.rows.filter((row) => terms.every((holds) => holds(row))));
    this.table.setAttribute("aria-rowcount", String(this.rows.length + 1));
    const [part, whole] = [this.rows.length, RUNS.rows.length].map((count) => count.toLocaleString("en"));
    document.getElementById("runs-count").textContent = `${part} of ${whole} shown`;
    this.body.replaceChildren(...this.rows.slice(0, AT_A_TIME).map((row) => this.line(row)));
    this.frame.scrollTop = 0;
  }

  /** The next rows, when the reader nears the end of those that are there. */
  more() {
    const there = this.body.rows.length;
    const near = this.frame.scrollTop + 2 * this.frame.clientHeight >= this.frame.scrollHeight;
    if (near && there < this.rows.length) {
      this.body.append(...this.rows.slice(there, there + AT_A_TIME).map((row) => this.line(row)));
    }
  }

  line(row) {
    const line = document.createElement("tr");
    for (const { index, digits, kind } of this.shown) {
      const cell = document.createElement("td");
      cell.textContent = cellText(row[index], digits);
      if (kind) cell.className = kind;
      line.append(cell);
    }
    return line;
  }
}

/** The table is made when the reader comes near it, or prints. */
function start() {
  NEAR.disconnect();
  if (RUNS !== null) return;
  const { runs } = JSON.parse(document.getElementById("data").textContent);
  RUNS = { columns: runs.columns, rows: rowsOf(runs) };
  new RunsTable(TABLE);
}

const TABLE = document.getElementById("runs-table");
const NEAR = new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) start(); }, { rootMargin: "100% 0px" });
NEAR.observe(TABLE.closest(".scroll"));
window.addEventListener("beforeprint", start);
