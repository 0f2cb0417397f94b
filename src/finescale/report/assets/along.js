/* Loss against every factor but the examples: one panel a number of examples, the rest held fixed as the reader chooses. */
"use strict";

class Along {
  constructor(root) {
    this.root = root;
    this.task = root.dataset.task;
    points(this.task);
    this.parts = DATA.along.filter((one) => one.task === this.task);
    this.hidden = new Set();
    this.log = DATA.scales[this.task].loss[0] > 0;
    this.choose(this.parts.reduce((best, one) => (this.count(one) > this.count(best) ? one : best)));
    DARK.addEventListener("change", () => { this.controls(); this.show(); });
  }

  count(part) { return part.panels.reduce((sum, panel) => sum + panel.series.reduce((all, one) => all + one.runs.length, 0), 0); }

  choose(part) {
    if (part.factor !== this.part?.factor) this.hidden.clear();
    this.part = part;
    this.controls();
    this.show();
  }

  /* --- controls -------------------------------------------------------------------------------------------------- */

  controls() {
    const parts = [this.factors(), this.fixed(), this.legend(), lossChoice(this.task, this.log, (log) => { this.log = log; this.draw(); })];
    this.root.querySelector(".controls").replaceChildren(...parts.filter(Boolean));
  }

  factors() {
    const firsts = [...new Map([...this.parts].reverse().map((one) => [one.factor, one])).values()].reverse();
    if (firsts.length < 2) return null;
    const again = () => this.root.querySelector('.factors [aria-pressed="true"]').focus();
    const made = choice("Against", firsts.map((one) => [one.short, one.factor === this.part.factor, () => { this.choose(one); again(); }]));
    made.classList.add("factors");
    return made;
  }

  fixed() {
    const same = this.parts.filter((one) => one.factor === this.part.factor);
    if (same.length < 2) return null;
    const options = same.map((one, i) => element("option", { value: i, text: one.fixed }));
    const select = element("select", { "aria-label": "What is held fixed" }, ...options);
    select.value = same.indexOf(this.part);
    select.addEventListener("input", () => {
      this.choose(same[Number(select.value)]);
      this.root.querySelector("select").focus();
    });
    return element("div", {}, element("span", { class: "of", text: "Held at" }), select);
  }

  legend() {
    const names = new Map(this.part.panels.flatMap((panel) => panel.series.map((one) => [one.name, one.look])));
    return legend("method", [...names].map(([name, look]) => [name, style("method", look)]), this.hidden, () => this.draw());
  }

  /* --- panels ---------------------------------------------------------------------------------------------------- */

  show() {
    const holder = this.root.querySelector(".panels"), { words, fixed, panels, factor } = this.part;
    cleared(holder);
    holder.replaceChildren(...panels.map((panel) => element("div", { class: "along-panel" },
      element("h4", { class: "panel-title", text: `${grouped(panel.examples)} examples` }), element("div", { class: "plot", role: "img" }))));
    this.root.querySelector(".along-axis").textContent = `${words}, on a logarithmic scale`;
    const still = ["the number of examples (one a panel)", ...(fixed ? [fixed] : []), factor === "pet_params" ? "method" : "method with its PET size"];
    const law = panels.some((panel) => panel.series.some((one) => one.law));
    this.root.querySelector(".along-caption").textContent =
      `Task ${this.task}: test loss against ${this.part.short}. Held fixed: ${still.join(", ")}. ` +
      (law ? "Lines and shade are the law along it, as above." : "The fit has no law of this factor: bars are the forecasts at each level, each by the fit of its own curve.");
    this.draw();
  }

  draw() {
    const ends = this.ends();
    this.root.querySelectorAll(".along-panel .plot").forEach((plot, i) => {
      const panel = this.part.panels[i], series = panel.series.filter((one) => !this.hidden.has(one.name));
      const said = series.map(({ name, runs }) => ({ name, runs: runs.map((at) => ALL[at]) }));
      plot.setAttribute("aria-label", spoken(`${grouped(panel.examples)} examples`, said, this.part.factor, this.part.short));
      whenNear(plot, () => this.drawPanel(plot, series, panel.x, ends));
    });
  }

  ends() {
    const runs = this.part.panels.flatMap((panel) => panel.series.flatMap((one) => one.runs)).map((at) => ALL[at][this.part.factor]);
    const [low, high] = [Math.min(...runs), Math.max(...runs)], margin = Math.max((high / low) ** 0.07, 1.1);
    const levels = [...new Set(runs)].sort((a, b) => a - b);
    return { range: [low / margin, high * margin], ticks: levels.length <= 4 ? levels : niceTicks(low / margin, high * margin, 5) };
  }

  drawPanel(plot, series, grid, { range, ticks }) {
    const { loss } = DATA.scales[this.task], factor = this.part.factor;
    const curves = series.map((one) => ({ ...one, look: style("method", one.look), rows: placed(one.curve, grid, factor) }));
    const laws = curves.filter((one) => one.law), levels = curves.filter((one) => !one.law);
    const traces = [
      ...laws.map(({ rows, look }) => band(rows, look, factor)),
      ...laws.map(({ rows, look, name }) => median(rows, look, name, factor)),
      ...levels.map(({ rows, look, name }) => bars(rows, look, name, factor)),
      ...curves.map(({ runs, look }) => dots(runs.map((at) => ALL[at]).filter((run) => run.drawn), look, loss, factor)),
    ];
    const made = lossAxis(layout({ examples: range, loss, ticks }), loss, this.log);
    Plotly.react(plot, traces, made, { responsive: true, displayModeBar: false });
  }
}

/** A curve's points; its places are the panel's unless it has its own. */
function placed(curve, grid, factor) {
  return (curve.x ?? grid).map((x, i) => ({ [factor]: x, median: curve.median[i], low: curve.low[i], high: curve.high[i] }));
}

/** Forecasts at single levels: a bar from low to high, a tick at the median. */
function bars(rows, look, label, factor) {
  return {
    ...median(rows, look, label, factor), mode: "markers",
    marker: { symbol: "line-ew-open", size: 11, color: look.colour, line: { width: 1.8 } },
    error_y: { type: "data", symmetric: false, array: rows.map((row) => row.high - row.median), arrayminus: rows.map((row) => row.median - row.low),
               color: faded(look.colour, 0.6), thickness: 1.4, width: 0 },
  };
}

for (const root of document.querySelectorAll("figure.along")) new Along(root);
