"""Figures draw the analysis, and the CSV beside each holds exactly what is drawn."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from report_sample import sample_analysis, small_runs

from finescale.report.correlated import correlation_table
from finescale.report.drawing import INK, SOFT, legend, panels, titled, write
from finescale.report.figures import draw, drawings, figures, loss_against_examples, numbers_behind
from finescale.report.law_figures import correlations_figure
from finescale.report.looks import of_kinds, of_sizes
from finescale.report.series import plotted
from finescale.study.analyse import Analysis

NAMES = (
    *("what-if", "loss-against-examples", "loss-against-model-size", "parameters", "parameter-correlations"),
    *("residuals", "calibration", "critical-size-map", "cost"),
)


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2, definition of relative luminance)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_each_figure_comes_as_png_svg_pdf_and_csv(small: Analysis, tmp_path: Path) -> None:
    paths = figures(small, tmp_path)
    assert [path.name for path in paths] == [
        f"{name}.{kind}" for name in NAMES for kind in ("png", "svg", "pdf", "csv")
    ]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in paths[1].read_bytes()[:1000]
    assert paths[2].read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    first = [path.read_bytes() for path in paths]
    again = write(drawings(small, plotted(small))[1:3], tmp_path)
    assert [path.read_bytes() for path in again] == first[4:12]


def test_the_csv_is_what_is_drawn(analysis: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finescale.report.drawing.FORMATS", ())
    table = pd.read_csv(write(loss_against_examples(plotted(analysis)), tmp_path)[-1])
    shown = plotted(analysis)
    panels = draw(shown, "mt-en-de").axes
    for axes, base in zip(panels, shown.bases, strict=True):
        own = table[table["base"] == base]
        lines = {tuple(np.round(line.get_ydata(), 9)) for line in axes.lines}
        for _, curve in own[own["kind"] == "curve"].groupby("method"):
            assert tuple(np.round(curve["median"], 9)) in lines
        marks = np.concatenate([c.get_offsets() for c in axes.collections if isinstance(c, PathCollection)])
        runs = own[own["kind"] == "run"]
        seen = runs.loc[runs["loss"] <= axes.get_ylim()[1], ["examples", "loss"]].round(6)
        assert len(marks) == len(runs)
        drawn = {(round(float(x), 6), round(float(y), 6)) for x, y in marks}
        assert set(seen.itertuples(index=False, name=None)) <= drawn
        assert {round(float(line.get_ydata()[0]), 9) for line in axes.lines} >= set(
            own.loc[own["kind"] == "untouched", "loss"].round(9)
        )


def test_the_numbers_behind_a_figure_are_the_analysis(analysis: Analysis) -> None:
    table = numbers_behind(plotted(analysis), "mt-en-de")
    runs = table[table["kind"] == "run"]
    assert len(runs) == len(analysis.runs)
    assert np.array_equal(runs["loss"], analysis.runs["loss"], equal_nan=True)
    assert runs["held_out"].sum() == len(analysis.fits.held_out())


def test_names_are_drawn_as_they_are() -> None:
    runs = small_runs()
    runs["base"] = "$\\frac{" + runs["base"]
    analysis = sample_analysis(runs)
    drawing = draw(plotted(analysis), "mt-en-de")
    drawing.canvas.draw()
    assert drawing.axes[0].get_title().startswith("$\\frac{xs@2.5M")


def test_a_second_task_has_a_file_of_its_own(
    two_tasks: Analysis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finescale.report.drawing.FORMATS", ("svg",))
    names = [path.name for path in write(loss_against_examples(plotted(two_tasks)), tmp_path)]
    assert names[2] == "loss-against-examples-2-summaries-in-french.svg"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_series_differ_by_more_than_hue(theme: str) -> None:
    kinds = of_kinds(["a", "b", "c", "d"])
    assert len({(look.symbol, look.dash) for look in kinds.values()}) == 4
    sizes = of_sizes(["xs", "s", "m", "l", "xl"])
    order = [luminance(getattr(look, theme)) for look in sizes.values()]
    assert order == sorted(order, reverse=theme == "light")
    paper = luminance("#fdfcfa" if theme == "light" else "#161614")
    for look in [*kinds.values(), *sizes.values()]:
        bright, dim = sorted([luminance(getattr(look, theme)), paper], reverse=True)
        # WCAG 2.2, 1.4.11 asks 3:1 of graphics; the lightest marks have a symbol and a label besides.
        assert (bright + 0.05) / (dim + 0.05) > 2.4


def test_no_two_of_many_methods_have_the_same_mark() -> None:
    kinds = of_kinds([f"method-{i}" for i in range(30)])
    for theme in ("light", "dark"):
        assert len({(getattr(look, theme), look.symbol) for look in kinds.values()}) == 30


def test_long_titles_and_names_stay_apart_and_inside_the_figure() -> None:
    drawing, every = panels(4, 4, 1.9, 1.9)
    for axes in every:
        titled(axes, "full against a-method-with-a-long-name, 1,199,616 pretraining tokens, mt-en-de")
    legend(drawing, [Line2D([], [], label=f"{'a long name ' * 20}{i}") for i in range(3)])
    assert every[0].get_title().endswith("mt-en-de")
    drawing.draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in every]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert 1 < len(every[0].get_title().split("\n")) <= 3
    whole = drawing.bbox
    for box in (*boxes, drawing.legends[0].get_window_extent()):
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        assert box.y1 <= whole.y1


def test_a_correlation_is_shaded_only_where_the_data_determine_both_parameters(small: Analysis) -> None:
    table = correlation_table(small.final)
    (drawing,) = (one.draw() for one in correlations_figure(small.final))
    for axes, (_, own) in zip(drawing.axes, table.groupby(list(small.final.by), sort=False), strict=False):
        shaded = np.isfinite(np.ma.filled(axes.images[0].get_array(), np.nan)).sum()
        assert shaded == 2 * (own["judged"] & own["r"].notna()).sum()
        assert {text.get_color() for text in axes.texts} <= {"white", INK, SOFT}
        assert (SOFT in {text.get_color() for text in axes.texts}) == (~own["judged"]).any()
