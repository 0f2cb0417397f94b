"""The claims of Zhang et al. 2024, each judged on a table of runs: holds, fails or undecided, and on what evidence.

How a verdict is reached, and what is done about many tests within a claim, is in ``finescale.stats.verdicts``. Between
claims nothing is corrected: each is its own question, at its own level.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

import finescale
from finescale.errors import collecting
from finescale.stats.ability import against_full, cluster_means, read_probes, subject
from finescale.stats.correlate import DRAWS as CORRELATION_DRAWS
from finescale.stats.correlate import measured, metrics_of, resampled
from finescale.stats.laws import Array
from finescale.stats.protocol import DRAWS, Fitted, Protocol, protocol
from finescale.stats.slices import Settings, cut, each_slice, slice_table
from finescale.stats.verdicts import Claim, Piece, Region, Rule, judge, of_draws, of_means

MARGIN = 0.01
"""Equivalence margin of the PET-size exponent: a doubling of PET size moves the reducible loss by less than 0.7 %."""
PREDICTS = 0.5
"""Least correlation, turned so that better goes with better, at which loss is said to predict quality."""
MULTIPLICITY = (
    "Within a claim: one that is about every piece of evidence holds only if each holds (an intersection-union test, "
    "no correction needed) and fails if one fails at a Bonferroni-corrected level; a claim of existence the other way "
    "round. Between claims and tasks nothing is corrected: each verdict is at its own level."
)
ORDER = ("full", "lora", "prompt")
Tell = Callable[[str], None]


def silent(line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Evidence:
    """What claims are judged on: cells of runs, the protocol's fits of each, probes, level and seed."""

    cells: list[Settings]
    fits: dict[tuple[str, str], Protocol]
    probes: pd.DataFrame | None
    seed: int

    @cached_property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(cell.task for cell in self.cells))

    def whole(self, task: str, method: str) -> Fitted | None:
        """The multiplicative law on all settings of a task and method, if it could be fitted."""
        one = self.fits.get((task, method))
        return one.whole if one is not None and isinstance(one.whole, Fitted) else None

    def runs(self, task: str, method: str, *factors: str) -> list[str]:
        return self.fits[task, method].cell.runs_of(*factors)["run"].astype(str).tolist()


