"""Published families of models with several sizes and pretraining checkpoints, so that a study of them can be planned.

A revision names a training step; tokens follow from it. Shapes are those of each model's ``config.json``; parameter
counts follow from the shape by each architecture's own formula and are held against the numbers its makers publish.
A family's checkpoints come from one run each, so that all but the last are not annealed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from finescale.core import BaseSpec, PublicBase, Shape
from finescale.errors import Fault, InputError, near
from finescale.lab import sources
from finescale.lab.ladder import Params, count
from finescale.lab.packages import PREFIX, packaged


@dataclass(frozen=True)
class Size:
    """One size of a family: its shape and how it was trained; ``steps`` is the last step, or a bound on it."""

    layers: int
    heads: int
    width: int
    ff: int
    vocab: int
    batch_tokens: int
    steps: int
    kv_heads: int | None = None


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
    """

    repository: str
    revision: str
    example: str
    context: int
    gated: bool
    params: Callable[[Shape], Params]
    source: str
    sizes: dict[str, Size]

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


def _pythia(layers: int, heads: int, width: int, vocab: int = 50_304) -> Size:
    return Size(layers, heads, width, 4 * width, vocab, batch_tokens=2**21, steps=143_000)


def _bloom_size(layers: int, heads: int, width: int, batch_tokens: int) -> Size:
    return Size(layers, heads, width, 4 * width, 250_880, batch_tokens, steps=350 * 10**9 // batch_tokens)


FAMILIES = (
    Family(
        repository="EleutherAI/pythia-{size}",
        revision=r"step(?P<step>\d+)",
        example="step143000",
        context=2048,
        gated=False,
        params=_neox,
        source="Biderman et al. 2023 (arXiv 2304.01373), Table 1, and model cards: English Pile in the same order for "
        "every size, 2,097,152 tokens a step, cosine schedule, revisions step0, step1 … step512, step1000 … step143000",
        sizes={
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
            "1124-13B": Size(40, 40, 5120, 13_824, 100_352, batch_tokens=2**23, steps=596_057),
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
        "100000 and 200000 of 7b1 are reported to be one file",
        sizes={
            "560m": _bloom_size(24, 16, 1024, 2**19),
            "1b1": _bloom_size(24, 16, 1536, 2**19),
            "1b7": _bloom_size(24, 16, 2048, 2**20),
            "3b": _bloom_size(30, 32, 2560, 2**20),
            "7b1": _bloom_size(30, 32, 4096, 2**20),
        },
    ),
)


def repositories() -> list[str]:
    """Repositories of all models known here."""
    return [family.repository.format(size=size) for family in FAMILIES for size in family.sizes]


def public_base(name: str) -> PublicBase:
    """The base that ``repository@revision``, ``pypi:PACKAGE`` or the path of a local folder names.

    What a table here knows is not looked at; any other model is described by its own files, which have to be there.

    Raises:
        InputError: the model cannot be had, or the revision names no step of a known model's training.
    """
    if name.startswith(PREFIX):
        return packaged(name)
    repository, _, revision = name.partition("@")
    for family in FAMILIES:
        for label, size in family.sizes.items():
            if repository == family.repository.format(size=label):
                return _at(family, size, repository, revision)
    return _described(name)


def family_of(name: str) -> str:
    """What a model's kin share, which differ from it in size: ``repository`` with ``{size}``; else its own name."""
    kin = {family.repository.format(size=size): family.repository for family in FAMILIES for size in family.sizes}
    return kin.get(name, name)


def tabled(name: str) -> bool:
    """Whether a model's facts stand in a table here, so that it can be planned without its files."""
    return name.startswith(PREFIX) or name.partition("@")[0] in repositories()


@lru_cache
def _described(name: str) -> PublicBase:
    """A model that no table knows, by its own files: a local folder, or a repository of the hub."""
    try:
        place = sources.folder(name, weights=sources.is_folder(name))
    except InputError as error:
        raise error if sources.is_folder(name) else _unknown(name, error) from None
    from finescale.lab.checkpoint import describe

    shape, inner, total = describe(name)
    repository, _, revision = name.partition("@")
    local = sources.digest(place) if sources.is_folder(name) else None
    return PublicBase(
        name=place.name if local else repository,
        revision=local or revision or "main",
        digest=local or f"{repository}@{revision or 'main'}",
        tokenizer=sources.tokenizer_digest(place),
        shape=shape,
        model_params=inner,
        total_params=total,
    )


def _unknown(name: str, error: InputError) -> InputError:
    """That no table and no cache knows a repository, with the nearest name that a table knows."""
    known, fault = near(name.partition("@")[0], repositories()), error.faults[0]
    return InputError(Fault(name, f"is no model known here, and {fault.what}", f"{known}; or {fault.fix}"))


def tokens_of(name: str) -> int:
    """Tokens a published model was pretrained on, as places in a plan are keyed; 0 where its publisher does not say."""
    return (public_base(name).pretrain_tokens or 0) if tabled(name) else 0


def _at(family: Family, size: Size, repository: str, revision: str) -> PublicBase:
    found = re.fullmatch(family.revision, revision)
    step = int(found["step"]) if found else 0
    if not 0 < step <= size.steps:
        what = f"has no revision {revision!r}" if revision else "is named without a revision"
        fix = f"write {repository}@REVISION as in {family.example}, at most step {size.steps}"
        raise InputError(Fault(repository, what, fix))
    shape = family.shape(size)
    params = family.params(shape)
    return PublicBase(
        name=repository,
        revision=revision,
        digest=f"{repository}@{revision}",
        tokenizer=family.repository,
        shape=shape,
        model_params=params.non_embedding,
        total_params=params.total,
        pretrain_tokens=step * size.batch_tokens,
    )


def params_of(base: BaseSpec | PublicBase) -> Params:
    """Parameters of a base of either kind."""
    if isinstance(base, PublicBase):
        return Params(non_embedding=base.model_params, total=base.total_params)
    return count(base.shape)
