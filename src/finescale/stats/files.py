"""Fits on disk: one JSON file, unrounded and versioned; what is loaded forecasts exactly as what was saved."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from finescale.errors import Fault, InputError
from finescale.stats.fits import Fits, GroupFit, Member, Status, law_named
from finescale.stats.groups import Group

FORMAT = "finescale-fits/1"


def save(fits: Fits, path: str | Path) -> None:
    """Write fits aside and rename them into place."""
    body = {
        "format": FORMAT,
        **{name: getattr(fits, name) for name in ("law", "factor", "by", "seed", "y", "left_out", "about")},
        "groups": [_pack(fit) for fit in fits.groups],
    }
    path = Path(path)
    aside = path.with_name(path.name + ".part")
    with aside.open("w", encoding="utf-8") as out:
        json.dump(body, out, allow_nan=False, default=_plain)
        out.flush()
        os.fsync(out.fileno())
    aside.replace(path)


def load_fits(path: str | Path) -> Fits:
    """Read fits that ``Fits.to_json`` wrote.

    Raises:
        InputError: no such file, not JSON, or another format.
    """
    try:
        body = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(Fault(str(path), f"cannot be read: {error}", "give a file written by Fits.to_json")) from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        found = body.get("format") if isinstance(body, dict) else type(body).__name__
        raise InputError(Fault(str(path), f"format {found!r}, expected {FORMAT!r}", "fit again with this version"))
    return Fits(
        law=body["law"],
        factor=tuple(body["factor"]),
        by=tuple(body["by"]),
        groups=[_unpack(one) for one in body["groups"]],
        seed=body["seed"],
        y=body["y"],
        left_out=tuple(body["left_out"]),
        about=body["about"],
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a file of fits")


def _pack(fit: GroupFit) -> dict[str, Any]:
    group = fit.group
    return {
        "key": group.key,
        "factors": group.factors,
        "y": group.y_name,
        "runs": _table(group.frame),
        "held": _table(group.held),
        "law": fit.law,
        "status": asdict(fit.status),
        "noise": {"run": fit.run, "base": fit.base, "strain": fit.strain},
        "diagnostics": fit.diagnostics,
        "members": [
            {"law": m.law.name, "factors": m.factors, **{name: getattr(m, name) for name in _ARRAYS}}
            for m in fit.members
        ],
    }


_ARRAYS = ("theta", "coef", "draws_theta", "draws_coef", "weight")


def _unpack(body: dict[str, Any]) -> GroupFit:
    group = Group(body["key"], tuple(body["factors"]), _frame(body["runs"]), _frame(body["held"]), body["y"])
    members = []
    for m in body["members"]:
        arrays = {name: np.array(m[name], dtype=float) for name in _ARRAYS}
        B, P = len(arrays["weight"]), len(arrays["theta"])
        arrays["draws_theta"] = arrays["draws_theta"].reshape(B, P)
        members.append(Member(law_named(m["law"]), tuple(m["factors"]), **arrays))
    noise = {name: np.array(value, dtype=float) for name, value in body["noise"].items()}
    return GroupFit(group, body["law"], members, Status(**body["status"]), **noise, diagnostics=body["diagnostics"])


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    clean = frame.astype(object).where(frame.notna(), None)
    return {"columns": list(frame.columns), "index": list(frame.index), "data": clean.to_numpy().tolist()}


def _frame(body: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(body["data"], columns=body["columns"], index=body["index"]).infer_objects()
