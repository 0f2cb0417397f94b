"""What every registered law must do, a contributor's own included."""

import numpy as np
import pytest

from finescale import registry
from finescale.stats.groups import grid_of
from finescale.stats.laws import Law
from finescale.stats.solve import Problem

FACTORS = ("model_params", "pretrain_tokens", "pet_params")


def _cases():
    for name in registry.names("law"):
        law = registry.get("law", name)
        for count in range(law.factors[0], min(law.factors[1], 3) + 1):
            yield pytest.param(law, FACTORS[:count], id=f"{name}-{count}")


def _inside(law: Law, factors: tuple[str, ...], z: np.ndarray) -> np.ndarray:
    grid = grid_of(law, (*factors, "examples"), z)
    return grid[np.linspace(0, len(grid) - 1, 7).astype(int)]


@pytest.fixture
def z() -> np.ndarray:
    return np.random.default_rng(0).uniform(np.log(1e3), np.log(1e6), size=(9, 4))


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_columns_are_finite_nonnegative_and_shaped(law: Law, factors: tuple[str, ...], z: np.ndarray) -> None:
    z = z[:, : len(factors) + 1]
    theta = _inside(law, factors, z)
    columns = law.columns(z, theta)
    assert columns.shape == (len(theta), len(z), len(law.coefficients))
    assert np.all(np.isfinite(columns))
    assert np.all(columns >= 0)


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_loss_never_rises_with_examples_for_non_negative_exponents(law, factors, z) -> None:
    theta = np.abs(_inside(law, factors, z[:, : len(factors) + 1]))
    coef = np.ones((len(theta), len(law.coefficients)))
    line = np.tile(z[:1, : len(factors) + 1], (30, 1))
    line[:, -1] = np.linspace(np.log(10), np.log(1e9), 30)
    assert np.all(np.diff(law.predict(line, theta, coef), axis=1) <= 1e-12)


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_slopes_are_the_derivatives_of_the_columns(law: Law, factors: tuple[str, ...], z: np.ndarray) -> None:
    z = z[:, : len(factors) + 1]
    theta = _inside(law, factors, z)
    terms = np.random.default_rng(1).uniform(0.5, 2.0, (len(theta), len(z), len(law.coefficients)))
    bounds = np.zeros(theta.shape[1]), np.ones(theta.shape[1])
    by_difference = Problem(law.columns, z, *bounds).moves(z, theta, terms)
    assert Problem(law.columns, z, *bounds, slopes=law.slopes).moves(z, theta, terms) == pytest.approx(
        by_difference, rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_names_units_bounds_and_source_are_given(law: Law, factors: tuple[str, ...]) -> None:
    parameters = law.parameters(factors)
    assert len({p.name for p in parameters}) == len(parameters)
    assert all(p.words and p.lower < p.upper for p in parameters)
    assert law.source
    assert law.formula
    assert registry.get("law", law.name) is law
