"""Fixtures that fast and slow tests share; what they need is imported only by the tests that ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from finescale.study.analyse import Analysis


@pytest.fixture(scope="session")
def analysis() -> Analysis:
    """A small study with a known truth, fitted by the real statistics."""
    from report_sample import sample_analysis

    return sample_analysis()


@pytest.fixture(scope="session")
def small() -> Analysis:
    """Two bases and two methods: for what does not depend on there being more."""
    from report_sample import sample_analysis, small_runs

    return sample_analysis(small_runs())


@pytest.fixture(scope="session")
def two_tasks() -> Analysis:
    """Two tasks, the second one badly named."""
    import pandas as pd
    from report_sample import sample_analysis, small_runs

    runs = [small_runs(), small_runs("../Summaries in French")]
    return sample_analysis(pd.concat(runs, ignore_index=True))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The system's Chromium; its downloads go to ``browser.downloads``."""
    from page_browser import started

    made = started(tmp_path_factory)
    yield made
    made.quit()
