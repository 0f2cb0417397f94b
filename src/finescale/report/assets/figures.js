/* Draws the figures of the page from the data block. Text reaches the document through textContent only. */
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);

/** Whether figures are drawn for a dark page; paper is light whatever the reader's choice. */
class Scheme extends EventTarget {
  #media = window.matchMedia("(prefers-color-scheme: dark)");
  #printing = false;

  constructor() {
    super();
    this.#media.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    for (const [name, printing] of [["beforeprint", true], ["afterprint", false]]) window.addEventListener(name, () => this.#print(printing));
  }

  get matches() { return this.#media.matches && !this.#printing; }

  #print(printing) {
    this.#printing = printing;
    document.documentElement.toggleAttribute("data-print", printing);
    if (this.#media.matches) this.dispatchEvent(new Event("change"));
  }
}

const DARK = new Scheme();

/** Rows of a table as objects. */
function records(table) {
  return rowsOf(table).map((row) => Object.fromEntries(table.columns.map((name, i) => [name, row[i]])));
}

const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer;

/** packing.packed: little-endian floats of as many bytes as the first letter says. */
function floats(text) {
  return text[0] === "4" ? new Float32Array(bytes(text.slice(1))) : new Float64Array(bytes(text.slice(1)));
}

/** packing.packed_shares: rows of so many shares, null where nothing is said. */
function sharesOf(text, columns) {
  const every = Array.from(new Uint16Array(bytes(text)), (one) => (one === 65535 ? null : one / 1e4));
  return Array.from({ length: every.length / columns }, (_, row) => every.slice(row * columns, (row + 1) * columns));
}

/** The fitted curves of a task, a row per point. */
function curvesOf(task) {
  return records(DATA.curves).filter((one) => one.task === task).flatMap(({ median, low, high, ...of }) =>
    DATA.curves.sizes[task].map((examples, i) => ({ ...of, examples, median: median[i], low: low[i], high: high[i] })));
}

/** Runs of a task with what the figures say about them; made once, since thousands of them take their time. */
function points(task) {
  if (!BY_TASK.size) {
    const columns = [...DATA.runs.columns, ...DATA.marks.columns];
    const marks = rowsOf(DATA.marks);
    rowsOf(DATA.runs).forEach((row, i) => {
      const values = [...row, ...marks[i]];
      const run = Object.fromEntries(columns.map((name, at) => [name, values[at]]));
      ALL.push(run);
      if (!BY_TASK.has(run.task)) BY_TASK.set(run.task, []);
      BY_TASK.get(run.task).push(run);
    });
  }
  return BY_TASK.get(task) ?? [];
}

const BY_TASK = new Map(), ALL = [];

/** Plotly reads a little markup in its labels; names are shown as they are. */
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function element(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "text") made.textContent = value;
    else if (key === "class") made.className = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function faded(colour, alpha) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${alpha})`;
}

function short(value) {
  for (const [unit, letter] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= unit) return `${+(value / unit).toPrecision(3)}${letter}`;
  }
  return String(+Number(value).toPrecision(3));
}

function nats(value) {
  return Number.isFinite(value) ? value.toFixed(3) : "no finite loss";
}

function style(kind, name) {
  const found = DATA.styles[kind][name];
  return { ...found, colour: found[DARK.matches ? "dark" : "light"] };
}

/** Ticks of a log axis, evenly spaced: powers of ten, or 1 and 3 times them, or 1, 2 and 5, whichever gives a few. */
function niceTicks(low, high, most) {
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]]) {
    const all = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) all.push(...steps.map((step) => step * 10 ** power));
    const inside = all.filter((value) => value >= low * 0.999 && value <= high * 1.001), every = Math.ceil(inside.length / most);
    if (inside.length > 2) return inside.filter((_, i) => (inside.length - 1 - i) % every === 0);
  }
  return [low, high];
}

/* --- drawing what is near -------------------------------------------------------------------------------------- */

const WAITING = new Map();
const NEAR = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) if (isIntersecting) drawNow(target);
}, { rootMargin: "60% 0px" });

/** Draw a figure once the reader comes near it, or prints: a page of many figures opens without drawing them all. */
function whenNear(holder, draw) {
  if (holder.querySelector(".main-svg")) { draw(); return; }
  WAITING.set(holder, draw);
  NEAR.unobserve(holder);
  NEAR.observe(holder);
}

function drawNow(holder) {
  const draw = WAITING.get(holder);
  WAITING.delete(holder);
  NEAR.unobserve(holder);
  if (draw) draw();
}

window.addEventListener("beforeprint", () => [...WAITING.keys()].forEach(drawNow));

const SHAPES = {
  circle: (x, y) => `M${x - 4},${y}a4,4 0 1,0 8,0a4,4 0 1,0 -8,0`,
  square: (x, y) => `M${x - 3.6},${y - 3.6}h7.2v7.2h-7.2z`,
  diamond: (x, y) => `M${x},${y - 5}l5,5l-5,5l-5,-5z`,
  "triangle-up": (x, y) => `M${x},${y - 4.6}l4.8,8.6h-9.6z`,
  "triangle-down": (x, y) => `M${x},${y + 4.6}l4.8,-8.6h-9.6z`,
  pentagon: (x, y) => `M${x},${y - 4.8}l4.6,3.3l-1.8,5.4h-5.6l-1.8,-5.4z`,
};
const DASHES = { solid: "", dash: "5 3", dot: "1.5 2.5", dashdot: "5 2 1.5 2", longdash: "8 3" };

function swatch(look) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", "0 0 24 14");
  picture.setAttribute("aria-hidden", "true");
  for (const [d, filled] of [["M0,7H24", false], [SHAPES[look.symbol](12, 7), true]]) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", d);
    path.setAttribute(filled ? "fill" : "stroke", look.colour);
    if (!filled) {
      path.setAttribute("stroke-width", "1.8");
      path.setAttribute("stroke-dasharray", DASHES[look.dash]);
    }
    picture.append(path);
  }
  return picture;
}

/* --- one panel ------------------------------------------------------------------------------------------------- */

/** What a place along a factor is called. */
const PLACES = {
  examples: (value) => `${Math.round(value).toLocaleString("en")} examples`,
  model_params: (value) => `${short(value)} model parameters`,
  pretrain_tokens: (value) => `${short(value)} pretraining tokens`,
  pet_params: (value) => `${short(value)} trained parameters`,
};

function band(curve, look, along = "examples") {
  const there = curve.filter((row) => row.low !== null && row.high !== null);
  const back = [...there].reverse();
  return {
    x: [...there, ...back].map((row) => row[along]),
    y: [...there.map((row) => row.high), ...back.map((row) => row.low)],
    mode: "lines", line: { width: 0 }, fill: "toself", fillcolor: faded(look.colour, 0.16), hoverinfo: "skip",
  };
}

function median(curve, look, label, along = "examples") {
  return {
    x: curve.map((row) => row[along]), y: curve.map((row) => row.median), mode: "lines",
    line: { color: look.colour, width: 1.8, dash: look.dash },
    text: curve.map((row) => [
      `the law, ${plain(label)}`, PLACES[along](row[along]),
      `<b>${nats(row.median)}</b>${plain(DATA.unit)} [${nats(row.low)}, ${nats(row.high)}]`,
    ].join("<br>")),
    hovertemplate: "%{text}<extra></extra>",
  };
}

function told(run) {
  const lines = [
    `<b>${nats(run.loss)}</b>${plain(DATA.unit)}` + (run.loss_low === null || run.loss_low === undefined ? "" :
      ` [${nats(run.loss_low)}, ${nats(run.loss_high)}]`),
    `${plain(run.method_label)} on ${plain(run.base_label)}, ${Number(run.examples).toLocaleString("en")} examples`,
    `learning rate ${run.learning_rate ?? "not recorded"}, seed ${run.seed ?? "not recorded"}`,
    `run ${plain(run.run ?? "without an id")}`,
  ];
  if (run.held_out) lines.push("held out: the fit never saw it");
  if (run.flag) lines.push(`kept out of the fit: ${plain(run.flag)}`);
  return [...lines, ...command(run)].join("<br>");
}

/** The command that makes a run, in its study's folder or in a new one with the same study.toml. */
function command(run) {
  if (DATA.commands === null) return ["no command: the runs came as a table"];
  if (!run.run) return [];
  const id = /^[\w@%+=:,./-]+$/.test(run.run) ? run.run : `'${run.run.replaceAll("'", `'"'"'`)}'`;
  const [verb, option] = [DATA.commands.slice(0, -"--only ".length), "--only "];
  return ["made by", `${plain(verb)}\\`, `&nbsp;&nbsp;${option}${plain(id)}`];
}

