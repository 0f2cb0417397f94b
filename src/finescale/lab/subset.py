"""Nested subsets: a smaller one lies inside a larger one, and each keeps the pool's mix of languages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from finescale.errors import Fault, InputError
from finescale.lab.packing import Example
from finescale.lab.splits import strata_of


def subset(examples: Sequence[Example], n: int, seed: int) -> list[Example]:
    """``n`` examples drawn by ``seed``: a prefix of one order, so that smaller subsets lie inside larger ones.

    At every ``n`` each stratum (language) has its share of the pool to within one example.

    Raises:
        InputError: there are fewer than ``n`` examples.
    """
    if n > len(examples):
        fix = "name smaller sizes under finetune.examples"
        raise InputError(Fault(f"{n} examples", f"only {len(examples)} fit the task's token limits", fix))
    order = np.random.default_rng([seed, 0]).permutation(len(examples))
    strata = strata_of(examples)
    return [examples[order[i]] for i in in_proportion([strata[j] for j in order], n)]


def in_proportion(strata: Sequence[int], n: int) -> list[int]:
    """Places of the first ``n`` of ``strata``, each stratum in its given order and at every prefix in proportion.

    Apportioning each ``n`` on its own (largest remainder) is not nested: a larger ``n`` may take an example away. So
    the whole sequence is made at once: of a stratum with share p the j-th example is due within places
    floor((j-1)/p)+1 to ceil(j/p), which keeps its count strictly within one of n*p; taking the earliest due first
    meets every such window (Baruah et al. 1996, proportionate fairness, on one processor).
    """
    sizes = Counter(strata)
    if len(sizes) < 2:
        return list(range(min(n, len(strata))))
    whole = len(strata)
    waiting = {stratum: [i for i, own in enumerate(strata) if own == stratum] for stratum in sorted(sizes)}
    taken = dict.fromkeys(waiting, 0)
    chosen: list[int] = []
    for place in range(1, min(n, whole) + 1):
        ready = [s for s, size in sizes.items() if taken[s] < size and taken[s] * whole // size + 1 <= place]
        next_due = min(ready, key=lambda s: (-(-(taken[s] + 1) * whole // sizes[s]), s))
        chosen.append(waiting[next_due][taken[next_due]])
        taken[next_due] += 1
    return chosen
