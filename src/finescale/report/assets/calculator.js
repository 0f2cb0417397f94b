/* The what-if calculator: reads the controls, asks laws.js, and shows what it says. Text goes through textContent. */
"use strict";

const EVERY = "every base";
const CURVE_POINTS = 60;
const BEYOND_WORDS = "beyond what was seen";
const WORDS = new Set(["Method", "Base", "Critical data size"]);

class Calculator {
  constructor(about) {
    this.about = about;
    this.groups = about.groups.map(unpackedGroup);
    this.candidates = about.candidates.map((one) => unpackedCandidate(one, this.groups));
    this.fill("task", this.tasks());
    this.forTask();
    for (const one of document.querySelectorAll("#what-if-form input, #what-if-form select")) {
      one.addEventListener("input", () => this.changed(one));
    }
    DARK.addEventListener("change", () => this.update());
    this.update();
  }

  field(name) { return document.getElementById(`what-if-${name}`); }
  value(name) { return this.field(name).value; }
  number(name) { return this.value(name) === "" ? null : Number(this.value(name)); }
  tasks() { return [...new Set(this.candidates.map((one) => one.task))]; }
  ofTask() { return this.candidates.filter((one) => one.task === this.tasks()[Number(this.value("task"))]); }

  /** Options are numbered, so that no name is ever read back from the page. */
  fill(name, words, chosen = 0) {
    this.field(name).replaceChildren(...words.map((text, i) => element("option", { value: i, text })));
    this.field(name).value = chosen;
    this.field(name).closest(".what-if-input").hidden = words.length < 2;
  }

  /* --- controls ------------------------------------------------------------------------------------------------- */

  forTask() {
    const mine = this.ofTask(), [low, high] = this.span(mine, "examples");
    this.bases = this.about.bases.filter((base) => mine.some((one) => one.base === base));
    this.methods = [...new Set(mine.map((one) => one.method))];
    this.fill("base", [EVERY, ...this.bases]);
    this.fill("a", this.methods);
    this.fill("b", this.methods, Math.min(1, this.methods.length - 1));
    this.limits = { examples: [low / this.about.max_reach, high * this.about.max_reach] };
    this.set("examples", mine[0].examples);
    this.moveRange("level");
    this.forBase();
  }

  forBase() {
    const base = this.base(), mine = this.ofTask().filter((one) => one.base === base);
    this.own = {};
    for (const name of ["model_params", "pretrain_tokens", "pet_params"]) {
      if (!this.field(name)) continue;
      const with_ = mine.filter((one) => one.group.factors?.includes(name));
      const usable = with_.length > 0;
      for (const one of [this.field(name), this.field(`${name}-range`)]) one.disabled = !usable;
      if (!usable) { this.field(name).value = ""; continue; }
      const [low, high] = this.span(with_, name);
      this.limits[name] = [low / this.about.max_reach, high * this.about.max_reach];
      this.own[name] = with_[0].factors[name];
      this.set(name, this.own[name]);
    }
  }

  base() { return Number(this.value("base")) === 0 ? null : this.bases[Number(this.value("base")) - 1]; }

  span(candidates, name) {
    const seen = candidates.map((one) => one.group.support[name]).filter(Boolean);
    if (!seen.length) return [candidates[0].examples, candidates[0].examples];
    return [Math.min(...seen.map((pair) => pair[0])), Math.max(...seen.map((pair) => pair[1]))];
  }

  set(name, value) {
    this.field(name).value = value;
    this.moveRange(name);
  }

  /** Ranges are logarithmic, but for the level. */
  moveRange(name) {
    const range = this.field(`${name}-range`), value = this.number(name);
    if (!range || !(value > 0)) return;
    if (name === "level") {
      Object.assign(range, { min: 50, max: 99, step: 1 });
      range.value = value;
    } else {
      const [low, high] = this.limits[name].map(Math.log);
      range.value = Math.round((1000 * (Math.log(value) - low)) / (high - low || 1));
    }
    range.setAttribute("aria-valuetext", Number(value).toLocaleString("en"));
  }

  changed(one) {
    const name = one.id.replace("what-if-", "").replace(/-range$/, "");
    if (one.type === "range" && name === "level") this.field(name).value = one.value;
    else if (one.type === "range") {
      const [low, high] = this.limits[name].map(Math.log);
      const value = Math.exp(low + ((high - low) * Number(one.value)) / 1000);
      this.field(name).value = Number(value.toPrecision(3)) >= 1 ? Math.round(Number(value.toPrecision(3))) : 1;
      one.setAttribute("aria-valuetext", Number(this.value(name)).toLocaleString("en"));
    } else if (one.type === "number") this.moveRange(name);
    if (name === "task") this.forTask();
    if (name === "base") this.forBase();
    this.update();
  }