function dots(runs, look, range, along = "examples") {
  const held = (run) => run.held_out && !run.flag;
  const over = (run) => !Number.isFinite(run.loss) || run.loss > range[1];
  return {
    x: runs.map((run) => run[along]),
    y: runs.map((run) => (over(run) ? range[1] : run.loss)),
    mode: "markers", cliponaxis: false, text: runs.map(told), hovertemplate: "%{text}<extra></extra>",
    marker: {
      symbol: runs.map((run) => (over(run) ? "triangle-up-open" : look.symbol + (run.flag ? "-open" : ""))),
      size: runs.map((run) => (held(run) ? 10 : 8)),
      color: look.colour, opacity: 0.9,
      line: { color: runs.map((run) => (held(run) ? ink("--ink") : look.colour)),
              width: runs.map((run) => (held(run) ? 1.8 : run.flag ? 1.4 : 0)) },
    },
  };
}

function untouchedLine(rows, colour, range) {
  return rows.map((row) => ({
    x: range, y: [row.zero_loss, row.zero_loss], mode: "lines", line: { color: colour, width: 1.2, dash: "dash" },
    text: range.map(() => `${plain(row.base_label)} untouched: <b>${nats(row.zero_loss)}</b>${plain(DATA.unit)}`),
    hovertemplate: "%{text}<extra></extra>",
  }));
}

