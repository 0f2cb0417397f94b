"""Published families of models with several sizes and pretraining checkpoints, as a table.

A revision names a training step; tokens follow from it. Shapes are those of each model's ``config.json``; parameter
counts follow from the shape by each architecture's own formula. Facts are written down as their sources are known; they
were not looked up again here, and a model that is brought into a study is counted on its own weights.
Not here: DataDecide (allenai), whose checkpoints open only with code of their own, which is not run; and families of
one size, which are opened by their files as any other model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from finescale.core import Shape
from finescale.lab.ladder import Params, count, matrices


@dataclass(frozen=True)
class Size:
    """One size of a family: its shape and how it was trained.

    Attributes:
        steps: the last step, or a bound on it.
        every, early: steps that are kept: all multiples of the one, and those of the other.
        annealed: whether the last step ends the learning rate's schedule; those before it never do.
        seed: which of several trainings that differ in nothing else.
        bad: revisions known to be something other than they say, with what they are.
    """

    layers: int
    heads: int
    width: int
    ff: int
    vocab: int
    batch_tokens: int
    steps: int
    kv_heads: int | None = None
    every: int = 1
    early: tuple[int, ...] = ()
    annealed: bool = False
    seed: int = 0
    bad: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """Models that differ in size and share data, recipe and the way revisions are named.

    Attributes:
        repository: its sizes' repositories, with ``{size}``.
        revision: pattern whose group ``step`` is the training step.
        example: the last revision of one size, to show how revisions are written.
        params: parameters without and with embeddings, from the shape.
        gated: three feed-forward matrices, or two.
        source: where the facts come from, and what to know before using the family.
        tokenizer: the family whose tokenizer it has, by its repository; None: its own.
    """

    repository: str
    revision: str
    example: str
    context: int
    gated: bool
    params: Callable[[Shape], Params]
    source: str
    sizes: dict[str, Size]
    tokenizer: str | None = None

    def shape(self, size: Size) -> Shape:
        """Shape of one size."""
        return Shape(
            layers=size.layers,
            width=size.width,
            heads=size.heads,
            ff=size.ff,
            vocab=size.vocab,
            context=self.context,
            kv_heads=size.kv_heads,
            gated=self.gated,
        )


EARLY = tuple(2**power for power in range(10))
"""Steps of Pythia that are kept before the first thousand."""


def _neox(shape: Shape) -> Params:
    """GPT-NeoX: biases everywhere, two norms a layer with biases, output head apart from the embeddings."""
    inner = shape.layers * (12 * shape.width**2 + 13 * shape.width) + 2 * shape.width
    return Params(non_embedding=inner, total=inner + 2 * shape.vocab * shape.width)


def _bloom(shape: Shape) -> Params:
    """BLOOM: as GPT-NeoX, with a norm after the embeddings and the head tied to them."""
    inner = shape.layers * (12 * shape.width**2 + 13 * shape.width) + 4 * shape.width
    return Params(non_embedding=inner, total=inner + shape.vocab * shape.width)


def _olmo2(shape: Shape) -> Params:
    """OLMo 2: no biases, norms on queries and keys too, output head apart from the embeddings."""
    keys = shape.width // shape.heads * (shape.kv_heads or shape.heads)
    inner = count(shape).non_embedding + shape.layers * (shape.width + keys)
    return Params(non_embedding=inner, total=inner + 2 * shape.vocab * shape.width)


def _olmo(shape: Shape) -> Params:
    """OLMo: norms without weights, no biases; the head tied to the embeddings at 1B only."""
    inner = shape.layers * sum(read * write for read, write in matrices(shape))
    return Params(non_embedding=inner, total=inner + (1 if shape.width == 2048 else 2) * shape.vocab * shape.width)


def _pythia(layers: int, heads: int, width: int, vocab: int = 50_304) -> Size:
    return Size(layers, heads, width, 4 * width, vocab, 2**21, 143_000, every=1000, early=EARLY, annealed=True)


def _bloom_size(layers: int, heads: int, width: int, batch_tokens: int) -> Size:
    return Size(layers, heads, width, 4 * width, 250_880, batch_tokens, steps=350 * 10**9 // batch_tokens)


def _smollm2(
    layers: int,
    heads: int,
    width: int,
    ff: int,
    batch_tokens: int,
    tokens: int,
    every: int,
    kv_heads: int | None = None,
) -> Size:
    return Size(layers, heads, width, ff, 49_152, batch_tokens, tokens // batch_tokens, kv_heads, every=every)


TWICE = {f"global_step{step}00000": "is reported to hold the same file as step 100000 or 200000" for step in (1, 2)}

PYTHIA = {
    "14m": _pythia(6, 4, 128),
    "31m": _pythia(6, 8, 256),
    "70m": _pythia(6, 8, 512),
    "160m": _pythia(12, 12, 768),
    "410m": _pythia(24, 16, 1024),
    "1b": _pythia(16, 8, 2048),
    "1.4b": _pythia(24, 16, 2048),
    "2.8b": _pythia(32, 32, 2560),
    "6.9b": _pythia(32, 32, 4096, vocab=50_432),
    "12b": _pythia(36, 40, 5120, vocab=50_688),
}
POLY = {
    f"{label}-seed{seed}": replace(PYTHIA[label], seed=seed)
    for label in ("14m", "31m", "70m", "160m", "410m")
    for seed in range(1, 10)
}
"""Ten seeds of the smaller sizes: the first is Pythia's own."""