  /* --- what is asked --------------------------------------------------------------------------------------------- */

  /** Factors that were changed from those of the chosen base. */
  changes() {
    const changed = Object.entries(this.own).map(([name, was]) => [name, this.number(name), was]);
    return Object.fromEntries(changed.filter(([, value, was]) => value > 0 && value !== was).map(([name, value]) => [name, value]));
  }

  asked() {
    const base = this.base(), mine = this.ofTask().filter((one) => base === null || one.base === base);
    const changes = this.changes();
    if (!Object.keys(changes).length) return mine;
    const once = mine.filter((one, i) => !("pet_params" in changes) || !one.group.factors?.includes("pet_params") ||
      mine.findIndex((other) => other.method === one.method) === i);
    return once.map((one) => this.elsewhere(one, changes));
  }

  /** A candidate as it would be with other factors: a base nobody ran. */
  elsewhere(one, changes) {
    const heeded = Object.keys(changes).filter((name) => one.group.factors?.includes(name));
    const unheeded = Object.keys(changes).filter((name) => name !== "pet_params" && !heeded.includes(name));
    const factors = { ...one.factors, ...changes };
    const name = `${one.said} on a base of ${grouped(factors.model_params)} parameters`;
    const unknown = unheeded.length ? `the law of ${one.method} does not say what ${unheeded[0].replace("_", " ")} changes.` : "";
    return { ...one, factors, name, unknown: one.unknown || unknown, fresh: true, seconds: [],
             departure: heeded.length ? one.group.fresh : one.departure };
  }

  fault() {
    const examples = this.number("examples"), level = this.number("level");
    if (!(examples >= 1)) return "Give a number of examples of at least 1.";
    if (!(level > 0 && level < 100)) return "Give the interval as a number between 0 and 100 per cent.";
    const wrong = Object.keys(this.own).find((name) => !(this.number(name) > 0));
    if (wrong) return `Give a number above 0 for ${wrong.replace("_", " ")}.`;
    const price = ["label-price", "hour-price"].find((name) => this.number(name) !== null && !(this.number(name) >= 0));
    return price ? "Give prices of at least 0, or none." : "";
  }

  /* --- showing --------------------------------------------------------------------------------------------------- */

  update() {
    const fault = this.fault();
    const said = this.field("said");
    said.classList.toggle("refusal", fault !== "");
    for (const name of ["plot", "table", "crossing", "curves", "caption", "key"]) this.field(name).hidden = fault !== "";
    if (fault) { said.textContent = fault; return; }
    const examples = this.number("examples"), level = this.number("level") / 100;
    const found = advise(this.asked(), examples, level, this.about);
    said.textContent = found.sentence;
    said.classList.toggle("refusal", found.refused);
    this.showTable(found, examples);
    const base = this.base() ?? found.best?.asked.base ?? this.bases[0];
    const there = found.rows.map((row) => row.asked).filter((asked) => asked.base === base);
    this.showCrossing(there, level);
    this.showFigure(there, examples, level);
  }

  cost(asked, examples) {
    const [label, hour] = [this.number("label-price"), this.number("hour-price")];
    const hours = hoursOf(asked.seconds, examples);
    const counted = [label === null ? null : label * examples, hour === null || hours === null ? null : hour * hours];
    const sum = counted.reduce((total, part) => (part === null ? total : (total ?? 0) + part), null);
    const without = hour !== null && hours === null ? "without computing: no time was measured" : "";
    return { hours, sum, without };
  }

  showTable(found, examples) {
    const heads = ["Method", ...(this.base() === null ? ["Base"] : []), "Best", "Forecast", "Beyond what was seen", "Device-hours", "Cost"];
    const order = [...found.rows].sort((a, b) => (a.refused !== "") - (b.refused !== "") || b.p_best - a.p_best || a.median - b.median);
    const rows = order.map((row) => this.row(row, row === found.best && row.p_best !== null, examples, order.length === 1));
    this.field("table").replaceChildren(framed("Every candidate at this size; the interval is that of one new run", heads, rows));
  }