@dataclass(frozen=True)
class Claims:
    """Every claim judged, the slices behind them, and what could not be fitted and why.

    ``note`` says what a reader must know of the runs as a whole: that a study is not finished, for one.
    """

    claims: list[Claim]
    slices: pd.DataFrame
    unfitted: dict[str, str]
    level: float
    draws: int
    note: str = ""

    def __getitem__(self, name: str) -> Claim:
        for claim in self.claims:
            if claim.name == name:
                return claim
        raise KeyError(name)

    @property
    def table(self) -> pd.DataFrame:
        """One row per claim and task, ``overall`` first: verdict, statistic, interval, runs, sentence, version, …"""
        rows = [
            {"claim": claim.name, **vars(found), "runs": len(found.runs), "version": finescale.__version__}
            for claim in self.claims
            for found in (claim.overall, *claim.tasks)
        ]
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, runs by their ids."""
        return {
            "level": self.level,
            "draws": self.draws,
            "note": self.note,
            "multiplicity": MULTIPLICITY,
            "claims": [claim.to_dict() for claim in self.claims],
            "slices": self.slices.to_dict("records"),
            "unfitted": self.unfitted,
        }

    def __str__(self) -> str:
        lines = [self.note, ""] if self.note else []
        for claim in self.claims:
            lines += [f"{claim.overall.verdict.upper():<10} {claim.name}: {claim.words}"]
            lines += [f"    {_told(found)}" for found in (claim.overall, *claim.tasks)]
            lines += [f"    measured: {claim.statistic}", f"    rule: {claim.rule}"]
            lines += [f"    to decide it: {claim.needs}"] if claim.needs else []
        lines += ["", "Slices (the paper's: one factor and the examples vary, the rest stands still)"]
        lines += [
            f"    {row['task']}, {row['method']}, {row['factor']}: {row['words']}"
            for row in self.slices.to_dict("records")
        ]
        lines += [f"    {label}: no fit: {why}" for label, why in self.unfitted.items()]
        return "\n".join([*lines, "", MULTIPLICITY])


def _told(found: Any) -> str:
    if not np.isfinite(found.statistic):
        return f"{found.task}: {found.verdict}; {found.sentence}"
    bounds = f" [{found.low:.3g}, {found.high:.3g}]" if np.isfinite(found.low) else " (no interval)"
    return f"{found.task}: {found.verdict}; {found.statistic:.3g}{bounds}; {found.sentence}; {len(found.runs)} runs"


def claims(
    runs: Any,
    probes: pd.DataFrame | None = None,
    level: float = 0.9,
    draws: int = DRAWS,
    seed: int = 0,
    note: str = "",
    tell: Tell = silent,
) -> Claims:
    """Judge the paper's claims on a table of runs.

    Args:
        runs: a table of runs, or what ``read_runs`` takes; columns as in ``finescale.core``, and generation metrics
            (``bleu``, ``chrf``, ``rouge_l`` …) where there are any.
        probes: the long table of probes (run, probe, metric, value, zero_value and the run's columns), if there is one.
        level: probability of the intervals; a claim's verdict errs with at most (1 - level) / 2 in each direction.
        draws: refits behind every interval.
        note: what a reader must know of these runs as a whole; it stands first.
        tell: is told, in a line each, what is being done.

    Raises:
        InputError: the tables are at fault, or ``level`` or ``draws`` is out of range.
    """
    return judge_all(gather(runs, probes, draws, seed, level, tell), level, note)


def gather(
    runs: Any, probes: pd.DataFrame | None, draws: int, seed: int, level: float = 0.9, tell: Tell = silent
) -> Evidence:
    """Cut the table into slices and carry out the protocol on every task and method."""
    check_asked(level, draws)
    known = read_probes(probes) if probes is not None and len(probes) else None
    cells = cut(runs)
    fits = {}
    for number, cell in enumerate(cells, 1):
        tell(f"Fitting {cell.label} ({number} of {len(cells)})")
        fits[cell.task, cell.method] = protocol(cell, draws, seed)
    return Evidence(cells, fits, known, seed)


def check_asked(level: float, draws: int) -> None:
    """Refuse a level or a number of draws that no verdict can stand on.

    Raises:
        InputError: ``level`` is not between 0.5 and 1, or ``draws`` are fewer than 20; both are told at once.
    """
    with collecting() as faults:
        if not 0.5 < level < 1:
            faults.add("level", f"{level} is not between 0.5 and 1", "0.9 is usual")
        if draws < 20:
            faults.add("draws", f"{draws} are too few for an interval", "200 is usual")


def judge_all(evidence: Evidence, level: float, note: str = "") -> Claims:
    """Judge every claim on evidence that was gathered."""
    judged = [judge(rule, list(pieces(evidence)), level) for rule, pieces in RULES]
    unfitted = {one.cell.label: one.whole for one in evidence.fits.values() if isinstance(one.whole, str)}
    draws = min((len(one.losses) - 1 for one in evidence.fits.values() if len(one.losses) > 1), default=0)
    return Claims(judged, slice_table(evidence.cells), unfitted, level, draws, note)


# --------------------------------------------------------------------------------------------- pieces of evidence


def _forms(evidence: Evidence) -> Iterator[Piece]:
    for cell, factor in each_slice(evidence.cells):
        gain = evidence.fits[cell.task, cell.method].gain(factor)
        if gain is not None:
            where = {"task": cell.task, "method": cell.method, "factor": factor}
            yield of_draws(where, gain, evidence.runs(cell.task, cell.method, factor))


def _exponents(evidence: Evidence) -> Iterator[tuple[Settings, Fitted]]:
    for cell in evidence.cells:
        fitted = evidence.whole(cell.task, cell.method)
        if fitted is not None:
            yield cell, fitted


def _model_over_pretraining(evidence: Evidence) -> Iterator[Piece]:
    for cell, fitted in _exponents(evidence):
        if {"model_params", "pretrain_tokens"} <= fitted.along.keys():
            gap = fitted.along["model_params"].alpha - fitted.along["pretrain_tokens"].alpha
            where = {"task": cell.task, "method": cell.method}
            yield of_draws(where, gap, evidence.runs(cell.task, cell.method, "model_params", "pretrain_tokens"))


def _flat_in_pet_size(evidence: Evidence) -> Iterator[Piece]:
    for cell, fitted in _exponents(evidence):
        if "pet_params" in fitted.along:
            where = {"task": cell.task, "method": cell.method}
            yield of_draws(where, fitted.along["pet_params"].alpha, evidence.runs(cell.task, cell.method))


def _order_of_betas(evidence: Evidence) -> Iterator[Piece]:
    for task in evidence.tasks:
        for a, b in pairwise(ORDER):
            one, two = evidence.whole(task, a), evidence.whole(task, b)
            if one is not None and two is not None:
                where = {"task": task, "pair": f"{a} - {b}"}
                yield of_draws(where, one.beta - two.beta, evidence.runs(task, a) + evidence.runs(task, b))


def _scale_over_examples(evidence: Evidence) -> Iterator[Piece]:
    for cell, fitted in _exponents(evidence):
        if cell.method == "full":
            continue
        for factor in ("model_params", "pretrain_tokens"):
            if factor in fitted.along:
                where = {"task": cell.task, "method": cell.method, "factor": factor}
                gap = fitted.along[factor].alpha - fitted.beta
                yield of_draws(where, gap, evidence.runs(cell.task, cell.method))


# ------------------------------------------------------------------------------------------------------- crossings


def shared_ranges(evidence: Evidence, task: str) -> Iterator[tuple[str, str, float, tuple[float, float]]]:
    """Pairs of methods, base sizes and the range of examples both were seen over (at least a doubling)."""
    cells = {cell.method: cell for cell in evidence.cells if cell.task == task and "model_params" in cell.slices}
    for a, b in combinations([name for name in dict.fromkeys((*ORDER, *cells)) if name in cells], 2):
        one, two = cells[a].part("model_params"), cells[b].part("model_params")
        low, high = max(one["examples"].min(), two["examples"].min()), min(one["examples"].max(), two["examples"].max())
        if high < 2 * low or evidence.whole(task, a) is None or evidence.whole(task, b) is None:
            continue
        for size in sorted(set(one["model_params"]) & set(two["model_params"])):
            yield a, b, float(size), (float(low), float(high))


def _gap(evidence: Evidence, task: str, a: str, b: str, size: float, examples: Array) -> Array:
    """Loss of ``a`` minus loss of ``b`` (1 + B, n) along examples at one model size."""
    one, two = evidence.whole(task, a), evidence.whole(task, b)
    assert one is not None
    assert two is not None
    sizes = np.full(len(examples), size)
    return one.predict("model_params", sizes, examples) - two.predict("model_params", sizes, examples)


def _change(evidence: Evidence, task: str, a: str, b: str, size: float, span: tuple[float, float]) -> Array:
    """The smaller lead at the two ends of a range (1 + B,): above 0 if and only if the better method changes."""
    gap = _gap(evidence, task, a, b, size, np.array(span))
    return np.asarray(np.maximum(np.minimum(gap[:, 0], -gap[:, 1]), np.minimum(-gap[:, 0], gap[:, 1])))


def _crossings(evidence: Evidence) -> Iterator[Piece]:
    for task in evidence.tasks:
        for a, b, size, span in shared_ranges(evidence, task):
            where = {"task": task, "pair": f"{a}, {b}", "model_params": f"{size:g}"}
            runs = evidence.runs(task, a, "model_params") + evidence.runs(task, b, "model_params")
            yield of_draws(where, _change(evidence, task, a, b, size, span), runs)


def _crossings_of_tasks(evidence: Evidence) -> Iterator[Piece]:
    """For each pair of tasks: one surely has a crossing where the other surely has none."""
    places = {task: {key[:3]: key[3] for key in shared_ranges(evidence, task)} for task in evidence.tasks}
    for first, second in combinations(evidence.tasks, 2):
        for a, b, size in places[first].keys() & places[second].keys():
            one, two = (places[task][a, b, size] for task in (first, second))
            span = max(one[0], two[0]), min(one[1], two[1])
            if span[1] < 2 * span[0]:
                continue
            changes = [_change(evidence, task, a, b, size, span) for task in (first, second)]
            either = np.maximum(np.minimum(changes[0], -changes[1]), np.minimum(-changes[0], changes[1]))
            where = {"task": f"{first}, {second}", "pair": f"{a}, {b}", "model_params": f"{size:g}"}
            runs = [run for task in (first, second) for m in (a, b) for run in evidence.runs(task, m, "model_params")]
            yield of_draws(where, either, runs)


# ------------------------------------------------------------------------------------------- abilities and quality


def _kept(kinds: tuple[str, ...], able: bool) -> Callable[[Evidence], Iterator[Piece]]:
    """What PET keeps against full finetuning; ``able``: judged only where the untouched base has the ability."""

    def pieces(evidence: Evidence) -> Iterator[Piece]:
        if evidence.probes is None:
            return
        probes = evidence.probes
        both = against_full(probes[probes["kind"].isin(kinds) & (probes["metric"] == "nll")])
        for (task, method), part in both.groupby(["task", "method"]):
            where = {"task": str(task), "method": str(method), "metric": "nll"}
            judged, void = subject(part, probes) if able else (part, "")
            yield of_means(where, cluster_means(judged), dict.fromkeys([*judged["run"], *judged["run_full"]]), void)

    return pieces


def _predicts(evidence: Evidence) -> Iterator[Piece]:
    """A correlation that has no interval is void, with the reason."""
    for cell, factor in each_slice(evidence.cells):
        for metric in metrics_of(cell.runs):
            one = measured(cell, factor, metric)
            where = {"task": cell.task, "method": cell.method, "factor": factor, "metric": metric}
            value = np.corrcoef(one.means["loss"], one.means[metric])[0, 1] if one.known else np.nan
            known = not one.note
            draws = resampled(one, metric, "pearson", CORRELATION_DRAWS, evidence.seed) if known else np.zeros(0)
            piece = of_draws(where, -np.append(value, draws), one.runs["run"].astype(str))
            yield replace(piece, void=one.note)


# ----------------------------------------------------------------------------------------------------- the claims

RULES: tuple[tuple[Rule, Callable[[Evidence], Iterator[Piece]]], ...] = (
    (
        Rule(
            "multiplicative-beats-additive",
            "the multiplicative law forecasts held-out settings better than the additive law",
            "mean absolute held-out deviation, additive minus multiplicative, nats per token",
            Region(),
            "mean",
            "three or more sizes of a factor, four or more numbers of examples, and more seeds",
            "task × method × factor cells",
        ),
        _forms,
    ),
    (
        Rule(
            "model-over-pretraining",
            "loss falls faster with model size than with pretraining size (alpha_m > alpha_p)",
            "alpha of model size minus alpha of pretraining size",
            Region(),
            "all",
            "runs along both model size and pretraining size, more sizes of each, more seeds",
        ),
        _model_over_pretraining,
    ),
    (
        Rule(
            "pet-size-flat",
            "PET size hardly matters (|alpha_t| is about 0)",
            f"alpha of PET size; equivalence margin ±{MARGIN:g}, at which a doubling moves the reducible loss by 0.7 %",
            Region(-MARGIN, MARGIN),
            "all",
            "three or more ranks or prompt lengths on one base, over a wider range, with more seeds",
        ),
        _flat_in_pet_size,
    ),
    (
        Rule(
            "order-of-beta",
            "full finetuning uses examples best, then LoRA, then prompt tuning (beta_full > beta_lora > beta_prompt)",
            "difference of beta between neighbours in that order",
            Region(),
            "all",
            "all three methods over the same wide range of examples, with more seeds",
        ),
        _order_of_betas,
    ),
    (
        Rule(
            "scale-over-examples",
            "for PET, model and pretraining size matter more than examples (alpha_m, alpha_p > beta)",
            "alpha minus beta of a PET method",
            Region(),
            "all",
            "a PET method along model size and pretraining size over a wider range of examples, with more seeds",
        ),
        _scale_over_examples,
    ),
    (
        Rule(
            "crossings-exist",
            "which method is best changes with the number of examples",
            "the smaller of the two leads at the ends of the examples both methods have seen, nats per token",
            Region(),
            "any",
            "methods on the same base over one common, wide range of examples",
            "pairs of methods and bases",
        ),
        _crossings,
    ),
    (
        Rule(
            "crossings-depend-on-task",
            "where one method overtakes another depends on the task",
            "the same change of best method, sure in one task and surely absent in another, nats per token",
            Region(),
            "any",
            "two or more tasks with the same bases and methods over one common, wide range of examples",
            "pairs of tasks, methods and bases",
            across_tasks=True,
        ),
        _crossings_of_tasks,
    ),
    (
        Rule(
            "pet-keeps-ability",
            "PET keeps zero- and few-shot ability better than full finetuning",
            "change of loss on zero- and few-shot probes under full finetuning minus under PET, nats per token",
            Region(),
            "all",
            "zero- or few-shot probes for full finetuning and PET on the same bases, examples and seeds, on bases that "
            "can do something before finetuning",
        ),
        _kept(("zero-shot", "few-shot"), able=True),
    ),
    (
        Rule(
            "pet-forgets-less",
            "PET forgets less than full finetuning",
            "rise of off-task loss under full finetuning minus under PET, nats per token",
            Region(),
            "all",
            "text or task probes for full finetuning and PET on the same bases, examples and seeds",
        ),
        _kept(("text", "task"), able=False),
    ),
    (
        Rule(
            "loss-predicts-quality",
            "log-perplexity predicts generation quality",
            f"Pearson's correlation of falling loss with rising metric; it predicts from {PREDICTS:g} up",
            Region(PREDICTS),
            "all",
            "generation metrics ([evaluate] metrics, decoded) on at least 5 settings of 4 curves of a factor",
        ),
        _predicts,
    ),
)
