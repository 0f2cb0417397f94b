"""What every registered law must do, a contributor's own included."""

import numpy as np
import pandas as pd
import pytest

import finescale as fs
from finescale import registry
from finescale.stats.groups import Cell, Group, PointFit, grid_of, predict, solve
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


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_loss_settles_as_examples_grow_without_end(law, factors, z) -> None:
    theta = np.maximum(np.abs(_inside(law, factors, z[:, : len(factors) + 1])), 0.05)
    far = np.tile(z[:1, : len(factors) + 1], (2, 1))
    far[:, -1] = 300.0, 400.0
    columns = law.columns(far, theta)
    assert np.all(np.isfinite(columns))
    assert np.all(np.abs(np.diff(columns, axis=1)) < 1e-5)


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_order_of_runs_does_not_matter(law, factors, z) -> None:
    z, order = z[:, : len(factors) + 1], np.random.default_rng(2).permutation(len(z))
    theta = _inside(law, factors, z)
    assert np.array_equal(law.columns(z[order], theta), law.columns(z, theta)[:, order])


def _table(law: Law, factors: tuple[str, ...], scale: float = 1.0) -> pd.DataFrame:
    """Exact losses of the law on a grid, with the examples then counted in another unit."""
    axes = [1e6 * 3.0 ** np.arange(4)] * len(factors) + [250 * 2.0 ** np.arange(8)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    start = {"exponent": 0.3, "place": np.log(2000.0), "offset": 2.0, "slope": 0.1, "coefficient": 1.0}
    theta = np.array([[start[p.start] for p in law.shapes(factors)]])
    middle = law.columns(np.log(grid).mean(axis=0)[None], theta)[0, 0]
    loss = law.predict(np.log(grid), theta, (1 / middle)[None])[0]
    frame = pd.DataFrame(grid, columns=[*factors, "examples"]).assign(loss=loss)
    return frame.assign(examples=frame["examples"] * scale)


def _solved(law: Law, factors: tuple[str, ...], scale: float) -> tuple[PointFit, np.ndarray]:
    frame = _table(law, factors, scale)
    cell = Cell(law, [Group({}, (*factors, "examples"), frame, frame.iloc[:0])])
    point = solve(cell)
    return point, predict(cell.problem(), point.theta, point.coef)


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_counting_examples_in_another_unit_moves_no_exponent_and_no_forecast(law, factors) -> None:
    one, said = _solved(law, factors, 1.0)
    two, again = _solved(law, factors, 16.0)
    assert again == pytest.approx(said, rel=1e-4)
    exponents = [i for i, p in enumerate(law.shapes(factors)) if p.start == "exponent"]
    assert two.theta[exponents] == pytest.approx(one.theta[exponents], abs=5e-3)


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_saved_fits_are_read_back_exactly(law, factors, tmp_path) -> None:
    noise = np.exp(0.003 * np.random.default_rng(3).standard_normal(len(_table(law, factors))))
    fits = fs.fit(_table(law, factors).assign(loss=lambda t: t["loss"] * noise), law.name, factors, draws=5)
    fits.to_json(tmp_path / "fits.json")
    again = fs.load_fits(tmp_path / "fits.json")
    pd.testing.assert_frame_equal(again.table(), fits.table(), check_exact=True)
    asked = _table(law, factors).head(3)
    pd.testing.assert_frame_equal(again.forecast(asked), fits.forecast(asked), check_exact=True)
