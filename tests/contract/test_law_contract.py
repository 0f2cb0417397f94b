"""What every registered law must do, a contributor's own included."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


# Where shapes are drawn from, by how a search for them starts; an onset that moves up with size is left out: a larger
# base can then be worse.
_RANGES = {"exponent": (0.02, 1.4), "place": (3.0, 12.0), "offset": (-1.0, 9.0), "slope": (-0.5, 0.0)}


@st.composite
def _truths(draw: st.DrawFn, law: Law, factors: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Shapes (1, P) and coefficients (1, M) of the law, none of which is 0."""
    theta = [draw(st.floats(*_RANGES[p.start])) for p in law.shapes(factors)]
    coef = [draw(st.floats(0.1, 50.0)) for _ in law.coefficients]
    return np.array([theta]), np.array([coef])


def _along(z: np.ndarray, at: int, low: float, high: float) -> np.ndarray:
    """Thirty rows that differ in one factor only."""
    line = np.tile(z[0], (30, 1))
    line[:, at] = np.linspace(np.log(low), np.log(high), 30)
    return line


def _of(law: Law, factors: tuple[str, ...], start: str) -> list[int]:
    return [i for i, p in enumerate(law.shapes(factors)) if p.start == start]


def _sizes(law: Law, factors: tuple[str, ...]) -> list[int]:
    """Where the exponents of size stand: those besides that of examples."""
    return [i for i, p in enumerate(law.shapes(factors)) if p.name.startswith("alpha")]


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
def test_order_of_runs_does_not_matter(law, factors, z) -> None:
    z, order = z[:, : len(factors) + 1], np.random.default_rng(2).permutation(len(z))
    theta = _inside(law, factors, z)
    assert np.array_equal(law.columns(z[order], theta), law.columns(z, theta)[:, order])


@pytest.mark.parametrize(("law", "factors"), _cases())
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_loss_falls_in_examples_and_in_size_for_positive_exponents(law, factors, data) -> None:
    theta, coef = data.draw(_truths(law, factors))
    z = np.full((1, len(factors) + 1), np.log(3e4))
    for at in range(len(factors) + 1):
        said = law.predict(_along(z, at, 10, 1e9), theta, coef)[0]
        assert np.all(np.diff(said) <= 1e-12 * said[:-1])
        above = law.predict(_along(z, at, 10, 1e9), theta, coef * [p.name != "E" for p in law.coefficients])[0]
        if law.shapes(factors) and (at == len(factors) or _sizes(law, factors)):
            assert above[-1] < above[0]


@pytest.mark.parametrize(("law", "factors"), _cases())
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_examples_without_end_leave_the_floor_and_what_only_size_removes(law, factors, data) -> None:
    """At the limit no exponent of examples and no onset matters; of the built-in laws only the sum keeps a part."""
    theta, coef = data.draw(_truths(law, factors))
    z = np.column_stack([np.full((5, len(factors)), np.log(3e4)), np.full(5, 1e5)])
    with np.errstate(over="ignore"):
        limit = law.predict(z, theta, coef)
    names = [p.name for p in law.coefficients]
    kept = [i for i, p in enumerate(law.shapes(factors)) if p.name.startswith("alpha")]
    other = theta * 1.1
    other[:, kept] = theta[:, kept]
    with np.errstate(over="ignore"):
        assert law.predict(z, other, coef) == pytest.approx(limit, rel=1e-9, abs=1e-12)
    floor = coef[0, names.index("E")] if "E" in names else 0.0
    if law.name == "additive":
        size = coef[0, names.index("A")] * np.exp(-theta[0, 0] * z[:, 0])
        assert limit[0] == pytest.approx(floor + size, rel=1e-9)
    elif law.name in registry.BUILT_IN["law"]:
        assert limit[0] == pytest.approx(np.full(5, floor), rel=1e-9, abs=1e-12)
    assert np.all(limit >= floor * (1 - 1e-12))


@pytest.mark.parametrize(("law", "factors"), _cases())
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_law_with_an_onset_is_flat_before_it_and_others_rise_without_end(law, factors, data) -> None:
    theta, coef = data.draw(_truths(law, factors))
    z = np.column_stack([np.full((2, len(factors)), np.log(3e4)), [-3000.0, -2000.0]])
    theta[:, [i for i, p in enumerate(law.shapes(factors)) if p.name == "beta"]] += 0.05
    with np.errstate(over="ignore"):
        first, second = law.predict(z, theta, coef)[0]
    if _of(law, factors, "place") or _of(law, factors, "offset"):
        assert first == pytest.approx(second, rel=1e-12)
        assert np.isfinite(first)
    elif law.shapes(factors):
        assert first > 1e6 * coef.sum()


# The curve that each joint law is where its exponents of size are 0, and that curve's shapes and coefficients.
_CURVES = {
    "multiplicative": ("power", lambda s, c: ([s[-1]], c)),
    "product": ("power", lambda s, c: ([s[-1]], c)),
    "additive": ("power", lambda s, c: ([s[-1]], [c[1], c[0] + c[2]])),
    # A/(1 + (D/D0)^beta) is B/(D_l + D^beta) with D_l = D0^beta and B = A D_l; the fixed shape is searched as log D_l.
    "rectified-multiplicative": (
        "rectified",
        lambda s, c: ([s[-2], s[-2] * s[-1]], [c[0] * np.exp(s[-2] * s[-1]), c[1]]),
    ),
    "rectified-moving": ("rectified", lambda s, c: ([s[1], s[1] * s[2]], [c[0] * np.exp(s[1] * s[2]), c[1]])),
}