function layout(scale) {
  const axis = { gridcolor: ink("--grid"), linecolor: ink("--rule"), zeroline: false, fixedrange: true,
                 tickcolor: ink("--rule"), ticks: "outside", ticklen: 4, automargin: false };
  return {
    margin: { l: 46, r: 12, t: 10, b: 30 }, showlegend: false, dragmode: false, hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: ink("--sans"), size: 12, color: ink("--soft") },
    hoverlabel: { bgcolor: ink("--paper"), bordercolor: ink("--rule"), align: "left",
                  font: { family: ink("--sans"), size: 12.5, color: ink("--ink") } },
    xaxis: { ...axis, type: "log", range: scale.examples.map(Math.log10), tickvals: scale.ticks, showgrid: false,
             ticktext: scale.ticks.map(short), tickangle: 0 },
    yaxis: { ...axis, range: scale.loss, nticks: 7 },
  };
}

/** The loss on a logarithmic or a linear scale. */
function lossAxis(made, range, log) {
  if (log) Object.assign(made.yaxis, { type: "log", range: range.map(Math.log10) });
  return made;
}

function choice(words, options) {
  const buttons = options.map(([text, pressed, press]) => {
    const button = element("button", { type: "button", text, "aria-pressed": String(pressed) });
    button.addEventListener("click", press);
    return button;
  });
  return element("div", { class: "choice", role: "group", "aria-label": words }, element("span", { class: "of", text: words }), ...buttons);
}

/** Logarithmic or linear loss; nothing to choose where the axis reaches zero. */
function lossChoice(task, log, change) {
  if (!(DATA.scales[task].loss[0] > 0)) return null;
  const made = choice("Loss axis", [["log", log], ["linear", !log]].map(([text, pressed]) => [text, pressed, () => {
    for (const other of made.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other.textContent === text));
    change(text === "log");
  }]));
  return made;
}

/** Buttons that hide and show series; ``looks`` is pairs of name and look. */
function legend(what, looks, hidden, draw) {
  return element("div", { class: "legend", role: "group", "aria-label": `Show or hide a ${what}` }, ...looks.map(([name, look]) => {
    const button = element("button", { type: "button", "aria-pressed": String(!hidden.has(name)) }, swatch(look), element("span", { text: name }));
    button.addEventListener("click", () => {
      if (!hidden.delete(name)) hidden.add(name);
      button.setAttribute("aria-pressed", String(!hidden.has(name)));
      draw();
    });
    return button;
  }));
}

/** Forget the plots of panels that are taken away. */
function cleared(holder) {
  for (const old of holder.querySelectorAll(".plot")) {
    WAITING.delete(old);
    NEAR.unobserve(old);
    Plotly.purge(old);
  }
}

/* --- a figure of small multiples ------------------------------------------------------------------------------- */

function spoken(title, series, along = "examples", words = "finetuning examples") {
  const parts = series.map(({ name, runs }) => {
    const good = runs.filter((run) => !run.flag && Number.isFinite(run.loss)).sort((a, b) => a[along] - b[along]);
    if (!good.length) return `${name}: no run that learned`;
    const [first, last] = [good[0], good.at(-1)];
    return `${name} from ${nats(first.loss)} at ${PLACES[along](first[along])} to ${nats(last.loss)} at ${PLACES[along](last[along])}`;
  });
  return `${title}. Test loss${DATA.unit && ` in${DATA.unit}`} against ${words}: ${parts.join("; ")}.`;
}

