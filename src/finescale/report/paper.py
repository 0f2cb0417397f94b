"""The paper's tables and figures from anybody's runs, written to a folder, with what could not be made and why."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from finescale.report import aside
from finescale.report.drawing import FORMATS, save_as
from finescale.report.latex import latex
from finescale.report.paper_figures import draw
from finescale.report.paper_series import every
from finescale.report.paper_tables import paper_tables
from finescale.report.spreadsheet import plain
from finescale.stats.claims import Claims, Tell, gather, judge_all, silent
from finescale.stats.protocol import DRAWS

CAPTIONS = {
    "table-1-slices": "Which settings make each slice, which levels are held out, and how intervals are made",
    "table-2-held-out-by-factor": "Mean absolute held-out deviation (nats per token), averaged over methods",
    "table-4-parameters": "Fitted parameters of the multiplicative law, beta and E shared over factors. A parameter at "
    "a bound is not determined by the data",
    "table-5-critical-sizes": "Critical finetuning data size: Eq. 3 and the fitted curves' own crossings. † the betas' "
    "difference is not determined, nor are H and gamma, which divide by it; ‡ beyond the examples both methods were "
    "seen with",
    "table-6-held-out": "Mean absolute deviation (nats per token) of both laws on fitted and held-out settings",
    "table-7-correlations": "Correlation of log-perplexity with generation metrics; p-values take settings for "
    "independent and are left out below eight curves",
    "metric-laws": "The multiplicative law fitted to generation metrics",
    "abilities": "Zero- and few-shot ability and off-task loss after finetuning (kept: higher is better)",
    "forgetting-laws": "Laws of forgetting, compared on the settings with most examples",
    "claims": "Claims of Zhang et al. 2024 judged on these runs",
}
INDEX = "index.json"


@dataclass(frozen=True)
class Written:
    """What ``tables`` wrote, by name what it could not write and why, and what is to be known of the runs."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    claims: Claims | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "folder": str(self.folder),
            "note": self.note,
            "files": [str(path.relative_to(self.folder)) for path in self.files],
            "missing": self.missing,
        }

    def __str__(self) -> str:
        names = dict.fromkeys(path.stem for path in self.files if path.name != INDEX)
        lines = [self.note] if self.note else []
        lines += [f"Written to {self.folder}:"]
        kinds = {name: [path.suffix[1:] for path in self.files if path.stem == name] for name in names}
        lines += [f"  {name} ({', '.join(own)})" for name, own in kinds.items()]
        lines += ["Not written:"] if self.missing else []
        lines += [f"  {name}: {why}" for name, why in self.missing.items()]
        return "\n".join(lines)


def tables(
    runs: Any,
    out: str | Path,
    probes: pd.DataFrame | None = None,
    bases: pd.DataFrame | None = None,
    level: float = 0.9,
    draws: int = DRAWS,
    seed: int = 0,
    note: str = "",
    tell: Tell = silent,
) -> Written:
    """Write the paper's Tables 2 and 4 to 7 and Figures 1 to 14 as far as the runs allow, and further ones beside them.

    Tables are CSV and LaTeX (booktabs), figures PDF, SVG, PNG and the CSV of what is drawn. ``index.json`` lists the
    files and what is missing and why; it is written last.

    Args:
        runs: a table of runs, or what ``read_runs`` takes.
        out: the folder to write to.
        probes: the long table of probes, for abilities and forgetting.
        bases: one row per base with ``model_params, pretrain_tokens, pretrain_loss``, for Figure 10.
        level: probability of the intervals.
        draws: refits behind every interval.
        note: what a reader must know of these runs as a whole; it stands in every caption and in the index.
        tell: is told, in a line each, what is being done.

    Raises:
        InputError: the tables, ``level`` or ``draws`` are at fault.
    """
    evidence = gather(runs, probes, draws, seed, level, tell)
    judged = judge_all(evidence, level, note)
    done = Written(Path(out), claims=judged, note=note)
    done.folder.mkdir(parents=True, exist_ok=True)
    aside.sweep(done.folder)
    tell("Making the tables")
    for name, made in paper_tables(evidence, judged, level).items():
        if isinstance(made, str):
            done.missing[name] = made
        else:
            done.files.extend(_write_table(made, done, name, level))
    for name, shown in every(evidence, bases, level):
        if isinstance(shown, str):
            done.missing[name] = shown
        else:
            tell(f"Drawing {name}")
            done.files.extend(_write_figure(shown, done.folder, name))
    _forget(done)
    text = json.dumps(done.to_dict(), indent=1, ensure_ascii=False)
    done.files.append(aside.write_text(done.folder / INDEX, text))
    return done


def _forget(done: Written) -> None:
    """Remove files of an earlier call that this one did not make: an old figure must not pass for a new one."""
    index, made = done.folder / INDEX, {path.name for path in done.files}
    try:
        earlier = set(json.loads(index.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        earlier = set()
    for name in earlier - made:
        if Path(name).name == name:
            (done.folder / name).unlink(missing_ok=True)
    for name in done.missing:
        for kind in ("csv", "tex", *FORMATS):
            (done.folder / f"{name}.{kind}").unlink(missing_ok=True)


def _write_table(frame: pd.DataFrame, done: Written, name: str, level: float) -> list[Path]:
    caption = f"{CAPTIONS[name]}. Intervals: {level:.0%}. {done.note}".strip()
    text = latex(frame, caption, f"tab:{name}")
    return [_write_csv(frame, done.folder, name), aside.write_text(done.folder / f"{name}.tex", text)]


def _write_figure(frame: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    drawing = draw(frame)
    return [*(save_as(drawing, folder / f"{name}.{kind}", kind) for kind in FORMATS), _write_csv(frame, folder, name)]


def _write_csv(frame: pd.DataFrame, folder: Path, name: str) -> Path:
    return aside.write(folder / f"{name}.csv", lambda to: plain(frame).to_csv(to, index=False))
