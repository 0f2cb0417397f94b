/* Forecasts, advice and crossings from a fit's shipped draws: each function mirrors one of finescale.stats, whose name
   stands above it, in the same order of operations. A test holds the two sides together. */
"use strict";

const product = (z, t) => [Math.exp(-t.reduce((sum, one, k) => sum + one * z[k], 0)), 1];

/** stats.laws: columns of a law at log-factors z (examples last) for one draw of its shapes t. */
const LAWS = {
  constant: () => [1],
  power: product,
  multiplicative: product,
  product,
  additive: (z, t) => [Math.exp(-t[0] * z[0]), Math.exp(-t[1] * z[1]), 1],
  rectified: (z, t) => [1 / (Math.exp(t[1]) + Math.exp(t[0] * z.at(-1))), 1],
  "rectified-multiplicative": (z, t) => {
    const [beta, onset] = t.slice(-2);
    return [product(z, t.slice(0, -2))[0] / (1 + Math.exp(beta * (z.at(-1) - onset))), 1];
  },
  "rectified-moving": (z, t) => {
    const onset = t[2] + t[3] * (z[0] - Math.log(1e6));
    return [Math.exp(-t[0] * z[0]) / (1 + Math.exp(t[1] * (z.at(-1) - onset))), 1];
  },
  "loglog-line": (z, t) => [Math.exp(-t[0] * z.at(-1))],
};

/* --- numpy ----------------------------------------------------------------------------------------------------- */

const sorted = (values) => Float64Array.from(values).sort();

/** numpy.quantile of sorted values. */
function quantile(ordered, chance) {
  const place = (ordered.length - 1) * chance, below = Math.floor(place), t = place - below;
  const a = ordered[below], b = ordered[Math.min(below + 1, ordered.length - 1)];
  return t >= 0.5 ? b - (b - a) * (1 - t) : a + (b - a) * t;
}

/** numpy.quantile(method="inverted_cdf") of sorted values: one of them. */
function step(ordered, chance) {
  return ordered[Math.max(Math.ceil(ordered.length * chance - 1), 0)];
}

function interpolated(x, xs, ys) {
  if (x <= xs[0]) return ys[0];
  if (x >= xs.at(-1)) return ys.at(-1);
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  return ys[low] + ((ys[high] - ys[low]) / (xs[high] - xs[low])) * (x - xs[low]);
}

/* --- Python's format ------------------------------------------------------------------------------------------- */

/** f"{value:,.{digits}f}": what lies exactly between two goes to the even one. */
function grouped(value, digits = 0) {
  const scaled = Math.abs(value) * 2 ** (digits + 1);
  let text = Math.abs(value).toFixed(digits);
  if (Number.isInteger(scaled) && scaled % 2 === 1) {
    const down = Math.floor(Math.abs(value) * 10 ** digits);
    text = ((down % 2 ? down + 1 : down) / 10 ** digits).toFixed(digits);
  }
  const [whole, rest] = text.split(".");
  const sign = value < 0 ? "-" : "";
  return sign + whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest === undefined ? "" : `.${rest}`);
}

const fixed = (value, digits) => grouped(value, digits).replaceAll(",", "");
const per_cent = (share) => `${fixed(share * 100, 0)}%`;