class Multiples {
  /** One figure: ``per`` names what a panel holds ("base" or "method"), the other one is told apart by colour. */
  constructor(root) {
    this.root = root;
    const task = root.dataset.task;
    const ofTask = (rows) => rows.filter((row) => row.task === task);
    this.part = {
      task, runs: points(task), curves: curvesOf(task), untouched: ofTask(records(DATA.untouched)),
    };
    this.scale = DATA.scales[task];
    this.log = this.scale.loss[0] > 0;
    this.cells = new Map();
    for (const run of this.part.runs) {
      const cell = `${run.base_label}\n${run.method_label}`;
      if (!this.cells.has(cell)) this.cells.set(cell, []);
      this.cells.get(cell).push(run);
    }
    this.hidden = new Set();
    this.show(root.dataset.per);
    DARK.addEventListener("change", () => this.show(this.per));
  }

  names(kind) {
    const present = new Set(this.part.runs.map((run) => run[`${kind}_label`]));
    return DATA.names[kind].filter((name) => present.has(name));
  }

  show(per) {
    if (per !== this.per) this.hidden.clear();
    this.per = per;
    this.by = per === "base" ? "method" : "base";
    this.controls();
    const holder = this.root.querySelector(".panels");
    cleared(holder);
    holder.replaceChildren(...this.names(per).map((name) => this.panel(name)));
    this.draw();
  }

  controls() {
    const cut = choice("One panel per", ["base", "method"].map((kind) => [kind, kind === this.per, () => {
      this.show(kind);
      this.root.querySelector('.choice [aria-pressed="true"]').focus();
    }]));
    const shown = legend(this.by, this.names(this.by).map((name) => [name, style(this.by, name)]), this.hidden, () => this.draw());
    const axis = lossChoice(this.part.task, this.log, (log) => { this.log = log; this.draw(); });
    this.root.querySelector(".controls").replaceChildren(cut, shown, ...(axis ? [axis] : []));
  }

  panel(name) {
    const title = element("h4", { class: "panel-title", text: name });
    const params = this.part.runs.find((run) => run.base_label === name)?.model_params;
    if (this.per === "base" && params) title.append(element("span", { text: `  ${short(params)} parameters` }));
    return element("div", { class: "panel", "data-name": name }, title, element("div", { class: "plot", role: "img" }));
  }

  draw() {
    for (const panel of this.root.querySelectorAll(".panel")) {
      panel.querySelector(".plot").setAttribute("aria-label", spoken(panel.dataset.name, this.series(panel)));
      whenNear(panel.querySelector(".plot"), () => this.drawPanel(panel));
    }
  }

  series(panel) {
    const inPanel = (row) => row[`${this.per}_label`] === panel.dataset.name;
    return this.names(this.by).filter((name) => !this.hidden.has(name)).map((name) => {
      const mine = (row) => inPanel(row) && row[`${this.by}_label`] === name;
      const [base, method] = this.per === "base" ? [panel.dataset.name, name] : [name, panel.dataset.name];
      return { name, look: style(this.by, name), runs: this.cells.get(`${base}\n${method}`) ?? [], curve: this.part.curves.filter(mine) };
    });
  }

  drawPanel(panel) {
    const series = this.series(panel);
    const traces = [
      ...this.untouched(panel.dataset.name, series.map(({ name }) => name)),
      ...series.map(({ curve, look }) => band(curve, look)),
      ...series.map(({ curve, look, name }) => median(curve, look, name)),
      ...series.map(({ runs, look }) => dots(runs.filter((run) => run.drawn), look, this.scale.loss)),
    ];
    Plotly.react(panel.querySelector(".plot"), traces, lossAxis(layout(this.scale), this.scale.loss, this.log), { responsive: true, displayModeBar: false });
  }

  untouched(panel, names) {
    const line = (rows, colour) => untouchedLine(rows, colour, this.scale.examples);
    const of = (base) => this.part.untouched.filter((row) => row.base_label === base);
    if (this.per === "base") return line(of(panel), ink("--soft"));
    return names.flatMap((base) => line(of(base), style("base", base).colour));
  }
}

for (const root of document.querySelectorAll("figure.multiples")) new Multiples(root);
