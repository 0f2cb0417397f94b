"""What docs/benchmarks.md says of a sweep is counted over the rows that the sweep printed."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCUMENT = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
SECTION = DOCUMENT.split("\n## 9. ")[1].split("\n## 10. ")[0]
SAID = re.compile(
    r"^(\w+): runs per hour ([\d.]+) times in the median over (\d+) cells, ([\d.]+) at least, ([\d.]+) at"
)


def tables() -> Iterator[tuple[list[dict[str, str]], list[re.Match[str]]]]:
    """Rows of each table by heading, and what is said of the rivals right below it."""
    for part in re.split(r"\n(?=\| cell )", SECTION)[1:]:
        lines = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("| ")]
        head = [name.strip() for name in lines[0]]
        rival, named = "", []
        for name in head:
            rival = name.removesuffix(": s") if name.endswith(": s") else rival
            named.append(f"{rival} {name}".strip())
        rows = [dict(zip(named, map(str.strip, line), strict=True)) for line in lines[2:]]
        yield rows, [found for line in part.splitlines() if (found := SAID.match(line))]


@pytest.mark.parametrize(("rows", "said"), tables())
def test_medians_are_those_of_the_rows(rows: list[dict[str, str]], said: list[re.Match[str]]) -> None:
    for one in said:
        ratios = [float(row[f"{one[1]} ratio"]) for row in rows]
        assert int(one[3]) == len(ratios) == len({row["cell"] for row in rows})
        found = [statistics.median(ratios), min(ratios), max(ratios)]
        assert [float(one[2]), float(one[4]), float(one[5])] == pytest.approx(found, abs=0.0051)


@pytest.mark.parametrize(("rows", "said"), tables())
def test_ratios_memory_and_losses_are_as_said(rows: list[dict[str, str]], said: list[re.Match[str]]) -> None:
    for row in rows:
        for rival in ("sensible", "plain"):
            if f"{rival} ratio" in row:
                seconds = float(row[f"{rival} {rival}: s"]) / float(row["s"])
                assert float(row[f"{rival} ratio"]) == pytest.approx(seconds, rel=0.02)
                assert int(row["MiB"]) < int(row[f"{rival} MiB"])


def test_losses_within_half_a_per_cent_are_counted() -> None:
    counted = []
    for rows, said in tables():
        for one in said:
            apart = [abs(float(row[f"{one[1]} our loss less theirs"].rstrip(" %"))) for row in rows]
            counted.append((one[1], f"{max(apart):.2f} %", f"0.5 % in {sum(x <= 0.5 for x in apart)} of {len(apart)}"))
    words = " ".join(SECTION.split())
    rivals, worst, near = zip(*counted, strict=True)
    assert rivals == ("sensible", "plain", "sensible", "plain", "sensible")
    at_l = f"at `l` are within {worst[0]} of the sensible recipe's ({near[0]} cells), of the plain one's within"
    assert f"{at_l} {worst[1]} ({near[1]}); at `2xl` within {worst[2]} ({near[2]}) and {worst[3]} ({near[3]})." in words
    assert f"With two workers at `l` within {worst[4]} ({near[4]})." in words
