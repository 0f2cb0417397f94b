"""What a fit knows and can say: estimates, draws, support, status, forecasts, tables, files."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any, Literal

import numpy as np
import pandas as pd

from finescale import registry
from finescale.errors import Fault, Faults, InputError, Refused, collecting, near
from finescale.stats import asked, units
from finescale.stats.groups import Group, log_factors
from finescale.stats.laws import Array, Law, Parameter
from finescale.stats.solve import Mask
from finescale.stats.uncertainty import WORDS

Kind = Literal["run", "curve"]
# Columns that ``Fits.held_out`` adds to those of the runs.
HELD = ("observed", "median", "low", "high", "reach", "error", "relative_error")


@dataclass(frozen=True)
class Status:
    """Outcome of a fit (``Converged, AtBound, Unidentified, TooFew, NotALaw``) and a sentence with a next step."""

    name: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.name}: {self.sentence}"


@dataclass
class Member:
    """A law with its estimates and draws: shapes (P,), coefficients (M,), draws (B, P) and (B, M), weights (B,)."""

    law: Law
    factors: tuple[str, ...]
    theta: Array
    coef: Array
    draws_theta: Array
    draws_coef: Array
    weight: Array

    def log_draws(self, z: Array) -> Array:
        """Log loss (B, N) of every draw at log-factors ``z`` (N, K of this member)."""
        return np.asarray(np.log(np.maximum(self.law.predict(z, self.draws_theta, self.draws_coef), 1e-300)))

    def log_point(self, z: Array) -> Array:
        return np.asarray(np.log(np.maximum(self.law.predict(z, self.theta[None], self.coef[None])[0], 1e-300)))


@dataclass
class GroupFit:
    """One group's fit.

    Attributes:
        members: laws whose log forecasts are averaged with their weights; one member unless the law is ``auto``.
        run: drawn noise of log loss per run (B,).
        base: drawn deviation of a new base (B,), or of a new seed where the runs of a seed lie off together.
        strain: drawn error of extrapolation per unit of log reach (B,); 0 unless calibrated by ``auto``.
        diagnostics: objective, gradient, starts, resampling and whatever else explains the fit; JSON-able.
    """

    group: Group
    law: str
    members: list[Member]
    status: Status
    run: Array
    base: Array
    strain: Array
    diagnostics: dict[str, Any] = field(default_factory=dict)

    @property
    def fitted(self) -> bool:
        return bool(self.members)

    @property
    def member(self) -> Member:
        """The law of a named fit.

        Raises:
            InputError: there is none: the group was not fitted, or ``auto`` combines laws that have no one set of
                parameters.
        """
        if self.members:
            return self.members[0]
        what = "is forecast by auto, which has no parameters" if self.fitted else f"has no parameters: {self.status}"
        raise InputError(Fault(f"group {self.group.label}", what, "fit a named law"))

    @property
    def outcome(self) -> Status:
        """The status as it is shown."""
        return self.status

    def refused(self, frame: pd.DataFrame) -> Mask:
        """Which rows (N,) lie too far from what was seen to be answered; a law by itself answers everywhere."""
        return np.zeros(len(frame), dtype=bool)

    def citations(self) -> list[str]:
        """Sources of what the forecasts rest on."""
        said = self.diagnostics.get("priors", {})
        return [*(member.law.source for member in self.members), *(f"{name}: {text}" for name, text in said.items())]

    def rows(self, level: float) -> list[list[Any]]:
        """Rows of ``Fits.table`` after the ``by`` columns."""
        rows = [row for member in self.members for row in member_rows(member, self.status.name, level)]
        for row in rows:
            said = self.diagnostics.get("priors", {}).get(row[2])
            row[7] = f"{row[7]}; {said}" if said else row[7]
        return rows

    def reach(self, frame: pd.DataFrame) -> Array:
        """How many times beyond the support each row (N,) lies, in its worst factor; 1 is inside."""
        worst = np.ones(len(frame))
        for name, (low, high) in self.group.support.items():
            value = frame[name].to_numpy(dtype=float)
            worst = np.maximum(worst, np.maximum(value / high, low / value))
        return worst

    def log_draws(self, frame: pd.DataFrame, kind: Kind, seed: int) -> Array:
        """Joint draws (B, N) of log loss: one curve per draw; ``run`` adds a base's deviation and a run's noise.

        The draws of a row do not depend on the rows beside it, and rows that are alike are one run.
        """
        out = self._log_curves(frame) + self.strain[:, None] * np.log(self.reach(frame))
        if kind == "run":
            out += self._deviations(frame, seed) + self.run[:, None] * self.unit_noise(frame, seed)
        return np.asarray(out)

    def unit_noise(self, frame: pd.DataFrame, seed: int) -> Array:
        """Standard normal draws (B, N) that belong to each row's own factors."""
        rows = [tuple(row) for row in frame[list(self.group.factors)].to_numpy(dtype=float).tolist()]
        own = {row: stream(seed, self.group.label, row).standard_normal(len(self.run)) for row in dict.fromkeys(rows)}
        return np.column_stack([own[row] for row in rows]) if rows else np.empty((len(self.run), 0))

    def _log_curves(self, frame: pd.DataFrame) -> Array:
        curves = (m.weight[:, None] * m.log_draws(log_factors(frame, m.factors)) for m in self.members)
        return np.asarray(sum(curves), dtype=float)

    def _deviations(self, frame: pd.DataFrame, seed: int) -> Array:
        """How each row's base departs from each drawn law (B, N): a seen base as its runs say, a new one at random.

        Given a law, a base's runs depart from it by their mean, which is the base's deviation give or take the noise of
        that mean; the two normal distributions are multiplied.
        """
        asked, seen = self.group.bases_of(frame)
        out = np.zeros((len(self.base), len(frame)))
        if not self.base.any():
            return out
        left = np.log(self.group.y) - self._log_curves(self.group.frame)
        for code in np.unique(asked):
            # Where seeds are what runs share, a run that nobody made has one of its own.
            runs = np.flatnonzero((seen == code) & (not self.diagnostics.get("noise_of_seed")))
            unit = self._unit_of_base(frame.iloc[np.flatnonzero(asked == code)[0]], seed)
            if len(runs):
                blur = self.run**2 / len(runs)
                trust = self.base**2 / np.maximum(self.base**2 + blur, 1e-300)
                drawn = trust * left[:, runs].mean(axis=1) + np.sqrt(trust * blur) * unit
            else:
                drawn = self.base * unit
            out[:, asked == code] = drawn[:, None]
        return out

    def _unit_of_base(self, row: pd.Series, seed: int) -> Array:
        """Standard normal draws (B,) that belong to the base of a row, or to the row if it does not say its base."""
        names = self.group.base_columns
        told = bool(names) and all(name in row for name in names)
        values = (row[name] for name in (names if told else self.group.factors))
        # A size is the same base whether its column holds whole numbers or not.
        key = tuple(str(value) if isinstance(value, str) else float(value) for value in values)
        return np.asarray(stream(seed, self.group.label, "base", key).standard_normal(len(self.base)))


