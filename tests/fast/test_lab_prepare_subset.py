"""Subsets: nested in size, and at every size in the pool's proportions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finescale.errors import InputError
from finescale.lab.packing import Example
from finescale.lab.subset import in_proportion, subset

STRATA = st.lists(st.integers(0, 5), min_size=1, max_size=120)


def pool(strata: list[int]) -> list[Example]:
    return [Example(np.array([i]), np.array([i]), 1, stratum) for i, stratum in enumerate(strata)]


@settings(deadline=None)
@given(STRATA, st.integers(0, 5), st.data())
def test_subsets_are_nested_and_repeat_no_example(strata: list[int], seed: int, data: st.DataObject) -> None:
    examples = pool(strata)
    small, large = sorted(data.draw(st.tuples(*[st.integers(1, len(strata))] * 2)))
    larger = subset(examples, large, seed)
    assert larger[:small] == subset(examples, small, seed)
    assert len({int(e.prompt[0]) for e in larger}) == large


@settings(deadline=None)
@given(STRATA)
def test_every_prefix_keeps_the_mix_within_one_example(strata: list[int]) -> None:
    order = in_proportion(strata, len(strata))
    assert sorted(order) == list(range(len(strata)))
    sizes, taken = Counter(strata), Counter[int]()
    for n, place in enumerate(order, 1):
        taken[strata[place]] += 1
        for stratum, size in sizes.items():
            assert abs(taken[stratum] - n * size / len(strata)) < 1


@given(STRATA)
def test_within_a_stratum_the_given_order_is_kept(strata: list[int]) -> None:
    order = in_proportion(strata, len(strata))
    for stratum in set(strata):
        own = [place for place in order if strata[place] == stratum]
        assert own == sorted(own)


def test_a_rare_language_is_there_as_soon_as_its_share_is_one_example() -> None:
    strata = [0] * 990 + [1] * 10
    assert Counter(strata[i] for i in in_proportion(strata, 100)) == {0: 99, 1: 1}
    assert Counter(strata[i] for i in in_proportion(strata, 500)) == {0: 495, 1: 5}


def test_one_language_is_a_seeded_permutation() -> None:
    """Golden: numpy.random.default_rng([7, 0]).permutation(20)[:5] (numpy 2.4.6)."""
    assert [int(e.prompt[0]) for e in subset(pool([0] * 20), 5, 7)] == [3, 8, 12, 13, 14]


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="only 3 fit"):
        subset(pool([0, 0, 1]), 4, 0)