  row(row, best, examples, alone) {
    const { hours, sum, without } = this.cost(row.asked, examples);
    const line = element("tr", { class: best ? "chosen" : "" });
    Object.assign(line.dataset, { name: row.asked.name, median: row.median ?? "", low: row.low ?? "", high: row.high ?? "",
      best: row.p_best ?? "", reach: row.reach ?? "", cost: sum ?? "", hours: hours ?? "", refused: row.refused });
    line.append(element("th", { scope: "row", text: row.asked.label }));
    if (this.base() === null) line.append(element("td", { text: row.asked.base }));
    if (row.refused) {
      line.append(element("td", { class: "text warn", colspan: 3, text: row.refused }));
    } else {
      const forecast = element("td", { class: "num", text: `${fixed(row.median, 3)} ` });
      forecast.append(element("span", { class: "interval", text: `[${fixed(row.low, 3)}, ${fixed(row.high, 3)}]` }));
      line.append(element("td", { class: "num", text: alone ? "–" : chance(row.p_best) }), forecast,
        element("td", { class: row.reach > 1 ? "num warn" : "num", text: row.reach > 1 ? `${general(row.reach, 3)} times` : "no" }));
    }
    const cost = element("td", { class: "num", text: sum === null ? "not counted" : sum.toLocaleString("en", { maximumFractionDigits: 2 }) });
    if (without) cost.append(element("small", { text: without }));
    line.append(element("td", { class: "num", text: hours === null ? "not measured" : Number(hours.toPrecision(3)).toString() }), cost);
    return line;
  }

  showCrossing(there, level) {
    const said = this.field("crossing");
    const [a, b] = ["a", "b"].map((name) => this.methods[Number(this.value(name))]);
    const pair = [a, b].map((method) => there.find((asked) => asked.method === method));
    said.dataset.crossing = "";
    if (a === b) { said.textContent = "Choose two methods to see where they cross."; return; }
    const silent = [a, b].find((_, i) => !pair[i] || pair[i].group.refusal || pair[i].unknown);
    if (silent !== undefined) {
      const one = pair[[a, b].indexOf(silent)];
      said.textContent = `${a} and ${b}: ${one?.group.refusal || one?.unknown || `no run of ${silent} learned anything here`}`;
      return;
    }
    const far = pair.find((asked) => reach(asked, asked.group.support.examples[0]) > this.about.max_reach);
    if (far) { said.textContent = `${a} and ${b}: ${refusal(far, far.group.support.examples[0], this.about.max_reach)}`; return; }
    const found = criticalSize(...pair, level, this.about.draws);
    said.dataset.crossing = JSON.stringify([found.low, found.median, found.high].map(String));
    const where = pair[0].fresh ? `a base of ${grouped(pair[0].factors.model_params)} parameters` : `base ${pair[0].base}`;
    said.textContent = `On ${where}: ${found.verdict}`;
  }

  /* --- the figure ------------------------------------------------------------------------------------------------ */

  showFigure(there, examples, level) {
    whenNear(this.field("plot"), () => this.drawFigure(there, examples, level));
  }

  drawFigure(there, examples, level) {
    const series = there.map((asked) => this.series(asked, level)).filter((one) => one.curve.length);
    const traces = series.flatMap((one) => [...one.bands, ...one.lines]);
    const values = series.flatMap((one) => one.curve.flatMap((row) => [row.low, row.high]));
    const where = there[0] ? (there[0].fresh ? `a base of ${grouped(there[0].factors.model_params)} parameters` : `base ${there[0].base}`) : "";
    this.field("caption").textContent = series.length
      ? `Expected loss on ${where} with the ${per_cent(level)} band of each curve. Hatched and thin: ${BEYOND_WORDS}. The upright line is the size asked for.`
      : "No curve can be shown here: every candidate is refused, for the reasons in the table.";
    this.field("plot").hidden = !series.length;
    this.field("key").replaceChildren(...series.map((one) => element("span", {}, swatch(one.look), one.label)));
    this.showCurves(series);
    if (!series.length) return;
    const pad = 0.05 * (Math.max(...values) - Math.min(...values) || 1);
    const made = layout({ examples: this.limits.examples, loss: [Math.min(...values) - pad, Math.max(...values) + pad], ticks: niceTicks(...this.limits.examples, 6) });
    made.shapes = [{ type: "line", x0: examples, x1: examples, yref: "paper", y0: 0, y1: 1, line: { color: ink("--ink"), width: 1, dash: "dot" } }];
    made.annotations = this.edges(series);
    this.field("plot").setAttribute("aria-label", `Expected loss against finetuning examples on ${where}: ` +
      series.map((one) => `${one.label} from ${nats(one.curve[0].median)} to ${nats(one.curve.at(-1).median)}`).join("; "));
    Plotly.react(this.field("plot"), traces, made, { responsive: true, displayModeBar: false });
  }

  /** Words at the edges of what was seen, where curves go on beyond it. */
  edges(series) {
    const seen = series.flatMap((one) => one.curve.filter((row) => row.reach <= 1).map((row) => row.examples));
    if (!seen.length) return [note(BEYOND_WORDS, 0.5, "center", true)];
    const words = this.field("plot").clientWidth < 500 ? BEYOND_WORDS.replaceAll(" ", "<br>") : BEYOND_WORDS;
    return [note(`${words} ▸`, Math.log10(Math.max(...seen)), "left"), note(`◂ ${words}`, Math.log10(Math.min(...seen)), "right")];
  }