@pytest.mark.parametrize(("law", "factors"), _cases())
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_without_exponents_of_size_a_law_is_its_curve_at_every_size(law, factors, data) -> None:
    theta, coef = data.draw(_truths(law, factors))
    theta[:, [*_sizes(law, factors), *_of(law, factors, "slope")]] = 0.0
    z = np.random.default_rng(4).uniform(np.log(1e3), np.log(1e6), size=(12, len(factors) + 1))
    said = law.predict(z, theta, coef)
    shuffled = np.column_stack([z[::-1, :-1], z[:, -1]])
    assert law.predict(shuffled, theta, coef) == pytest.approx(said, rel=1e-12)
    if law.name in _CURVES:
        name, made = _CURVES[law.name]
        shapes, heights = made(theta[0], coef[0])
        curve = registry.get("law", name)
        assert curve.predict(z[:, -1:], np.array([shapes]), np.array([heights])) == pytest.approx(said, rel=1e-9)


def test_every_joint_law_of_this_package_has_its_curve_named() -> None:
    joint = {name for name in registry.names("law") if registry.get("law", name).shapes(FACTORS[:1])}
    joint = {name for name in joint if _sizes(registry.get("law", name), FACTORS[:1])}
    assert joint >= set(_CURVES)
    assert {registry.get("law", name).factors[0] for name in _CURVES} == {1}


def _table(law: Law, factors: tuple[str, ...]) -> pd.DataFrame:
    """Exact losses of the law on a grid."""
    axes = [1e6 * 3.0 ** np.arange(4)] * len(factors) + [250 * 2.0 ** np.arange(8)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    start = {"exponent": 0.3, "place": np.log(2000.0), "offset": 2.0, "slope": 0.1, "coefficient": 1.0}
    theta = np.array([[start[p.start] for p in law.shapes(factors)]])
    middle = law.columns(np.log(grid).mean(axis=0)[None], theta)[0, 0]
    loss = law.predict(np.log(grid), theta, (1 / middle)[None])[0]
    return pd.DataFrame(grid, columns=[*factors, "examples"]).assign(loss=loss)


def _solved(law: Law, factors: tuple[str, ...], frame: pd.DataFrame) -> tuple[PointFit, pd.Series]:
    """The fit, and what it says of each row."""
    cell = Cell(law, [Group({}, (*factors, "examples"), frame, frame.iloc[:0])])
    point = solve(cell)
    return point, pd.Series(predict(cell.problem(), point.theta, point.coef), frame.index)


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_counting_a_factor_in_another_unit_moves_no_exponent_and_no_forecast(law, factors) -> None:
    frame = _table(law, factors)
    one, said = _solved(law, factors, frame)
    exponents = [*_of(law, factors, "exponent"), *_of(law, factors, "slope")]
    for name, scale in (*((factor, 4.0) for factor in factors), ("examples", 16.0)):
        two, again = _solved(law, factors, frame.assign(**{name: frame[name] * scale}))
        assert again.to_numpy() == pytest.approx(said.to_numpy(), rel=1e-4)
        assert two.theta[exponents] == pytest.approx(one.theta[exponents], abs=5e-3)


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_losses_in_another_unit_scale_the_heights_and_move_no_shape(law, factors) -> None:
    frame = _table(law, factors)
    one, said = _solved(law, factors, frame)
    two, again = _solved(law, factors, frame.assign(loss=frame["loss"] * 8))
    assert again.to_numpy() == pytest.approx(8 * said.to_numpy(), rel=1e-5)
    assert two.theta == pytest.approx(one.theta, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_order_of_runs_does_not_move_a_fit(law, factors) -> None:
    noise = np.exp(0.003 * np.random.default_rng(3).standard_normal(len(_table(law, factors))))
    frame = _table(law, factors).assign(loss=lambda t: t["loss"] * noise)
    one, said = _solved(law, factors, frame)
    two, again = _solved(law, factors, frame.sample(frac=1, random_state=5))
    assert again[frame.index].to_numpy() == pytest.approx(said.to_numpy(), rel=1e-5)
    assert two.objective == pytest.approx(one.objective, rel=1e-6)


@pytest.mark.parametrize(("law", "factors"), _cases())
def test_saved_fits_are_read_back_exactly(law, factors, tmp_path) -> None:
    noise = np.exp(0.003 * np.random.default_rng(3).standard_normal(len(_table(law, factors))))
    fits = fs.fit(_table(law, factors).assign(loss=lambda t: t["loss"] * noise), law.name, factors, draws=5)
    fits.to_json(tmp_path / "fits.json")
    again = fs.load_fits(tmp_path / "fits.json")
    pd.testing.assert_frame_equal(again.table(), fits.table(), check_exact=True)
    asked = _table(law, factors).head(3)
    pd.testing.assert_frame_equal(again.forecast(asked), fits.forecast(asked), check_exact=True)
