"""What an import says of itself: what it took, skipped and noticed, what it could not know and which flag gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from finescale.core import FACTORS
from finescale.exchange.found import Skipped
from finescale.stats import units
from finescale.stats.runs import Runs

AS_IN = {
    units.COLUMN: "'nats per token'",
    "examples": "1000",
    "seed": "0",
    "model_params": "85e6",
    "pretrain_tokens": "3e11",
    "pet_params": "1e6",
}
MOST = 12
SAID_ABOVE = ("missing value", "flagged")
"""Kinds of findings that say again what is not known, or flagged."""


@dataclass(frozen=True)
class Unknown:
    """A column that a source does not tell of some runs.

    Attributes:
        column: its canonical name.
        runs: those that lack it.
        of: how many there are.
        offered: of how many it could be worked out.
        scores: for ``loss``, what the runs were scored by.
        like: a column of the source that is called almost so.
    """

    column: str
    runs: tuple[str, ...]
    of: int
    offered: int = 0
    scores: tuple[str, ...] = ()
    like: str = ""

    @property
    def what(self) -> str:
        """That it is not known, and of how many runs."""
        return f"is not known for {len(self.runs)} of {self.of} runs" + (
            f" ({', '.join(self.runs[:3])}{' …' if len(self.runs) > 3 else ''})" if len(self.runs) < self.of else ""
        )

    @property
    def way(self) -> str:
        """The flags that give it."""
        like = f"--column {self.like}={self.column}, if that is it, or " if self.like else ""
        return like + self._ways

    @property
    def _ways(self) -> str:
        if self.column == "loss":
            scores = ", ".join(self.scores[:MOST]) or "none was written down: evaluate the runs"
            return f"say which score it is: --loss NAME, or --loss '1 - NAME' where higher is better; scores: {scores}"
        ways = [f"--set {self.column}={AS_IN.get(self.column, 'NAME')}", f"--from-name '{self._pattern}'"]
        ways.append(f"--facts FILE.csv with columns run and {self.column}")
        if self.offered:
            ways.insert(0, f"--accept {self.column}, which the logged speeds imply for {self.offered} runs")
        return ", or ".join(ways)

    @property
    def _pattern(self) -> str:
        """How the column may stand in runs' names."""
        short = {"examples": "n", "seed": "s", "model_params": "m", "pretrain_tokens": "t", "pet_params": "p"}
        return rf"{short[self.column]}(?P<{self.column}>\d+)" if self.column in short else f"^(?P<{self.column}>[^-]+)"


@dataclass(frozen=True)
class Imported:
    """Runs that were read from other tools' files, and the account of it.

    Attributes:
        source: what they were read from.
        runs: the table; rows that no fit should use are flagged.
        loss: which score the loss is, and which of its values; empty where the source has a column for it.
        skipped: what looked like a run and was not taken.
        notes: sentences, and of how many runs they are true.
        unknown: columns that some runs lack.
        varying: settings that differ between runs and are no column.
    """

    source: str
    runs: Runs
    loss: str
    skipped: tuple[Skipped, ...]
    notes: dict[str, int]
    unknown: tuple[Unknown, ...]
    varying: tuple[str, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One row per run, canonical columns first."""
        return self.runs.frame

    def __str__(self) -> str:
        usable = len(self.runs.usable)
        aside = f", {usable} of them usable in fits" if usable < len(self.frame) else ""
        lines = [f"Taken: {_runs(len(self.frame))}{aside}" + (f"; loss is {self.loss}" if self.loss else "")]
        lines += [f"  {line}" for line in _columns(self.frame)]
        lines += _listed("Skipped", [f"{one.place}: {one.why}" for one in self.skipped])
        lines += _listed("Flagged, and in no fit", self._flagged())
        findings = [str(finding) for finding in self.runs.findings if finding.kind not in SAID_ABOVE]
        lines += _listed("Noted", [*(f"{_runs(count)}: {note}" for note, count in self.notes.items()), *findings])
        lines += _listed("Not known", self._not_known())
        if self.varying:
            more = f" and {len(self.varying) - MOST} more" if len(self.varying) > MOST else ""
            lines.append(f"Differ between runs, and are no column: {', '.join(self.varying[:MOST])}{more}.")
            lines.append("  --column THEIRS=OURS takes one, as --column n_train=examples")
        return "\n".join(lines)

    def _flagged(self) -> list[str]:
        if "flag" not in self.frame:
            return []
        rows = self.frame[self.frame["flag"].fillna("") != ""]
        return [f"{run}: {flag}" for run, flag in zip(rows["run"], rows["flag"], strict=True)]

    def _not_known(self) -> list[str]:
        """What some runs lack with its flags, and in one line what no run has and a fit can do without."""
        some = [one for one in self.unknown if len(one.runs) < one.of]
        lines = [f"{one.column} {one.what}: {one.way}" for one in some]
        if none := [one.column for one in self.unknown if one not in some]:
            lines.append(f"{', '.join(none)} of any run: --set NAME=VALUE, --from-name or --facts gives them")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The account as plain data; the table has its own file."""
        return {
            "source": self.source,
            "runs": len(self.frame),
            "usable": len(self.runs.usable),
            "columns": list(self.frame.columns),
            "loss": self.loss,
            "skipped": [{"place": str(one.place), "why": one.why} for one in self.skipped],
            "notes": [{"note": note, "runs": count} for note, count in self.notes.items()],
            "findings": [str(finding) for finding in self.runs.findings],
            "unknown": [{"column": one.column, "runs": list(one.runs), "way": one.way} for one in self.unknown],
            "varying": list(self.varying),
        }


def _runs(count: int) -> str:
    return f"{count} run" + ("" if count == 1 else "s")


def _listed(head: str, lines: list[str]) -> list[str]:
    more = [f"  and {len(lines) - MOST} more"] if len(lines) > MOST else []
    return [*([head] if lines else []), *(f"  {line}" for line in lines[:MOST]), *more]


def _columns(frame: pd.DataFrame) -> list[str]:
    """What the runs are, column by column: the words with their counts, the numbers with their range."""
    lines = []
    for name in ("task", "method", "base"):
        if name in frame and frame[name].notna().any():
            counts = frame[name].value_counts()
            said = ", ".join(f"{word} ({count})" for word, count in counts.head(6).items())
            lines.append(f"{name}: {said}" + (f" and {len(counts) - 6} more" if len(counts) > 6 else ""))
    for name in (*FACTORS, "loss", "seed"):
        if name in frame and len(values := pd.to_numeric(frame[name], errors="coerce").dropna()):
            levels = f", {values.nunique()} levels" if name != "loss" and values.nunique() > 1 else ""
            unit = f" {units.unit_of(frame)}" if name == "loss" else ""
            span = f"{values.min():,.6g}" + (f" to {values.max():,.6g}{levels}" if values.nunique() > 1 else "")
            lines.append(f"{name}: {span}{unit}".rstrip())
    return lines
