"""How numbers are written: with the digits they deserve, a unit, and a dash with a reason where there is none."""

from __future__ import annotations

import math
from typing import Any

MISSING = "–"

COUNTED = {"model_params": "parameters", "pretrain_tokens": "tokens", "pet_params": "trained parameters"}
_SHORT = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def known(value: Any) -> bool:
    """Whether ``value`` is a finite number."""
    try:
        return value is not None and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def significant(value: Any, digits: int = 3) -> str:
    """``value`` to so many significant digits, without an exponent where it can be read without one."""
    if not known(value):
        return MISSING
    number = float(value)
    if number == 0:
        return "0"
    size = math.floor(math.log10(abs(number)))
    if size < -4 or size >= 7:
        mantissa, exponent = f"{number:.{digits - 1}e}".split("e")
        return f"{_minus(mantissa)}×10{_superscript(int(exponent))}"
    return _minus(f"{round(number, digits - 1 - size):,.{max(digits - 1 - size, 0)}f}")


def whole(value: Any) -> str:
    """A count, grouped by thousands."""
    return _minus(f"{round(float(value)):,}") if known(value) else MISSING


def short(value: Any, digits: int = 3) -> str:
    """A large count with a letter: 2.5M parameters, 10k examples."""
    if not known(value):
        return MISSING
    number = float(value)
    for unit, letter in _SHORT:
        if abs(number) >= unit:
            return f"{_minus(f'{number / unit:.{digits}g}')}{letter}"
    return _minus(f"{number:.{digits}g}")


def level(name: str, value: Any) -> str:
    """The level of a column in words: a count short and with what it counts, anything else as it is."""
    return f"{short(value, 4)} {COUNTED[name]}" if name in COUNTED and known(value) else str(value)


def fixed(value: Any, decimals: int = 3) -> str:
    """``value`` with so many decimals: losses in nats stand under one another."""
    return _minus(f"{float(value):,.{decimals}f}") if known(value) else MISSING


def percent(share: Any, decimals: int = 0) -> str:
    """A share of one as per cent."""
    return f"{fixed(100 * float(share), decimals)}%" if known(share) else MISSING


def probability(share: Any) -> str:
    """A probability, rounded as sentences have it (0.665: 0.67); never a certainty, which no draws can give."""
    if not known(share):
        return MISSING
    if share < 0.01:
        return "< 1%"
    return "> 99%" if share > 0.99 else percent(round(float(share), 2))


def duration(seconds: Any) -> str:
    """Seconds in the unit people would say."""
    if not known(seconds):
        return MISSING
    value = float(seconds)
    if value < 60:
        return f"{significant(value, 2)} s"
    if value < 3600:
        return f"{significant(value / 60, 2)} min"
    return f"{significant(value / 3600, 3)} h"


def size(count: Any) -> str:
    """Bytes, in powers of ten."""
    if not known(count):
        return MISSING
    value = float(count)
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{value:.0f} B"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Ticks of a log axis, evenly spaced: powers of ten, or 1 and 3 times them, or 1, 2 and 5: what gives a few."""
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        every = [step * 10.0**power for power in powers for step in steps]
        inside = [value for value in every if low * 0.999 <= value <= high * 1.001]
        if len(inside) > 2:
            return inside[:: -math.ceil(len(inside) / most)][::-1]
    return [low, high]


def with_unit(words: str, unit: str) -> str:
    """Words and the unit of what they name; the words alone where it is not known."""
    return f"{words}, {unit}" if unit else words


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