/** f"{value:.{digits}g}" */
function general(value, digits) {
  const [mantissa, power] = value.toExponential(digits - 1).split("e");
  const trimmed = (text) => (text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  const exponent = Number(power);
  if (exponent < -4 || exponent >= digits) {
    return `${trimmed(mantissa)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  return trimmed(value.toFixed(Math.max(digits - 1 - exponent, 0)));
}

/* --- draws ----------------------------------------------------------------------------------------------------- */

/** stats.fits.Member.log_draws, added to ``out`` with the member's weights. */
function addMember(out, member, factors, examples) {
  const z = member.factors.map((name) => Math.log(name === "examples" ? examples : factors[name]));
  const law = LAWS[member.law], [P, M] = [member.shapes, member.coefficients];
  for (let b = 0; b < out.length; b += 1) {
    const columns = law(z, Array.from(member.theta.subarray(b * P, b * P + P)));
    let loss = 0;
    for (let m = 0; m < M; m += 1) loss += columns[m] * member.coef[b * M + m];
    out[b] += (member.weight ? member.weight[b] : 1) * Math.log(Math.max(loss, 1e-300));
  }
}

/** stats.fits.GroupFit.log_draws and stats.auto_fit.AutoFit.log_draws of curves. */
function logCurve(asked, examples, draws) {
  const out = new Float64Array(draws);
  if (asked.path) {
    const { x, centre, scale, run, unit } = asked.path, at = Math.log(examples);
    const middle = interpolated(at, x, centre), width = interpolated(at, x, scale);
    const spread = Math.sqrt(Math.max(width ** 2 - run ** 2, (0.5 * run) ** 2));
    return out.map((_, b) => middle + unit[b] * spread);
  }
  for (const member of asked.group.members) addMember(out, member, asked.factors, examples);
  if (asked.group.strain) {
    const far = Math.log(reach(asked, examples));
    for (let b = 0; b < draws; b += 1) out[b] += asked.group.strain[b] * far;
  }
  return out;
}

const curveOf = (asked, examples, draws) => logCurve(asked, examples, draws).map(Math.exp);

/** stats.whatif.WhatIf.draws of a new run. */
function runOf(asked, examples, draws) {
  return curveOf(asked, examples, draws).map((loss, b) => loss * Math.exp(asked.departure[b]));
}

/** stats.fits.GroupFit.reach; a curve of ``auto`` is measured by its own sizes. */
function reach(asked, examples) {
  let worst = 1;
  for (const [name, seen] of Object.entries(asked.group.support)) {
    const [low, high] = name === "examples" && asked.path ? asked.path.support : seen;
    const value = name === "examples" ? examples : asked.factors[name];
    worst = Math.max(worst, value / high, low / value);
  }
  return worst;
}

function summary(values, level) {
  const ordered = sorted(values);
  return { low: quantile(ordered, (1 - level) / 2), median: quantile(ordered, 0.5),
           high: quantile(ordered, (1 + level) / 2) };
}

/* --- advice ---------------------------------------------------------------------------------------------------- */

/** stats.advise._reasons */
function refusal(asked, examples, maxReach) {
  if (asked.group.refusal) return asked.group.refusal;
  if (asked.unknown) return asked.unknown;
  const far = reach(asked, examples);
  if (!(far > maxReach)) return "";
  return `${asked.name} with ${grouped(examples)} examples lies ${general(far, 4)} times beyond what was seen, ` +
    `more than ${general(maxReach, 6)} times.`;
}

/** stats.advise.advise without a target: rows beside the candidates, and the sentence. */
function advise(candidates, examples, level, about) {
  const rows = candidates.map((asked) => ({ asked, refused: refusal(asked, examples, about.max_reach), p_best: null }));
  const able = rows.filter((row) => row.refused === "");
  for (const row of able) {
    row.run = runOf(row.asked, examples, about.draws);
    row.reach = reach(row.asked, examples);
    Object.assign(row, summary(row.run, level));
    row.won = 0;
  }
  for (let b = 0; able.length && b < about.draws; b += 1) {
    able.reduce((best, row) => (row.run[b] < best.run[b] ? row : best)).won += 1;
  }
  for (const row of able) row.p_best = row.won / about.draws;
  const order = [...able].sort((a, b) => b.p_best - a.p_best || a.median - b.median);
  return { rows, best: order[0] ?? null, refused: !able.length || (able.length === 1 && rows.length > 1),
    sentence: inTask(sentence(rows, able, order, examples, level, about), candidates, about) };
}

/** stats.advise._by_loss */
function sentence(rows, able, order, examples, level, about) {
  if (!able.length) return `No advice.${tail(rows)}`;
  const [best, second] = order, amount = grouped(examples);
  if (able.length === 1 && rows.length > 1) {
    best.p_best = null;
    return `No advice: with ${amount} examples only ${best.asked.name} can be forecast, ${interval(best, level)}${about.unit}.${tail(rows)}`;
  }
  const among = able.length === rows.length ? "best" : `best of the ${able.length} that can be forecast`;
  const what = rows.length === 1 ? "the only candidate" : `${among} with probability ${sure(best.p_best)}`;
  let said = `With ${amount} examples, ${best.asked.name} is ${what}; forecast ${interval(best, level)}${about.unit}.`;
  if (second) {
    const [one, other] = [best, second].map((row) => curveOf(row.asked, examples, about.draws));
    const gap = quantile(sorted(other.map((loss, b) => loss - one[b])), 0.5);
    const behind = gap >= 0 ? `${fixed(gap, 3)}${about.unit} behind` : `${fixed(-gap, 3)}${about.unit} ahead in the median`;
    said += ` Next is ${second.asked.name}, ${behind}.`;
  }
  return said + tail(rows);
}

function interval(row, level) {
  return `${fixed(row.median, 3)} (${fixed(row.low, 3)} to ${fixed(row.high, 3)}, ${per_cent(level)} interval of a new run)`;
}

function tail(rows) {
  const refused = rows.filter((row) => row.refused);
  return refused.length ? ` ${refused.length} of ${rows.length} candidates were refused, the first because ${refused[0].refused}` : "";
}

function sure(probability) {
  return probability > 0.99 ? "above 0.99" : probability >= 0.01 ? fixed(probability, 2) : "below 0.01";
}

/** stats.advise._of_task */
function inTask(said, candidates, about) {
  return about.several_tasks ? `For ${candidates[0].task}: ${said[0].toLowerCase()}${said.slice(1)}` : said;
}

/* --- crossings ------------------------------------------------------------------------------------------------- */

const POINTS = 200;

function geometric(low, high, count) {
  const [a, b] = [Math.log10(low), Math.log10(high)];
  return Array.from({ length: count }, (_, i) => (i === 0 ? low : i === count - 1 ? high : 10 ** (a + (i * (b - a)) / (count - 1))));
}

/** stats.critical.critical_size of two candidates, over what both were seen over. */
function criticalSize(first, second, level, draws) {
  const [one, two] = [first, second].map((asked) => asked.group.support.examples);
  let [from, to] = [Math.max(one[0], two[0]), Math.min(one[1], two[1])];
  if (!(from < to)) [from, to] = [Math.min(one[0], two[0]), Math.max(one[1], two[1])];
  const grid = geometric(from, to, POINTS);
  const gaps = grid.map((examples) => {
    const other = curveOf(second, examples, draws);
    return curveOf(first, examples, draws).map((loss, b) => loss - other[b]);
  });
  const ends = gaps.at(-1).map((gap) => (gap < 0 ? 1 : 0));
  const below = share(gaps[0], (gap) => gap < 0), above = share(gaps.at(-1), (gap) => gap < 0);
  const sizes = new Float64Array(draws);
  for (let b = 0; b < draws; b += 1) sizes[b] = crossing(grid, gaps, b, (ends[b] === 1) === (above >= 0.5));
  const crossed = share(sizes, (size) => Number.isFinite(size) && size > 0), ordered = sorted(sizes);
  const [low, median, high] = [(1 - level) / 2, 0.5, (1 + level) / 2].map((chance) => (crossed ? step(ordered, chance) : NaN));
  const found = { a: first.method, b: second.method, from, to, share: crossed, low, median, high,
    better_below: below >= 0.5 ? first.method : second.method, better_above: above >= 0.5 ? first.method : second.method,
    sure_below: Math.max(below, 1 - below), sure_above: Math.max(above, 1 - above) };
  return { ...found, verdict: verdict(found, level) };
}

const negative = (value) => value < 0 || Object.is(value, -0);

/** stats.critical.crossing_of for one draw. */
function crossing(grid, gaps, b, already) {
  for (let i = 0; i + 1 < grid.length; i += 1) {
    const [left, right] = [gaps[i][b], gaps[i + 1][b]];
    if (negative(left) !== negative(right)) {
      const [x, next] = [Math.log(grid[i]), Math.log(grid[i + 1])];
      return Math.exp(x + ((next - x) * left) / (left - right));
    }
  }
  return already ? 0 : Infinity;
}

function share(values, holds) {
  let count = 0;
  for (const value of values) count += holds(value) ? 1 : 0;
  return count / values.length;
}

/** stats.critical._verdict */
function verdict(found, level) {
  const { a, b, from, to, low, high } = found, span = `${grouped(from)} to ${grouped(to)} examples`;
  if (found.share >= 0.5 && found.better_below !== found.better_above) {
    const other = found.better_above === a ? b : a;
    const least = low > 0 ? grouped(low) : `below ${grouped(from)}`;
    const most = Number.isFinite(high) ? grouped(high) : `beyond ${grouped(to)}`;
    const doubt = Math.min(found.share, found.sure_below, found.sure_above) >= level ? "" : ", if at all";
    return `${found.better_above} overtakes ${other} at ${grouped(found.median)} examples${doubt} (${per_cent(level)} interval ` +
      `${least} to ${most}; ${per_cent(found.share)} of draws cross inside ${span}).`;
  }
  const least = Math.min(found.sure_below, found.sure_above);
  if (found.share < 0.5 && found.better_below === found.better_above && least >= level) {
    const worse = found.better_below === a ? b : a;
    return `no crossing inside the range (${span}): ${found.better_below} beats ${worse} throughout in ${per_cent(least)} of draws.`;
  }
  return `undecided: ${per_cent(found.share)} of draws cross inside ${span}; more seeds or a wider range would tell.`;
}
