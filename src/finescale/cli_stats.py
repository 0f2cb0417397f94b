"""Verbs on anybody's table of runs: ``fit``, ``forecast``, ``compare``. Each is one call on the API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale.cli_call import file_of, one_of, pair, pairs
from finescale.core import FACTORS
from finescale.errors import Fault, InputError, Refused, collecting
from finescale.terminal import out, say, told

if TYPE_CHECKING:
    import pandas as pd

    from finescale.stats.fits import Fits
    from finescale.study.analyse import Analysis


def _laws() -> list[str]:
    from finescale import registry

    return [*registry.names("law"), "auto"]


def _hold_out(text: str) -> str:
    _counts([text])
    return text


def _run_asked(text: str) -> str:
    pairs(text.split(","), "--at")
    return text


def place_of_fits(text: str) -> Path:
    """A file that fits can be written to.

    Raises:
        InputError: its folder is not there, or it is a folder itself.
    """
    path = Path(text)
    if not path.parent.is_dir():
        raise InputError(Fault(f"--out {text}", "is in a folder that is not there", "make it first"))
    if path.is_dir():
        raise InputError(Fault(f"--out {text}", "is a folder", "name a file in it: fits.json, say"))
    return path


_law = one_of("law", _laws)
_rename = pair("--column")
_file = file_of("a table of runs")
File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="table of runs: CSV, TSV, Parquet or JSONL, one row per run", parser=_file),
]
Factor = Annotated[list[str] | None, typer.Option("--factor", help="factor besides examples; may be given again")]
By = Annotated[list[str] | None, typer.Option("--by", help="column that makes groups; may be given again")]
Rename = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="TEXT", help="rename, as their_name=canonical_name", parser=_rename),
]
HoldOut = Annotated[
    list[str] | None,
    typer.Option("--hold-out", metavar="TEXT", help="factor=levels kept out of the fit", parser=_hold_out),
]
Seed = Annotated[int, typer.Option(help="seed of the resampling")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Law = Annotated[str, typer.Option(metavar="TEXT", help="a law, or auto", parser=_law)]
# What an option of fitting is where it may not be given at all: None, and the default is that of ``fit``.
GivenLaw = Annotated[
    str | None, typer.Option("--law", metavar="TEXT", help="a law, or auto (the default)", parser=_law)
]
GivenSeed = Annotated[int | None, typer.Option("--seed", help="seed of the resampling (default 0)")]
Share = Annotated[list[str] | None, typer.Option("--share", help="parameter common to all groups")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="PATH", help="write the fits, unrounded, to this JSON file", parser=place_of_fits),
]


def _counts(given: list[str] | None) -> dict[str, int]:
    named = pairs(given, "--hold-out")
    wrong = [text for text in named.items() if not text[1].isdecimal()]
    if wrong:
        raise InputError(*(Fault(f"--hold-out {name}={value}", "is not a number of levels") for name, value in wrong))
    return {name: int(value) for name, value in named.items()}


def _records(frame: Any) -> Any:
    return json.loads(frame.to_json(orient="records", double_precision=15))


def fit_table(
    file: Path,
    law: str = "auto",
    factor: list[str] | None = None,
    by: list[str] | None = None,
    share: list[str] | None = None,
    column: list[str] | None = None,
    hold_out: list[str] | None = None,
    seed: int = 0,
    out: Path | None = None,
    as_json: bool = False,
) -> None:
    """Fit a law to every group of a table of runs."""
    from finescale import fit, read_runs

    runs = read_runs(file, pairs(column, "--column"))
    fits = fit(runs, law, factor, by or (), share or (), hold_out=_counts(hold_out), seed=seed)
    if out is not None:
        fits.to_json(out)
    held = fits.held_out()
    text = "\n".join([*(f"note: {finding}" for finding in runs.findings), str(fits)])
    if len(held):
        text += f"\n{_held_out(held)}"
    body = {
        "law": law,
        "findings": [str(finding) for finding in runs.findings],
        "notes": fits.about["notes"],
        "unit": fits.unit,
        "table": _records(fits.table()),
        "status": {label: {"name": s.name, "sentence": s.sentence} for label, s in fits.status.items()},
        "held_out": _records(held),
    }
    say(body if as_json else text)
    if not any(one.fitted for one in fits.groups):
        raise Refused("nothing could be fitted: " + "; ".join(f"{label}: {s}" for label, s in fits.status.items()))


def report_table(
    file: Path,
    page: Path | None = None,
    law: str = "auto",
    factor: str | None = None,
    column: list[str] | None = None,
    hold_out: list[str] | None = None,
    level: float = 0.9,
    seed: int = 0,
) -> None:
    """Write the page of a table of runs, its figures and their numbers."""
    from finescale import read_runs
    from finescale.study.of_table import analyse_table

    page = page or file.parent / f"{file.stem}-report" / "index.html"
    with collecting() as faults:
        faults.tried(_check_page, page)
        counts, columns = faults.tried(_counts, hold_out), faults.tried(pairs, column, "--column")
        runs = faults.tried(read_runs, file, columns)
    assert runs is not None, "a table without faults is read"
    for finding in runs.findings:
        told.print(f"note: {finding}", soft_wrap=True)
    found = analyse_table(runs, file.name, law, factor, counts or None, level, seed)
    write_report(found, page)


def _check_page(page: Path) -> None:
    """A page goes over nothing but another page; said before anything is fitted."""
    above = next(folder for folder in page.absolute().parents if folder.exists())
    with collecting() as faults:
        if page.suffix.lower() not in (".html", ".htm"):
            faults.add(f"--out {page}", "is no HTML file", "end its name in .html")
        elif page.is_dir():
            faults.add(f"--out {page}", "is a folder", "name the page in it: index.html, say")
        elif not above.is_dir():
            faults.add(f"--out {page}", f"is to be in {above}, which is a file", "name a folder")


def write_report(analysis: Analysis, page: Path) -> None:
    """Write a page, and its figures into a folder beside it."""
    from finescale.report.figures import figures
    from finescale.report.page import folder_of, write_page
    from finescale.study.rivals import with_rivals

    told.print("Testing other laws on the runs held out, and comparing methods pair by pair …")
    analysis = with_rivals(analysis)
    maps = len(analysis.maps)
    told.print(f"Drawing the page and its figures ({maps} {'pair' if maps == 1 else 'pairs'} of methods) …")
    write_page(analysis, page)
    figures(analysis, folder_of(page))
    out.print(f"The page: {page}", soft_wrap=True)


def _held_out(held: pd.DataFrame) -> str:
    judged = held["median"].notna()
    said = f"held out: {len(held)} runs"
    if judged.any():
        said += f", mean relative error {held['relative_error'].mean():.2%}"
    return said if judged.all() else f"{said}; {(~judged).sum()} of them beyond the law's reach and not forecast"


def forecast(
    file: File,
    at: Annotated[
        list[str],
        typer.Option("--at", metavar="TEXT", help="a run to forecast: examples=20000,method=lora,…", parser=_run_asked),
    ],
    law: GivenLaw = None,
    factor: Factor = None,
    by: By = None,
    column: Rename = None,
    level: Annotated[float, typer.Option(min=0, max=1, help="probability that the interval holds")] = 0.9,
    seed: GivenSeed = None,
    as_json: Json = False,
) -> None:
    """Forecast runs nobody has made, from a table of runs or from fits that ``fit --out`` wrote."""
    import pandas as pd

    from finescale import fit, load_fits, read_runs
    from finescale.stats import units

    if file.suffix == ".json":
        _nothing_of_fitting({"--law": law, "--factor": factor, "--by": by, "--column": column, "--seed": seed})
        fits = load_fits(file)
    else:
        fits = fit(read_runs(file, pairs(column, "--column")), law or "auto", factor, by or (), seed=seed or 0)
    asked = pd.DataFrame([_run(text, fits) for text in at])
    said = asked.join(fits.forecast(asked, level))
    head = f"{level:.0%} intervals of a new run's {units.said(fits.unit)}"
    notes = [f"note: {line}" for line in fits.about.get("notes", [])]
    text = "\n".join([head, said.to_string(index=False, float_format=lambda value: f"{value:.6g}"), *notes])
    say(_records(said.assign(unit=fits.unit)) if as_json else text)


def _nothing_of_fitting(given: dict[str, Any]) -> None:
    said = [option for option, value in given.items() if value is not None and value != []]
    if said:
        what, way = (
            "belongs to fitting, and a file of fits is fitted already",
            "leave it out, or give the table of runs",
        )
        raise InputError(*(Fault(option, what, way) for option in said))


def _run(text: str, fits: Fits) -> dict[str, Any]:
    from finescale.stats.runs import size

    named = pairs(text.split(","), "--at")
    fits.check_named(named)
    try:
        return {
            name: size(value) if name in FACTORS and name not in fits.by else _as_in_groups(value, name, fits)
            for name, value in named.items()
        }
    except ValueError as error:
        raise InputError(Fault(f"--at {text!r}", str(error), "factors are numbers")) from error


def _as_in_groups(text: str, name: str, fits: Fits) -> Any:
    """The value of a group's key that was typed, which may be a number; the text itself if no group has it."""
    return next((value for fit in fits.groups if _typed(text, value := fit.group.key.get(name))), text)


def _typed(text: str, value: Any) -> bool:
    try:
        return text == str(value) or (not isinstance(value, str) and float(text) == value)
    except ValueError:
        return False


def compare(
    file: File,
    law: Annotated[
        list[str] | None,
        typer.Option("--law", metavar="TEXT", help="a law to compare; may be given again", parser=_law),
    ] = None,
    factor: Factor = None,
    by: By = None,
    column: Rename = None,
    hold_out: HoldOut = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Rank laws by how well they forecast larger scales kept out of their fits."""
    import finescale as fs

    runs = fs.read_runs(file, pairs(column, "--column"))
    found = fs.compare(runs, law, factor, by or (), _counts(hold_out) or None, seed=seed)
    body = {
        "verdict": found.verdict,
        "overall": _records(found.overall),
        "groups": _records(found.groups),
        "beyond": _records(found.beyond),
    }
    say(body if as_json else found)
