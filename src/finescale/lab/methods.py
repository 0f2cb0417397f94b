"""Finetuning methods: what is trainable, how it attaches, how many parameters that is.

A method never trains anything itself; there is one training loop and it asks only for the trainable parameters.
torch and peft are imported when a method attaches, so that planning can count parameters without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from finescale.core import Shape
from finescale.lab.adapters import ADAPTERS, Options, inject
from finescale.lab.ladder import count

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Attached:
    """A method on a model: the parameters to train by name, and the soft prompt among them if there is one."""

    trainable: dict[str, torch.nn.Parameter]
    prefix: torch.nn.Parameter | None = None


@dataclass(frozen=True)
class Method:
    """A finetuning method.

    Attributes:
        name: its name in a study file.
        size_word: what its PET size is called there (``rank``, ``length``), or None where it has none.
        default_sizes: PET sizes used when a study names none.
        options: options with their defaults.
        default_rates: learning rates searched on the smallest base when a study names none. The grids differ by
            method on purpose: a rate shared across methods would compare a tuned method with an untuned one.
        width_exponent: a rate found at width w0 is used at width w as ``rate · (w0 / w) ** width_exponent``.
        size_exponent: from the options; a rate found at PET size k0 is used at k as
            ``rate · (k0 / k) ** size_exponent(options)``.
        count: trainable parameters in closed form, from shape and PET size.
        attach: makes a model trainable by this method; arguments are model, PET size, options and seed.
        source: where the method comes from.
        whole: every weight of the base is trained, none is frozen.
        package: what it needs that is not always there; the extra of finescale that installs it has the method's name.
    """

    name: str
    size_word: str | None
    default_sizes: tuple[int, ...]
    options: dict[str, float | bool | str]
    default_rates: tuple[float, ...]
    width_exponent: float
    size_exponent: Callable[[Options], float]
    count: Callable[[Shape, int], int]
    attach: Callable[[Any, int, Options, int], Attached]
    source: str
    summary: str = field(default="")
    whole: bool = False
    package: str | None = None

    def pet_params(self, shape: Shape, pet_size: int | None) -> int:
        """Trainable parameters on a base of this shape."""
        return self.count(shape, pet_size or 0)

    def rate_at(
        self,
        rate: float,
        found_at: Shape,
        used_at: Shape,
        found_size: int | None = None,
        used_size: int | None = None,
        options: Options | None = None,
        optimiser: Literal["adamw", "adafactor"] = "adamw",
    ) -> float:
        """Carry a searched rate from the base and PET size it was found at to others; the identity at the same place.

        ``rate · (found width / used width) ** width_exponent · (found size / used size) ** size_exponent``. The width
        has no part under Adafactor where every weight is trained, since its steps are then in units of the weights' own
        size: one rate for all bases, as in Zhang et al. 2024 (section 3). What a method adds is trained in absolute
        steps under either optimiser, so that the rule is the same.

        Args:
            rate: the rate found.
            found_at: shape of the base it was found on.
            used_at: shape of the base it is for.
            found_size: PET size it was found at; None where the method has none.
            used_size: PET size it is for.
            options: the method's options; by default its own.
            optimiser: what trains both runs.
        """
        relative = optimiser == "adafactor" and self.whole
        carried = rate * float((found_at.width / used_at.width) ** (0.0 if relative else self.width_exponent))
        if found_size is None or used_size is None:
            return carried
        return carried * float((found_size / used_size) ** self.size_exponent({**self.options, **(options or {})}))


def _one_rate(options: Options) -> float:
    """Size exponent of a method whose rate is the same at every PET size."""
    return 0.0


def _count_full(shape: Shape, pet_size: int) -> int:
    return count(shape).total


def _attach_full(model: Any, pet_size: int, options: Options, seed: int) -> Attached:
    model.requires_grad_(True)
    return Attached(dict(model.named_parameters()))


def _lora_size_exponent(options: Options) -> float:
    """How the rate must fall with rank: not at all with a scale of alpha / r, as 1/√r with rsLoRA's alpha / √r.

    AdamW moves every entry of B by about the rate, whatever the size of the gradient and so of the scale s. An output
    of B·A·x is a sum over r such entries, each moved the way that lowers the loss, so that one step moves the layer's
    output by about s · r · rate: by alpha · rate with alpha / r, the same at every rank (Schulman et al. 2025, "LoRA
    without regret", find the best rate nearly independent of rank), and by alpha · √r · rate with rsLoRA. Kalajdzievski
    2023 (arXiv 2312.03732) derives alpha / √r for gradient descent, whose step also shrinks with s; an optimiser that
    normalises its step takes that factor away.

    Measured on one small base with one seed and rates a factor of two apart (``benchmarks/rank_rates.py``,
    docs/lab-log.md): the best rate was the same from rank 1 to 64 with alpha / r; with rsLoRA it fell more slowly than
    this, and a study that compares ranks under it should search at each.
    """
    return 0.5 if options["rslora"] else 0.0


def _attach_adapter(name: str, model: Any, pet_size: int, options: Options, seed: int) -> Attached:
    return Attached(inject(name, model, pet_size, options, seed))


def _count_prompt(shape: Shape, length: int) -> int:
    return length * shape.width


def _attach_prompt(model: Any, length: int, options: Options, seed: int) -> Attached:
    """A soft prompt before every example, started from the embeddings of sampled tokens (Lester et al. 2021, 3.2)."""
    import torch

    model.requires_grad_(False)
    table = model.get_input_embeddings().weight
    drawn = torch.randint(len(table), (length,), generator=torch.Generator().manual_seed(seed))
    prefix = torch.nn.Parameter(table.detach()[drawn].clone())
    return Attached({"prompt": prefix}, prefix)


FULL = Method(
    name="full",
    size_word=None,
    default_sizes=(),
    options={},
    default_rates=(5e-4, 1.5e-3, 5e-3),
    width_exponent=1.0,
    size_exponent=_one_rate,
    count=_count_full,
    attach=_attach_full,
    source="Zhang et al. 2024 (arXiv 2402.17193), section 3: full-model tuning",
    summary="every weight is trained",
    whole=True,
)
LORA = Method(
    name="lora",
    size_word="rank",
    default_sizes=(8,),
    options={"alpha": 32.0, "rslora": False},
    default_rates=(1e-3, 3e-3, 1e-2),
    width_exponent=0.5,
    size_exponent=_lora_size_exponent,
    count=ADAPTERS["lora"].count,
    attach=partial(_attach_adapter, "lora"),
    source="Hu et al. 2022 (arXiv 2106.09685); rank-stabilised scaling: Kalajdzievski 2023 (arXiv 2312.03732)",
    summary="low-rank updates of all linear layers of attention and MLP",
)
RSLORA = replace(
    LORA,
    name="rslora",
    options={"alpha": 32.0, "rslora": True},
    source="Kalajdzievski 2023 (arXiv 2312.03732)",
    summary="LoRA scaled by alpha / √rank, so that a higher rank is not held back",
)
QLORA = replace(
    LORA,
    name="qlora",
    attach=partial(_attach_adapter, "qlora"),
    source="Dettmers et al. 2023 (arXiv 2305.14314)",
    summary="LoRA on a base whose linear layers are kept in 4 bits",
    package="bitsandbytes",
)
DORA = replace(
    LORA,
    name="dora",
    count=ADAPTERS["dora"].count,
    attach=partial(_attach_adapter, "dora"),
    source="Liu et al. 2024 (arXiv 2402.09353)",
    summary="LoRA on the direction of the weights, their length trained apart",
)
IA3 = Method(
    name="ia3",
    size_word=None,
    default_sizes=(),
    options={},
    default_rates=(3e-3, 1e-2, 3e-2),
    width_exponent=0.0,
    size_exponent=_one_rate,
    count=ADAPTERS["ia3"].count,
    attach=partial(_attach_adapter, "ia3"),
    source="Liu et al. 2022 (arXiv 2205.05638), whose rate is 3e-3",
    summary="a factor on every key, value and hidden unit of the feed-forward",
)
PROMPT = Method(
    name="prompt",
    size_word="length",
    default_sizes=(20,),
    options={},
    default_rates=(1e-2, 3e-2, 1e-1),
    width_exponent=0.0,
    size_exponent=_one_rate,
    count=_count_prompt,
    attach=_attach_prompt,
    source="Lester et al. 2021 (arXiv 2104.08691); one rate for lengths 1 to 150, their section 3",
    summary="a soft prompt before every example, initialised from sampled vocabulary vectors",
)