PYTHIAS = Family(
    repository="EleutherAI/pythia-{size}",
    revision=r"step(?P<step>\d+)",
    example="step143000",
    context=2048,
    gated=False,
    params=_neox,
    source="Biderman et al. 2023 (arXiv 2304.01373), Table 1, and model cards: English Pile in the same order for "
    "every size, 2,097,152 tokens a step, cosine schedule, revisions step0, step1 … step512, step1000 … step143000",
    sizes=PYTHIA,
)
DEDUPED = replace(
    PYTHIAS,
    repository="EleutherAI/pythia-{size}-deduped",
    tokenizer=PYTHIAS.repository,
    source="as Pythia, on the Pile without duplicates, of which they read one and a half passes",
    sizes={label: size for label, size in PYTHIA.items() if label not in ("14m", "31m")},
)
POLYPYTHIAS = replace(
    PYTHIAS,
    source="van der Wal et al. 2025 (PolyPythias, arXiv 2503.09543): nine more seeds of Pythia's smaller sizes, "
    "with the same revisions",
    sizes=POLY,
)

FAMILIES = (
    PYTHIAS,
    DEDUPED,
    POLYPYTHIAS,
    Family(
        repository="allenai/OLMo-{size}-hf",
        revision=r"step(?P<step>\d+)-tokens\d+B",
        example="step738020-tokens3094B",
        context=2048,
        gated=True,
        params=_olmo,
        source="Groeneveld et al. 2024 (OLMo, arXiv 2402.00838) and model cards: English; steps are not annealed",
        sizes={
            "1B": Size(16, 16, 2048, 8192, 50_304, batch_tokens=2**22, steps=738_020),
            "7B": Size(32, 32, 4096, 11_008, 50_304, batch_tokens=2160 * 2048, steps=557_000),
        },
    ),
    Family(
        repository="HuggingFaceTB/SmolLM2-{size}-intermediate-checkpoints",
        revision=r"step-(?P<step>\d+)",
        example="step-240000",
        context=2048,
        gated=True,
        params=count,
        source="Ben Allal et al. 2025 (arXiv 2502.02737) and model cards: constant rate, decayed at the very end; "
        "sizes read different amounts of different text (2T, 4T, 11T tokens), so size and data cannot be told apart; "
        "every 240,000 (135M), 160,000 (360M) or 125,000 (1.7B) steps; context by stage, 2048 at first",
        sizes={
            "135M": _smollm2(30, 9, 576, 1536, 2**20, 2 * 10**12, every=240_000, kv_heads=3),
            "360M": _smollm2(32, 15, 960, 2560, 1536 * 2**10, 4 * 10**12, every=160_000, kv_heads=5),
            "1.7B": _smollm2(24, 32, 2048, 8192, 2**21, 11 * 10**12, every=125_000),
        },
    ),
    Family(
        repository="allenai/OLMo-2-{size}",
        revision=r"stage1-step(?P<step>\d+)-tokens\d+B",
        example="stage1-step928646-tokens3896B",
        context=4096,
        gated=True,
        params=_olmo2,
        source="OLMo 2 (arXiv 2501.00656) and model cards. Stage 1 only: main is a soup after stage 2 and no end of a "
        "pretraining curve; the schedule of 1B and 7B aims at 5T tokens, so their stage 1 ends before it has decayed",
        sizes={
            "0425-1B": Size(16, 16, 2048, 8192, 100_352, batch_tokens=2**21, steps=1_907_359),
            "1124-7B": Size(32, 32, 4096, 11_008, 100_352, batch_tokens=2**22, steps=928_646),
            "1124-13B": Size(40, 40, 5120, 13_824, 100_352, batch_tokens=2**23, steps=596_057, annealed=True),
            "0325-32B": Size(64, 40, 5120, 27_648, 100_352, batch_tokens=2**23, steps=721_901, kv_heads=8),
        },
    ),
    Family(
        repository="bigscience/bloom-{size}-intermediate",
        revision=r"global_step(?P<step>\d+)",
        example="global_step100000",
        context=2048,
        gated=False,
        params=_bloom,
        source="BigScience 2022 (arXiv 2211.05100) and model cards: 46 languages with Chinese, French and Spanish and "
        "without German; about 350B tokens, which bound the steps; a batch ramp-up makes the first ones smaller; steps "
        "100000 and 200000 of 7b1 are reported to be one file; to be planned only: their attention shares no rows",
        sizes={
            "560m": _bloom_size(24, 16, 1024, 2**19),
            "1b1": _bloom_size(24, 16, 1536, 2**19),
            "1b7": _bloom_size(24, 16, 2048, 2**20),
            "3b": _bloom_size(30, 32, 2560, 2**20),
            "7b1": replace(_bloom_size(30, 32, 4096, 2**20), bad=TWICE),
        },
    ),
)
