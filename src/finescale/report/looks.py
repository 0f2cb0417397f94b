"""How a series looks: colour, symbol and dash, chosen so that no two series differ by colour alone.

Methods differ in kind, so they take distinct hues: Okabe and Ito 2008, "Color Universal Design". Bases differ in size,
so they take one ramp from light to dark: cividis (Nuñez, Anderton and Renslow 2018, PLoS ONE 13(7)), sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon")
DASHES = ("solid", "dash", "dashdot", "dot", "longdash")

# Okabe–Ito in an order of falling contrast with paper; the dark page takes their lighter neighbours.
HUES_LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00")
HUES_DARK = ("#56B4E9", "#E69F00", "#2FC79B", "#E3A5C6", "#F2F2F2", "#F0E442")

RAMP_LIGHT = ("#AEA371", "#8B8778", "#6D6F72", "#4F576C", "#2B406D")
RAMP_DARK = ("#6B6D72", "#8B8778", "#AEA371", "#D4C15F", "#FCE236")


@dataclass(frozen=True)
class Look:
    """``light`` and ``dark`` are #rrggbb; ``symbol`` and ``dash`` are Plotly's words."""

    light: str
    dark: str
    symbol: str
    dash: str


def of_kinds(names: Sequence[str]) -> dict[str, Look]:
    """Looks of things that differ in kind; symbols move on by one when the hues begin again, so that marks differ."""
    return {
        name: Look(
            _turn(HUES_LIGHT, i), _turn(HUES_DARK, i), _turn(SYMBOLS, i + i // len(HUES_LIGHT)), _turn(DASHES, i)
        )
        for i, name in enumerate(names)
    }


def of_sizes(names: Sequence[str]) -> dict[str, Look]:
    """Looks of things that differ in size, smallest first."""
    last = max(len(names) - 1, 1)
    return {
        name: Look(_along(RAMP_LIGHT, i / last), _along(RAMP_DARK, i / last), _turn(SYMBOLS, i), "solid")
        for i, name in enumerate(names)
    }


def as_json(looks: dict[str, Look]) -> dict[str, dict[str, str]]:
    """Looks as the page's script reads them."""
    return {name: asdict(look) for name, look in looks.items()}


def _turn(options: Sequence[str], index: int) -> str:
    return options[index % len(options)]


def _along(ramp: Sequence[str], share: float) -> str:
    """The colour at ``share`` of one along the ramp, linear between its stops."""
    place = share * (len(ramp) - 1)
    start = min(int(place), len(ramp) - 2)
    mix = place - start
    channels = zip(_channels(ramp[start]), _channels(ramp[start + 1]), strict=True)
    return "#" + "".join(f"{round(a + mix * (b - a)):02X}" for a, b in channels)


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
