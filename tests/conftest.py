"""Fixtures that fast and slow tests share; what they need is imported only by the tests that ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis


@pytest.fixture(scope="session")
def analysis() -> Analysis:
    """A small study with a known truth, fitted by the real statistics."""
    from report_sample import sample_analysis

    return sample_analysis()