@dataclass
class Fits:
    """Fits of one law to the groups of a table of runs; what ``fit`` returns.

    Attributes:
        law: name of the law, or ``auto``.
        factor: factors besides ``examples``.
        by: the columns that make groups.
        groups: one fit per group.
        left_out: findings about rows that no fit used.
    """

    law: str
    factor: tuple[str, ...]
    by: tuple[str, ...]
    groups: list[GroupFit]
    seed: int = 0
    y: str = "loss"
    left_out: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    # ---------------------------------------------------------------------------------------------------- asking

    @property
    def status(self) -> dict[str, Status]:
        """Outcome per group, by the group's label."""
        return {fit.group.label: fit.outcome for fit in self.groups}

    @property
    def unit(self) -> str:
        """What the losses are in, as the table said; nothing where it did not."""
        return str(self.about.get("unit", ""))

    @property
    def factors(self) -> tuple[str, ...]:
        return (*self.factor, "examples")

    def find(self, **key: Any) -> GroupFit:
        """The fit of the group with these ``by`` values; names that are not in ``by`` tell nothing apart.

        Raises:
            InputError: no such group, or several; the message lists them.
        """
        asked = {name: as_key(value) for name, value in key.items() if name in self.by}
        found = [fit for fit in self.groups if all(fit.group.key[name] == value for name, value in asked.items())]
        wanted = ", ".join(f"{name}={value}" for name, value in key.items())
        if not found:
            raise InputError(Fault(f"group {wanted}", "is not in these fits", near(wanted, self.status)))
        if len(found) > 1:
            which = "; ".join(fit.group.label for fit in found)
            missing = ", ".join(name for name in self.by if name not in asked)
            what = f"may be {len(found)} of these fits: {which}"
            raise InputError(Fault(f"group {wanted}".strip(), what, f"give {missing} too"))
        return found[0]

    def draws(self, frame: pd.DataFrame, kind: Kind = "curve") -> Array:
        """Joint draws of the loss, one column per row of ``frame``: (B, N) in nats per target token.

        Draw b of two groups is joint when they share parameters and independent otherwise. A row's draws do not depend
        on the rows beside it; two rows with the same factors are one run asked twice.

        Raises:
            InputError: columns are missing, factors are not positive, or a group is unknown or was not fitted.
            Refused: ``law="auto"`` is asked more than 1024 times above what was seen of a curve, or 2 times below it.
        """
        where = self._match(frame)
        self._refuse(frame, where)
        return self._drawn(frame, where, kind)

    def _drawn(self, frame: pd.DataFrame, where: Array, kind: Kind) -> Array:
        B = max(len(fit.run) for fit in self.groups)
        out = np.empty((B, len(frame)))
        for index, fit in enumerate(self.groups):
            rows = np.flatnonzero(where == index)
            if len(rows):
                out[:, rows] = np.exp(fit.log_draws(frame.iloc[rows], kind, self.seed))
        return out

    def _too_far(self, frame: pd.DataFrame, where: Array) -> Mask:
        """Which rows (N,) their group's fit refuses."""
        far = np.zeros(len(frame), dtype=bool)
        for index in np.unique(where).astype(int):
            rows = where == index
            far[rows] = self.groups[index].refused(frame[rows])
        return far

    def _refuse(self, frame: pd.DataFrame, where: Array) -> None:
        far = np.flatnonzero(self._too_far(frame, where))
        if len(far):
            row = frame.iloc[far[:1]]
            raise Refused(
                f"row {row.index[0]} lies {self.reach(row)[0]:,.0f} times beyond what was seen of its curve; "
                "law='auto' answers up to 1,024 times above that and 2 times below. Ask nearer, or add runs there"
            )

    def answers(self, frame: pd.DataFrame) -> Mask:
        """Which rows (N,) ``draws`` answers; ``law="auto"`` refuses those that lie too far from what was seen."""
        return np.asarray(~self._too_far(frame, self._match(frame)))

    def reach(self, frame: pd.DataFrame) -> Array:
        """How many times beyond the support each row lies (N,); 1 is inside."""
        where, out = self._match(frame), np.empty(len(frame))
        for index in np.unique(where).astype(int):
            rows = where == index
            out[rows] = self.groups[index].reach(frame[rows])
        return out

    def forecast(
        self, frame: pd.DataFrame | None = None, level: float = 0.9, kind: Kind = "run", **factors: Any
    ) -> pd.DataFrame:
        """Forecast the loss of runs nobody has made.

        Args:
            frame: one row per run with the factors and the ``by`` columns; or give them by name, as
                ``forecast(method="lora", model_params=7e9, examples=20_000)``.
            level: probability that the interval holds the value.
            kind: ``run`` for a single new run (adds its noise), ``curve`` for the law's expected loss.

        Returns:
            A frame aligned to the rows given: ``median, low, high`` in the runs' ``unit``, and ``reach``, how many
            times beyond the support the row lies in its worst factor (1 is inside).

        Raises:
            InputError: as ``draws``; every fault is listed.
        """
        if frame is None:
            self.check_named(factors)
            frame = pd.DataFrame([factors])
        check_level(level)
        if kind not in ("run", "curve"):
            raise InputError(Fault("kind", f"{kind!r} is unknown", near(str(kind), ["run", "curve"])))
        draws = self.draws(frame, kind)
        low, median, high = np.quantile(draws, [(1 - level) / 2, 0.5, (1 + level) / 2], axis=0)
        return pd.DataFrame({"median": median, "low": low, "high": high, "reach": self.reach(frame)}, index=frame.index)

    def check_named(self, names: Iterable[str]) -> None:
        """Every name given for a run plays a part in these fits.

        Raises:
            InputError: some do not; every one is listed.
        """
        with collecting() as faults:
            asked.check_names(names, (*self.by, *self.factors), [fit.group for fit in self.groups], faults)

    def _match(self, frame: pd.DataFrame) -> Array:
        """Index of the group of every row, after checking everything."""
        with collecting() as faults:
            for name in (*self.by, *self.factors):
                if name not in frame:
                    faults.add(
                        f"column {name!r}", "is missing from the frame to forecast", near(name, map(str, frame.columns))
                    )
            for name in self.factors:
                if name in frame:
                    asked.check_positive(frame, name, faults)
            if not all(name in frame for name in self.by):
                return np.zeros(0)
            where = self._groups_of(frame, faults)
            groups = [fit.group for fit in self.groups]
            asked.check_constant(frame, (*self.by, *self.factors), where, groups, faults)
            return where

    def _groups_of(self, frame: pd.DataFrame, faults: Faults) -> Array:
        keys = {tuple(fit.group.key[name] for name in self.by): index for index, fit in enumerate(self.groups)}
        rows = list(zip(*(keyed(frame[name]) for name in self.by), strict=True)) if self.by else [()] * len(frame)
        for row in dict.fromkeys(rows):
            label = ", ".join(f"{name}={value}" for name, value in zip(self.by, row, strict=True))
            if row not in keys:
                faults.add(f"group {label}", "is not in these fits", near(label, self.status))
            elif not self.groups[keys[row]].fitted:
                faults.add(f"group {label}", "was not fitted", str(self.groups[keys[row]].status))
        return np.array([keys.get(row, -1) for row in rows])

    def held_out(self, level: float = 0.9) -> pd.DataFrame:
        """Forecasts of the held-out runs beside what was observed, one row per run.

        Columns: the runs' own columns, ``observed, median, low, high, reach``, ``error`` (median minus observed, nats)
        and ``relative_error`` (its size over the observed loss). Empty if nothing was held out. A run beyond the reach
        of ``law="auto"`` has its ``reach`` and nothing else.
        """
        parts = [fit.group.held for fit in self.groups if fit.fitted and len(fit.group.held)]
        if not parts:
            return pd.DataFrame(columns=[*self.by, *self.factors, "observed", "median", "low", "high", "reach"])
        held = pd.concat(parts)
        near = held[self.answers(held)]
        said = self.forecast(near, level).reindex(held.index).assign(reach=self.reach(held))
        out = held.drop(columns=[self.y]).assign(observed=held[self.y]).join(said)
        out["error"] = out["median"] - out["observed"]
        out["relative_error"] = out["error"].abs() / out["observed"]
        return out.reset_index(drop=True)

    # -------------------------------------------------------------------------------------------------- reporting

    def table(self, level: float = 0.9) -> pd.DataFrame:
        """One row per group, law and parameter: ``estimate, low, high, unit, meaning, weight, status``.

        Raises:
            InputError: ``level`` is not between 0 and 1.
        """
        check_level(level)
        rows = [[*fit.group.key.values(), *row] for fit in self.groups for row in fit.rows(level)]
        columns = [*self.by, "law", "weight", "parameter", "estimate", "low", "high", "unit", "meaning", "status"]
        found = pd.DataFrame(rows, columns=columns)
        return found.assign(unit=[units.of_parameter(unit, self.unit) for unit in found["unit"]])

    def correlations(self, **key: Any) -> pd.DataFrame:
        """Correlations between the parameters of a group's law, over its draws.

        Raises:
            InputError: as ``find``, or the group has no parameters (it was not fitted, or by ``auto``).
        """
        member = self.find(**key).member
        names = [p.name for p in member.law.parameters(member.factors[:-1])]
        draws = np.concatenate([member.draws_theta, np.log(np.maximum(member.draws_coef, 1e-12))], axis=1)
        return pd.DataFrame(draws, columns=names).corr()

    def profile(self, parameter: str, level: float = 0.9, **key: Any) -> pd.DataFrame:
        """Profile interval of a parameter of one group; see ``finescale.stats.profile.profile``."""
        from finescale.stats.profile import profile

        return profile(self, parameter, level, **key)

    def citations(self) -> list[str]:
        """Sources of the laws used and of the way they are fitted."""
        sources = [source for fit in self.groups for source in fit.citations()]
        how = ["Golub & Pereyra 2003, Separable nonlinear least squares, doi 10.1088/0266-5611/19/2/201"]
        return list(dict.fromkeys([*sources, *how]))

    def plot(self, ax: Any = None, level: float = 0.9) -> Any:
        """Draw runs, curves and bands against ``examples``; returns the matplotlib Axes."""
        from finescale.stats.plots import draw

        return draw(self, ax, level)

    def to_json(self, path: Any) -> None:
        """Write everything, unrounded, to one JSON file (written aside, then renamed)."""
        from finescale.stats.files import save

        save(self, path)

    def __str__(self) -> str:
        head = f"law {self.law}, factors {', '.join(self.factors)}, {len(self.groups)} groups, seed {self.seed}"
        head += f"; {units.said(self.unit)}" if self.unit else ""
        table = self.table()
        table = table[table["estimate"].notna()]  # what is said in words is in the status
        beside = ["low", "high", "unit"] if table["low"].notna().any() else ["meaning"]
        table = table[[*self.by, "law", "parameter", "estimate", *beside]]
        body = (
            table.to_string(index=False, float_format=lambda value: f"{value:.4g}") if len(table) else "nothing fitted"
        )
        states = [f"{label}: {status}" for label, status in self.status.items()]
        schemes = {fit.diagnostics.get("scheme") for fit in self.groups if fit.fitted}
        how = [f"90 % intervals: {WORDS.get(str(scheme), str(scheme))}" for scheme in sorted(map(str, schemes))]
        notes = [f"note: {line}" for line in self.about.get("notes", [])]
        return "\n".join([head, body, *states, *how, *notes, *(f"left out: {line}" for line in self.left_out)])