  series(asked, level) {
    const look = style("method", asked.label), draws = this.about.draws, made = { asked, look, label: asked.label, curve: [] };
    if (asked.group.refusal || asked.unknown) return made;
    const [low, high] = asked.path ? asked.path.support : asked.group.support.examples;
    const [least, most] = this.limits.examples;
    const sizes = [...geometric(least, most, CURVE_POINTS), low, high].sort((a, b) => a - b);
    made.curve = sizes.map((examples) => ({ examples, reach: reach(asked, examples) }))
      .filter((row) => row.reach <= this.about.max_reach)
      .map((row) => ({ ...row, ...summary(curveOf(asked, row.examples, draws), level) }));
    const outside = Object.keys(asked.group.support).some((name) => name !== "examples" &&
      (asked.factors[name] > asked.group.support[name][1] || asked.factors[name] < asked.group.support[name][0]));
    const pieces = outside ? [[made.curve, true]] : [
      [made.curve.filter((row) => row.examples <= low), true],
      [made.curve.filter((row) => row.examples >= low && row.examples <= high), false],
      [made.curve.filter((row) => row.examples >= high), true],
    ];
    made.bands = pieces.map(([curve, beyond]) => ({ ...band(curve, look), ...(beyond ? hatched(look) : {}) }));
    made.lines = pieces.map(([curve, beyond]) => {
      const line = median(curve, look, asked.label);
      return { ...line, line: { ...line.line, width: beyond ? 1 : 2 } };
    });
    return made;
  }

  showCurves(series) {
    const heads = ["Method", "Examples", "Median", "Low", "High", "Beyond what was seen"];
    const rows = series.flatMap((one) => one.curve.filter((_, i) => i % 8 === 0).map((row) => {
      const cells = [grouped(row.examples), fixed(row.median, 3), fixed(row.low, 3), fixed(row.high, 3), row.reach > 1 ? `${general(row.reach, 3)} times` : "no"];
      return element("tr", {}, element("th", { scope: "row", text: one.label }), ...cells.map((text) => element("td", { class: "num", text })));
    }));
    this.field("curves").replaceChildren(framed(`Expected loss${DATA.unit && `,${DATA.unit}`}`, heads, rows));
  }
}

function hatched(look) {
  return { fillcolor: faded(look.colour, 0.05),
           fillpattern: { shape: "/", fgcolor: faded(look.colour, 0.55), bgcolor: faded(look.colour, 0.04), size: 7, solidity: 0.16 } };
}

function note(text, x, xanchor, paper = false) {
  return { text, x, xanchor, xref: paper ? "paper" : "x", y: 1, yref: "paper", yanchor: "top", showarrow: false,
           font: { size: 11, color: ink("--soft") } };
}

function chance(share) {
  if (share === null) return "–";
  return share < 0.01 ? "< 1%" : share > 0.99 ? "> 99%" : `${fixed(Number(fixed(share, 2)) * 100, 0)}%`;
}

/** Hours of one run: interpolated between measured sizes, in proportion above the largest; null if none was measured. */
function hoursOf(seconds, examples) {
  if (!seconds.length) return null;
  const [last, most] = seconds.at(-1);
  if (examples > last) return (most * examples) / last / 3600;
  const [x, y] = [0, 1].map((k) => seconds.map((pair) => Math.log(pair[k])));
  return Math.exp(interpolated(Math.log(examples), x, y)) / 3600;
}

function framed(caption, heads, rows) {
  const row = element("tr", {}, ...heads.map((text) => element("th", { scope: "col", class: WORDS.has(text) ? "" : "num", text })));
  const made = element("table", {}, element("thead", {}, row), element("tbody", {}, ...rows));
  const frame = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, made);
  return element("figure", { class: "table" }, element("figcaption", { text: caption }), frame);
}

function unpackedGroup(group) {
  const members = group.members.map((one) => ({ ...one, theta: floats(one.theta), coef: floats(one.coef),
    weight: one.weight === null ? null : floats(one.weight) }));
  return { ...group, members, strain: group.strain ? floats(group.strain) : null, fresh: group.fresh ? floats(group.fresh) : null };
}

function unpackedCandidate(one, groups) {
  const group = groups[one.group], stranger = group.members.find((member) => !LAWS[member.law]);
  let unknown = stranger ? `this page cannot compute the law ${stranger.law}; finescale advise can.` : "";
  let path = null;
  if (one.path && !group.refusal) {
    if (one.path.x) {
      path = { ...one.path };
      for (const name of ["x", "centre", "scale", "unit"]) path[name] = floats(one.path[name]);
    } else unknown = `${one.name} has no curve of its own, which this page needs; finescale advise can answer.`;
  }
  return { ...one, group, path, unknown, departure: floats(one.departure) };
}

if (DATA.what_if) new Calculator(DATA.what_if);
