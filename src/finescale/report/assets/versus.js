/* The critical-size map: one pair of methods at a time, shaded by how probably one beats the other. */
"use strict";

const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];
const KINDS = { expected: "Expected loss", run: "One new run of each" };
const LOWER = { expected: "has the lower expected loss", run: "has the lower loss of one new run of each" };
const EDGE = "#111111", CORE = "#ffffff";

class Versus {
  constructor(maps) {
    this.maps = maps.map((one) => {
      const [expected, run] = ["expected", "run"].map((kind) => sharesOf(one.shares[kind], one.examples.length));
      return { ...one, shares: { expected, run } };
    });
    this.kind = "expected";
    this.plot = document.getElementById("versus-plot");
    this.controls();
    whenNear(this.plot, () => this.draw());
    DARK.addEventListener("change", () => whenNear(this.plot, () => this.draw()));
    this.tell();
  }

  get map() { return this.maps[this.at ?? 0]; }

  controls() {
    const choice = element("select", { id: "versus-pair" }, ...this.maps.map((one, i) => element("option", { value: i, text: one.title })));
    choice.addEventListener("input", () => { this.at = Number(choice.value); this.tell(); this.draw(); });
    const pair = element("div", {}, element("label", { for: "versus-pair", class: "of", text: "Methods" }), choice);
    const kinds = element("div", { class: "choice", role: "group", "aria-label": "What the shade is about" }, element("span", { class: "of", text: "Shade" }));
    for (const [kind, text] of Object.entries(KINDS)) {
      const button = element("button", { type: "button", text, "aria-pressed": String(kind === this.kind) });
      button.addEventListener("click", () => {
        this.kind = kind;
        for (const other of kinds.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
        this.tell();
        this.draw();
      });
      kinds.append(button);
    }
    document.getElementById("versus-controls").replaceChildren(pair, kinds);
  }

  /* --- words ----------------------------------------------------------------------------------------------------- */

  tell() {
    const { a, b, sizes } = this.map;
    document.getElementById("versus-up").textContent = sizes ? "Model parameters without embeddings, on a logarithmic scale" : "Base";
    document.getElementById("versus-caption").textContent =
      `${this.map.title}: the probability that ${a} ${LOWER[this.kind]}. Blank: too far beyond what was seen of ${a} or of ${b}.`;
    document.getElementById("versus-key").replaceChildren(this.scale(a, b), ...this.marks());
    this.plot.setAttribute("aria-label", `${this.map.title}. ${this.rows().map(([name, verdict]) => `${name}: ${verdict}`).join(" ")}`);
    document.getElementById("versus-table").replaceChildren(this.table());
  }

  /** Rows that were run, or all where nothing lies between, with their verdicts. */
  rows() {
    const ran = new Set(this.map.seen.row);
    return this.map.labels.flatMap((name, i) => (ran.has(i) ? [[name, this.map.verdicts[i], i]] : []));
  }

  scale(a, b) {
    const bar = element("span", { class: "shade-scale", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${CIVIDIS.join(", ")})`;
    return element("span", { class: "shade-words" }, element("span", { text: `0% ${a} (${b} surely lower)` }), bar, element("span", { text: `100% ${a}` }));
  }

  marks() {
    return [element("span", { text: "━ critical data size" }), element("span", { text: "─ its interval" }), element("span", { text: "○ runs" }), element("span", { text: "dashed frame: what both were run with" })];
  }

  table() {
    const { examples, shares, a, b } = this.map, every = examples.map((_, i) => i).filter((i) => i % 8 === 0);
    const heads = ["Base", "Critical data size", ...every.map((i) => `at ${grouped(examples[i])}`)];
    const lines = this.rows().map(([name, verdict, row]) => {
      const cells = every.map((i) => element("td", { class: "num", text: shares[this.kind][row][i] === null ? "–" : chance(shares[this.kind][row][i]) }));
      return element("tr", {}, element("th", { scope: "row", text: name }), element("td", { class: "text", text: verdict }), ...cells);
    });
    return framed(`${this.map.title}: probability that ${a} ${LOWER[this.kind]} (else ${b}), on each base that was run, by examples`, heads, lines);
  }

  /* --- the picture ----------------------------------------------------------------------------------------------- */

  draw() {
    const map = this.map, up = map.sizes ?? map.labels.map((_, i) => i);
    const shade = {
      type: "heatmap", x: map.examples, y: up, z: map.shares[this.kind], zmin: 0, zmax: 1, showscale: false, hoverongaps: false,
      colorscale: CIVIDIS.map((colour, i) => [i / (CIVIDIS.length - 1), colour]), text: this.said(), hovertemplate: "%{text}<extra></extra>",
    };
    Plotly.react(this.plot, [shade, ...this.frame(map, up), ...this.lines(map, up), this.dots(map, up)], this.layout(map, up), { responsive: true, displayModeBar: false });
  }

  said() {
    const { examples, labels, a, b, shares, verdicts } = this.map;
    return shares[this.kind].map((row, r) => row.map((share, i) => (share === null ? "" : [
      `${plain(labels[r])}, ${grouped(examples[i])} examples`, `<b>${chance(share)}</b> that ${plain(a)} ${LOWER[this.kind]}, else ${plain(b)}`,
      plain(verdicts[r]),
    ].join("<br>"))));
  }

  /** The median crossing and its interval where they lie inside what was looked at; none where most draws do not cross. */
  lines(map, up) {
    const inside = (value, i) => (Number.isFinite(value) && value >= map.from[i] && value <= map.to[i] ? value : null);
    const line = (values, line_, extra = {}) => {
      const kept = values.map((value, i) => (map.crosses[i] ? inside(value, i) : null));
      const [x, y] = map.sizes ? [kept, up] : [kept.flatMap((value) => [value, value, null]), up.flatMap((at) => [at - 0.5, at + 0.5, null])];
      return { x, y, mode: "lines", connectgaps: false, line: line_, hoverinfo: "skip", ...extra };
    };
    const pair = (values, width) => [line(values, { color: EDGE, width: width + 2 }), line(values, { color: CORE, width })];
    return [...pair(map.low, 1), ...pair(map.high, 1), ...pair(map.median, 3)];
  }

  /** What both methods were run with. */
  frame(map, up) {
    const [x0, x1, y0 = null, y1] = map.frame, [low, high] = y0 === null ? [-0.5, up.length - 0.5] : [y0, y1];
    return [{ color: EDGE, width: 2.2 }, { color: CORE, width: 1, dash: "dash" }].map((line) => (
      { x: [x0, x1, x1, x0, x0], y: [low, low, high, high, low], mode: "lines", line, hoverinfo: "skip" }));
  }

  dots(map, up) {
    return {
      x: map.seen.examples, y: map.seen.row.map((row) => up[row]), mode: "markers", cliponaxis: false,
      marker: { symbol: "circle", size: 6, color: CORE, line: { color: EDGE, width: 1.2 } },
      text: map.seen.said.map((said, i) => `${plain(map.labels[map.seen.row[i]])}, ${grouped(map.seen.examples[i])} examples<br>runs that learned: ${plain(said)}`),
      hovertemplate: "%{text}<extra></extra>",
    };
  }

  layout(map, up) {
    const ends = [map.examples[0], map.examples.at(-1)];
    const made = layout({ examples: ends, loss: [up[0], up.at(-1)], ticks: niceTicks(...ends, 6) });
    if (map.sizes) {
      const ticks = niceTicks(up[0], up.at(-1), 6);
      Object.assign(made.yaxis, { type: "log", range: [up[0], up.at(-1)].map(Math.log10), tickvals: ticks, ticktext: ticks.map(short) });
    } else {
      Object.assign(made.yaxis, { range: [-0.5, up.length - 0.5], tickvals: up, ticktext: map.labels.map(wrapped), automargin: true });
    }
    made.yaxis.showgrid = false;
    this.plot.style.height = map.sizes ? "" : `${Math.min(24, 4 + 2.2 * up.length)}rem`;
    return made;
  }
}

/** A name in lines of at most 18 letters, broken after what parts words where it can be. */
function wrapped(text) {
  const lines = [""];
  for (const piece of text.match(/[^\s@_/-]*[\s@_/-]?/gu).flatMap((word) => word.match(/.{1,18}/gu) ?? [])) {
    if ((lines.at(-1) + piece).trimEnd().length > 18) lines.push("");
    lines[lines.length - 1] += piece;
  }
  return lines.map((line) => plain(line.trim())).join("<br>");
}

if (DATA.versus.length) new Versus(DATA.versus);
