"""The laws: each is names, units, bounds and one function.

Every law here has the form ``L = sum_j c_j * phi_j(factors; theta)`` with coefficients ``c_j >= 0`` that enter linearly
and shape parameters ``theta`` that do not. A law's one function returns the columns ``phi_j``; prediction, fitting,
derivatives, intervals and tables are derived from it. L is in nats per target token, logarithms are natural.

Shape suffixes: B problems solved at once, N runs, K factors (``examples`` is the last), P shapes, M coefficients.

To add a law, write its function and a ``Law`` below and name it in ``registry.BUILT_IN["law"]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

PAPER = "Zhang et al. 2024, When Scaling Meets LLM Finetuning, arXiv 2402.17193"
CHINCHILLA = "Hoffmann et al. 2022, Training Compute-Optimal Large Language Models, arXiv 2203.15556, Eq. 2"
RECTIFIED = "Lin et al. 2024, Selecting Large Language Model to Fine-tune via Rectified Scaling Law, arXiv 2402.02314"

_SUFFIX = {"model_params": "m", "pretrain_tokens": "p", "pet_params": "t"}


@dataclass(frozen=True)
class Parameter:
    """A parameter: its name, what it means, its unit, its bounds, and where a search for it starts.

    ``log`` marks a shape that is searched as a logarithm and reported as its exponential; its bounds are logarithms.
    """

    name: str
    words: str
    unit: str = ""
    lower: float = 0.0
    upper: float = np.inf
    start: Literal["exponent", "place", "offset", "slope", "coefficient"] = "coefficient"
    log: bool = False


@dataclass(frozen=True)
class Law:
    """Names, units, bounds and one function.

    Args:
        columns: the function; ``(z_NK, theta_BP) -> phi_BNM`` with ``z`` the natural logarithms of the factors.
        shapes: the shape parameters, given the names of the factors other than ``examples``.
        coefficients: the linear parameters, in the order of the columns.
        factors: fewest and most factors besides ``examples``.
        last: if given, only this many largest levels of ``examples`` of a curve are fitted.
        slopes: how a sum of terms ``t_j`` moves with the shapes if each term moves like its column;
            ``(z_NK, theta_BP, terms_BNM) -> (B, N, P)``, ``sum_j t_j d(log phi_j)/d(theta)``. Left out, differences of
            ``columns`` are taken, which is slower by a factor of P.
    """

    name: str
    formula: str
    source: str
    columns: Callable[[Array, Array], Array]
    shapes: Callable[[tuple[str, ...]], tuple[Parameter, ...]]
    coefficients: tuple[Parameter, ...]
    factors: tuple[int, int] = (0, 0)
    last: int | None = None
    slopes: Callable[[Array, Array, Array], Array] | None = None

    def parameters(self, factors: tuple[str, ...]) -> tuple[Parameter, ...]:
        """All parameters, shapes first, for these factors (without ``examples``)."""
        return (*self.shapes(factors), *self.coefficients)

    def takes(self, count: int) -> bool:
        """Whether the law is one of this many factors besides ``examples``."""
        return self.factors[0] <= count <= self.factors[1]

    def predict(self, z: Array, theta: Array, coef: Array) -> Array:
        """Loss (B, N) in nats per target token for log-factors ``z`` (N, K), shapes (B, P), coefficients (B, M)."""
        return np.asarray(np.einsum("bnm,bm->bn", self.columns(z, theta), coef), dtype=float)


# -------------------------------------------------------------------------------------------------- parameters in words

_E = Parameter("E", "loss that neither scale nor data removes", "nats/token")
_BETA = Parameter("beta", "exponent of finetuning examples", "", 0.0, 3.0, "exponent")
_A = Parameter("A", "height of the reducible loss", "nats/token × factor units")
_D0 = Parameter("D0", "examples where the power law sets in", "examples", -7.0, 35.0, "place", log=True)


def _alpha(factor: str, several: bool) -> Parameter:
    name = f"alpha_{_SUFFIX.get(factor, factor)}" if several else "alpha"
    # PET size can hurt: the paper's Table 4 has a negative exponent for LoRA on En-De.
    lower = -1.0 if factor == "pet_params" else 0.0
    return Parameter(name, f"exponent of {factor.replace('_', ' ')}", "", lower, 3.0, "exponent")


def _alphas(factors: tuple[str, ...]) -> tuple[Parameter, ...]:
    return tuple(_alpha(factor, len(factors) > 1) for factor in factors)


# -------------------------------------------------------------------------------------------------------- the functions


def _beside(*columns: Array) -> Array:
    """Columns (B, N) as (B, N, count), each of them contiguous in memory, which halves the time of a fit."""
    return np.stack(columns, axis=1).swapaxes(1, 2)


def _with_floor(*columns: Array) -> Array:
    return _beside(*columns, np.ones_like(columns[0]))


def _constant(z: Array, theta: Array) -> Array:
    return np.ones((len(theta), len(z), 1))


def _constant_slopes(z: Array, theta: Array, terms: Array) -> Array:
    return np.zeros((len(theta), len(z), 0))


def _product(z: Array, theta: Array) -> Array:
    return _with_floor(np.exp(-theta @ z.T))


def _product_slopes(z: Array, theta: Array, terms: Array) -> Array:
    return _beside(*(-terms[..., 0] * z[:, k] for k in range(z.shape[1])))


def _additive(z: Array, theta: Array) -> Array:
    return _with_floor(np.exp(-theta[:, :1] * z[:, 0]), np.exp(-theta[:, 1:] * z[:, 1]))


def _additive_slopes(z: Array, theta: Array, terms: Array) -> Array:
    return _beside(-terms[..., 0] * z[:, 0], -terms[..., 1] * z[:, 1])


def _rectified(z: Array, theta: Array) -> Array:
    return _with_floor(1 / (np.exp(theta[:, 1:]) + np.exp(theta[:, :1] * z[:, -1])))


def _rectified_slopes(z: Array, theta: Array, terms: Array) -> Array:
    bent = terms[..., 0] / (1 + np.exp(theta[:, 1:] - theta[:, :1] * z[:, -1]))
    return _beside(-bent * z[:, -1], bent - terms[..., 0])


def _knee(z: Array, theta: Array, onset: Array) -> tuple[Array, Array]:
    """How far past its onset each run is, ``beta (log D - log D0)``, and ``log D - log D0`` itself."""
    past = z[:, -1] - onset
    return theta * past, past


def _rectified_product(z: Array, theta: Array) -> Array:
    bend, _ = _knee(z, theta[:, -2:-1], theta[:, -1:])
    return _with_floor(np.exp(-theta[:, :-2] @ z[:, :-1].T) / (1 + np.exp(bend)))


def _rectified_product_slopes(z: Array, theta: Array, terms: Array) -> Array:
    bend, past = _knee(z, theta[:, -2:-1], theta[:, -1:])
    bent = terms[..., 0] / (1 + np.exp(-bend))
    alphas = (-terms[..., 0] * z[:, k] for k in range(z.shape[1] - 1))
    return _beside(*alphas, -bent * past, bent * theta[:, -2:-1])


def _moved(z: Array, theta: Array) -> Array:
    return np.asarray(theta[:, 2:3] + theta[:, 3:4] * (z[:, 0] - np.log(1e6)))


def _moving_knee(z: Array, theta: Array) -> Array:
    bend, _ = _knee(z, theta[:, 1:2], _moved(z, theta))
    return _with_floor(np.exp(-theta[:, :1] * z[:, 0]) / (1 + np.exp(bend)))


def _moving_knee_slopes(z: Array, theta: Array, terms: Array) -> Array:
    bend, past = _knee(z, theta[:, 1:2], _moved(z, theta))
    bent = terms[..., 0] / (1 + np.exp(-bend))
    onset = bent * theta[:, 1:2]
    return _beside(-terms[..., 0] * z[:, 0], -bent * past, onset, onset * (z[:, 0] - np.log(1e6)))


def _line(z: Array, theta: Array) -> Array:
    return np.asarray(np.exp(-theta @ z[:, -1:].T)[..., None])


def _line_slopes(z: Array, theta: Array, terms: Array) -> Array:
    return np.asarray(-terms * z[:, -1:])


# ------------------------------------------------------------------------------------------------------------- the laws

CONSTANT = Law(
    name="constant",
    formula="L = E",
    source="the null law: nothing in the factors matters",
    columns=_constant,
    slopes=_constant_slopes,
    shapes=lambda factors: (),
    coefficients=(_E,),
    factors=(0, 4),
)

POWER = Law(
    name="power",
    formula="L = A·D^-beta + E",
    source=f"{PAPER}, section 4 (single variable)",
    columns=_product,
    slopes=_product_slopes,
    shapes=lambda factors: (_BETA,),
    coefficients=(_A, _E),
)

MULTIPLICATIVE = Law(
    name="multiplicative",
    formula="L = A·X^-alpha·D^-beta + E",
    source=f"{PAPER}, Eq. 1",
    columns=_product,
    slopes=_product_slopes,
    shapes=lambda factors: (*_alphas(factors), _BETA),
    coefficients=(_A, _E),
    factors=(1, 1),
)

PRODUCT = Law(
    name="product",
    formula="L = A·N^-alpha_m·P^-alpha_p·T^-alpha_t·D^-beta + E",
    source=f"{PAPER}, Eq. 1 taken over all factors at once, which the paper never fitted",
    columns=_product,
    slopes=_product_slopes,
    shapes=lambda factors: (*_alphas(factors), _BETA),
    coefficients=(_A, _E),
    factors=(1, 3),
)

ADDITIVE = Law(
    name="additive",
    formula="L = A·X^-alpha + B·D^-beta + E",
    source=f"{CHINCHILLA}; the form {PAPER} rejects",
    columns=_additive,
    slopes=_additive_slopes,
    shapes=lambda factors: (*_alphas(factors), _BETA),
    coefficients=(
        Parameter("A", "height of the loss that the factor removes", "nats/token × factor units"),
        Parameter("B", "height of the loss that examples remove", "nats/token × example units"),
        _E,
    ),
    factors=(1, 1),
)

RECTIFIED_LAW = Law(
    name="rectified",
    formula="L = B / (D_l + D^beta) + E",
    source=f"{RECTIFIED}, Eq. 4",
    columns=_rectified,
    slopes=_rectified_slopes,
    shapes=lambda factors: (
        _BETA,
        Parameter(
            "D_l", "what pretraining is worth in examples^beta", "examples^beta", -20.0, 60.0, "offset", log=True
        ),
    ),
    coefficients=(Parameter("B", "height of the reducible loss", "nats/token × examples^beta"), _E),
)

RECTIFIED_MULTIPLICATIVE = Law(
    name="rectified-multiplicative",
    formula="L = A·X^-alpha / (1 + (D/D0)^beta) + E",
    source=f"{PAPER}, Eq. 1, with the flat start of {RECTIFIED}",
    columns=_rectified_product,
    slopes=_rectified_product_slopes,
    shapes=lambda factors: (*_alphas(factors), _BETA, _D0),
    coefficients=(_A, _E),
    factors=(1, 3),
)

MOVING_KNEE = Law(
    name="rectified-moving",
    formula="L = A·X^-alpha / (1 + (D/D0)^beta) + E, D0 = d·(X/10^6)^delta",
    source=f"{PAPER}, Eq. 1, with the flat start of {RECTIFIED} depending on the factor",
    columns=_moving_knee,
    slopes=_moving_knee_slopes,
    shapes=lambda factors: (
        *_alphas(factors),
        _BETA,
        Parameter("d", "examples where the power law sets in at X = 10^6", "examples", -20.0, 45.0, "place", log=True),
        Parameter("delta", "exponent with which that onset moves with X", "", -3.0, 3.0, "slope"),
    ),
    coefficients=(_A, _E),
    factors=(1, 1),
)

LOGLOG_LINE = Law(
    name="loglog-line",
    formula="log L = log A - beta·log D through the last 3 sizes",
    source="the humble rival: a straight line in log–log",
    columns=_line,
    slopes=_line_slopes,
    shapes=lambda factors: (Parameter("beta", "slope in log–log", "", -3.0, 3.0, "exponent"),),
    coefficients=(Parameter("A", "loss at one example on that line", "nats/token"),),
    last=3,
)
