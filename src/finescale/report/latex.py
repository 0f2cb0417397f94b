"""A frame as a LaTeX table (booktabs): text escaped, three digits, intervals beside estimates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

_SPECIAL = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "[": "{[}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "–": "--",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
}
_DIGITS = 3


class Latex(str):
    """Finished LaTeX; any other text is escaped."""

    __slots__ = ()


def latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """The frame as a ``longtable`` with a caption and a label; needs the packages booktabs and longtable."""
    frame = with_intervals(frame)
    kinds = "".join("r" if pd.api.types.is_numeric_dtype(frame[name]) else "l" for name in frame)
    head = " & ".join(escape(str(name).replace("_", " ")) for name in frame)
    lines = [" & ".join(cell(value) for value in row) for row in frame.itertuples(index=False)]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs,longtable}",
            f"\\begin{{longtable}}{{@{{}}{kinds}@{{}}}}",
            f"\\caption{{{escape(caption)}}}\\label{{{label}}}\\\\",
            f"\\toprule\n{head} \\\\\n\\midrule\n\\endhead",
            *(f"{line} \\\\" for line in lines),
            "\\bottomrule\n\\end{longtable}\n",
        ]
    )


def with_intervals(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns ``low, high`` (or ``x_low, x_high``) set as one column of intervals after what they belong to."""
    out = frame.copy()
    for low in [name for name in map(str, frame) if name == "low" or name.endswith("_low")]:
        high = low[: -len("low")] + "high"
        if high in out:
            pairs = zip(frame[low], frame[high], strict=True)
            said = [Latex(f"[{cell(a)}, {cell(b)}]") if pd.notna(a) and pd.notna(b) else None for a, b in pairs]
            out[low] = pd.Series(said, index=frame.index, dtype=object)
            out = out.drop(columns=high).rename(columns={low: f"{low[: -len('low')]}interval"})
    return out


def cell(value: Any) -> str:
    """A value as LaTeX; what is missing is a dash."""
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return "--"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return str(value)
    if isinstance(value, float | np.floating):
        return number(float(value))
    return value if isinstance(value, Latex) else escape(str(value))


def number(value: float) -> str:
    """Three significant digits, with a power of ten where that is shorter."""
    text = f"{value:.{_DIGITS}g}"
    mantissa, _, exponent = text.partition("e")
    return f"${mantissa}\\times10^{{{int(exponent)}}}$" if exponent else f"${mantissa}$"


def escape(text: str) -> str:
    """Text with LaTeX's special characters escaped, on one line; a row may not begin with a bracket."""
    return "".join(_SPECIAL.get(char, char) for char in " ".join(text.split()) if char.isprintable())
