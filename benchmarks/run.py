"""Print every table of docs/benchmarks.md: ``python benchmarks/run.py [1 2 3 4 5 6]``, or ``4 LAW …`` of those laws."""

from __future__ import annotations

import os
import sys

# One thread: two BLAS threads beside a neighbour cost several times the processor time of one.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import fitting  # noqa: E402
import others  # noqa: E402
import pandas as pd  # noqa: E402
import recovery  # noqa: E402
import scores  # noqa: E402
from tables import show  # noqa: E402

from finescale.stats.published import table_5  # noqa: E402


def _one() -> str:
    table = fitting.chinchilla_fit()
    # Six digits, since the objective is compared with a bar of five.
    return show("1. Chinchilla: objective, parameters, time", table.assign(here=table["here"].map("{:.6g}".format)))


def _two() -> str:
    errors, quality = scores.gigaword_cuts()
    text = show("2. Gigaword: mean relative error (%) at 1,638,400 examples, by the largest size seen", errors)
    text += "\n" + show("2. Gigaword: intervals and selection by auto", quality)
    means = quality.iloc[:, 1:].mean()
    text += f"\nMeans over cuts: {', '.join(f'{name} {value:.4g}' for name, value in means.items())}.\n"
    return text + f"In-sample RMSD of log loss of the rectified law: {scores.gigaword_in_sample():.5f}.\n"


def _three() -> str:
    errors, widths, paired = scores.families()
    text = show("3. Families: mean relative error (%)", errors) + "\n" + show("3. Families: 90 % intervals", widths)
    return text + "\n" + show("3. Families: auto against the nearest base's line, family by family", paired)


def _four(laws: list[str] | None = None) -> str:
    """Section 4; of some laws alone, their coverage and bias."""
    coverage, bias = recovery.recovery(laws or list(recovery.TRUTHS))
    text = show("4. Coverage on simulated tables (0.5 % noise per run)", coverage)
    text += "\n" + show("4. Estimate over truth", bias)
    if laws:
        return text
    text += "\n" + show("4. The law that compare names", recovery.compared())
    return text + "\n" + show("4. The law that the hold-outs behind auto support", recovery.named())


def _five() -> str:
    columns = ["task", "factor", "a", "b", "H", "gamma", "H_printed", "gamma_printed", "determined", "follows"]
    return show("5. Table 5 of the paper recomputed from its Table 4", table_5()[columns])


def _six() -> str:
    means, last = others.others()
    text = show("6. Other public curves: mean relative error (%) beyond what was seen", means)
    return text + "\n" + show('6. Curves where "last value" beats every law', last)


def main() -> None:
    pd.set_option("display.width", 200)
    parts = {"1": _one, "2": _two, "3": _three, "4": _four, "5": _five, "6": _six}
    if sys.argv[1:2] == ["4"] and set(sys.argv[2:]) & set(recovery.TRUTHS):
        print(_four(sys.argv[2:]), flush=True)
        return
    for number in sys.argv[1:] or parts:
        print(parts[number](), flush=True)


if __name__ == "__main__":
    main()