def stream(*key: Any) -> np.random.Generator:
    """A stream of random numbers that belongs to a key, the same in every call and in every process."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def laws_of(count: int) -> list[str]:
    """Names of the registered laws of so many factors besides ``examples``, each law once.

    With one factor the product is the multiplicative law under another name.
    """
    names = [name for name in registry.names("law") if law_named(name).takes(count)]
    return [name for name in names if name != "product" or count > 1]


def check_level(level: float) -> None:
    """Is this the probability that an interval holds?

    Raises:
        InputError: it is not a number between 0 and 1.
    """
    if not isinstance(level, int | float | np.number) or not 0 < level < 1:
        raise InputError(Fault("level", f"{level!r} is not a number between 0 and 1", "0.9 is usual"))


def as_key(value: Any) -> Any:
    """The value of a ``by`` column as a group's key has it: a word or a number, which can be told apart and written.

    What is missing is the word ``missing``, and a time is its ISO 8601 text.
    """
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "missing"
    return value.isoformat() if isinstance(value, date | time) else value


def keyed(column: pd.Series) -> pd.Series:
    """A ``by`` column as the keys of its groups; columns that are so already stay as they are."""
    if column.isna().any() or not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_string_dtype(column)):
        return column.astype(object).map(as_key)
    return column


def natural(parameter: Parameter, value: Array) -> Array:
    """A parameter as it is reported: those searched as logarithms are given as themselves."""
    return np.exp(value) if parameter.log else value


def member_rows(member: Member, status: str, level: float) -> list[list[Any]]:
    """Rows of a table of estimates for one law: law, weight, parameter, estimate, low, high, unit, meaning, status."""
    points = np.concatenate([member.theta, member.coef])
    draws = np.concatenate([member.draws_theta, member.draws_coef], axis=1)
    bounds = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    rows: list[list[Any]] = []
    for i, p in enumerate(member.law.parameters(member.factors[:-1])):
        values = [float(natural(p, v)) for v in (points[i], bounds[0, i], bounds[1, i])]
        rows.append([member.law.name, float(member.weight.mean()), p.name, *values, p.unit, p.words, status])
    return rows


def law_named(name: str) -> Law:
    """The registered law of this name."""
    law = registry.get("law", name)
    if not isinstance(law, Law):
        raise InputError(Fault(f"law {name!r}", "is registered but is not a finescale.stats.laws.Law"))
    return law
