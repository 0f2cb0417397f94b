"""Fixtures that fast and slow tests share."""

from __future__ import annotations

import pytest
from report_sample import sample_analysis

from finescale.study.analyse import Analysis


@pytest.fixture(scope="session")
def analysis() -> Analysis:
    """A small study with a known truth, fitted by the real statistics."""
    return sample_analysis()
