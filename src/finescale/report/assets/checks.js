/* Residuals against each factor, and calibration: two figures that say how far the law may be believed. */
"use strict";

const BESIDE = 0.035;

class Residuals {
  constructor(root) {
    this.root = root;
    this.runs = points(root.dataset.task).filter((run) => !run.flag && run.residual !== null);
    this.methods = DATA.names.method.filter((name) => this.runs.some((run) => run.method_label === name));
    this.tell();
    this.show();
    DARK.addEventListener("change", () => this.show());
  }

  tell() {
    for (const panel of this.root.querySelectorAll(".residual-panel")) {
      const said = this.methods.map((name) => {
        const mine = this.runs.filter((run) => run.method_label === name).map((run) => 100 * run.residual);
        return `${name} between ${fixed(Math.min(...mine), 1)} and ${fixed(Math.max(...mine), 1)} per cent`;
      });
      const title = panel.querySelector(".panel-title").textContent;
      panel.querySelector(".plot").setAttribute("aria-label", `Residuals against ${title}: ${said.join("; ")}.`);
    }
  }

  show() {
    this.root.querySelector(".key").replaceChildren(...this.methods.map((name) => element("span", {}, swatch(style("method", name)), name)),
      ...(this.runs.some((run) => run.held_out) ? [element("span", { text: "ringed: held out" })] : []));
    for (const panel of this.root.querySelectorAll(".residual-panel")) {
      whenNear(panel.querySelector(".plot"), () => this.draw(panel.querySelector(".plot"), panel.dataset.factor));
    }
  }

  draw(plot, factor) {
    const runs = this.runs.filter((run) => run.drawn && run[factor] > 0), values = runs.map((run) => run[factor]);
    const most = 1.1 * Math.max(...runs.map((run) => Math.abs(100 * run.residual)), 0.1);
    const [low, high] = [Math.min(...values), Math.max(...values)], wide = Math.max(high / low, 1.5);
    const traces = this.methods.map((name, i) => {
      const aside = wide ** (BESIDE * (i - (this.methods.length - 1) / 2)), look = style("method", name);
      const mine = runs.filter((run) => run.method_label === name);
      return { ...dots(mine, look, [-Infinity, Infinity]), x: mine.map((run) => run[factor] * aside), y: mine.map((run) => 100 * run.residual),
               text: mine.map((run) => `<b>${fixed(100 * run.residual, 2)}%</b> from the curve<br>${told(run)}`) };
    });
    const ends = [low / wide ** 0.08, high * wide ** 0.08];
    const levels = [...new Set(values)].sort((a, b) => a - b);
    const made = layout({ examples: ends, loss: [-most, most], ticks: levels.length <= 5 ? levels : niceTicks(...ends, 5) });
    made.yaxis.ticksuffix = "%";
    made.shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: ink("--soft"), width: 1.2 } }];
    Plotly.react(plot, traces, made, { responsive: true, displayModeBar: false });
  }
}

class Calibration {
  constructor(plot, tested) {
    this.plot = plot;
    this.tested = tested;
    const said = tested.level.map((level, i) => `${per_cent(level)} intervals held ${tested.inside[i]} of ${tested.runs[i]}`);
    plot.setAttribute("aria-label", `Calibration on runs held out: ${said.join("; ")}.`);
    whenNear(plot, () => this.draw());
    DARK.addEventListener("change", () => whenNear(plot, () => this.draw()));
  }

  draw() {
    const { level, actual, low, high, inside, runs } = this.tested, percents = (shares) => shares.map((share) => 100 * share);
    const nominal = percents(level), accent = ink("--accent"), soft = ink("--soft");
    const shade = { x: [...nominal, ...[...nominal].reverse()], y: [...percents(low), ...percents(high).reverse()], mode: "lines",
                    line: { width: 0 }, fill: "toself", fillcolor: faded(soft, 0.2), hoverinfo: "skip" };
    const ideal = { x: [0, 100], y: [0, 100], mode: "lines", line: { color: soft, width: 1.2, dash: "dash" }, hoverinfo: "skip" };
    const found = {
      x: nominal, y: percents(actual), mode: "lines+markers", line: { color: accent, width: 1.6 }, marker: { size: 8, color: accent }, cliponaxis: false,
      text: level.map((share, i) => `${per_cent(share)} intervals held <b>${per_cent(actual[i])}</b>: ${inside[i]} of ${runs[i]} runs<br>by chance ${per_cent(low[i])} to ${per_cent(high[i])}`),
      hovertemplate: "%{text}<extra></extra>",
    };
    const made = layout({ examples: [1, 10], loss: [0, 100], ticks: [] });
    Object.assign(made.xaxis, { type: "linear", range: [0, 100], tickvals: [0, 25, 50, 75, 100], ticktext: ["0", "25", "50", "75", "100"] });
    Object.assign(made.yaxis, { tickvals: [0, 25, 50, 75, 100] });
    Plotly.react(this.plot, [shade, ideal, found], made, { responsive: true, displayModeBar: false });
  }
}

for (const root of document.querySelectorAll("figure.residuals")) new Residuals(root);
if (DATA.calibration.level.length) new Calibration(document.getElementById("calibration-plot"), DATA.calibration);
