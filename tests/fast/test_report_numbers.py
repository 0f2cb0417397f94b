"""Numbers are written with the digits they deserve, and never surer than they are."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finescale.report import numbers

SUPERSCRIPT = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-")


def read(text: str) -> float:
    """The number that a reader sees."""
    mantissa, _, exponent = text.replace(",", "").partition("×10")
    return float(mantissa.translate(SUPERSCRIPT)) * 10 ** int(exponent.translate(SUPERSCRIPT) or 0)


@given(st.floats(1e-12, 1e15) | st.floats(-1e15, -1e-12), st.integers(2, 6))
def test_significant_digits_are_right_to_half_a_digit(value: float, digits: int) -> None:
    assert math.isclose(read(numbers.significant(value, digits)), value, rel_tol=0.51 * 10 ** (1 - digits))


@given(st.integers(-(10**12), 10**12))
def test_whole_numbers_are_exact(value: int) -> None:
    assert read(numbers.whole(value)) == value


@given(st.floats(0, 1))
def test_a_probability_is_never_certain(share: float) -> None:
    text = numbers.probability(share)
    assert text not in ("0%", "100%")
    assert "%" in text


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (numbers.significant, 0, "0"),
        (numbers.significant, 0.0635, "0.0635"),
        (numbers.significant, 5.1e13, "5.10×10¹³"),
        (numbers.significant, -2.5, "−2.50"),
        (numbers.short, 2_214_784, "2.21M"),
        (numbers.short, 500, "500"),
        (numbers.short, 3e-5, "3e−05"),
        (numbers.fixed, 4.37249, "4.372"),
        (numbers.percent, 0.345, "34%"),
        (numbers.probability, 0.665, "67%"),
        (numbers.probability, 0.999, "> 99%"),
        (numbers.duration, 12.3, "12 s"),
        (numbers.duration, 402, "6.7 min"),
        (numbers.duration, 9000, "2.50 h"),
        (numbers.size, 2_012_345, "2.01 MB"),
        (numbers.size, 12, "12 B"),
    ],
)
def test_written_as(write: object, value: float, text: str) -> None:
    assert write(value) == text


@pytest.mark.parametrize("write", [numbers.significant, numbers.whole, numbers.short, numbers.fixed, numbers.percent])
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "x"])
def test_what_is_missing_is_a_dash_and_no_zero(write: object, value: object) -> None:
    assert write(value) == numbers.MISSING
