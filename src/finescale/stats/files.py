"""Fits on disk: one JSON file, unrounded and versioned; what is loaded forecasts exactly as what was saved."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from datetime import date, time
from pathlib import Path as File
from typing import Any

import numpy as np
import pandas as pd

from finescale.errors import Fault, InputError
from finescale.stats.auto import Path
from finescale.stats.auto_fit import AutoFit, Support
from finescale.stats.evidence import Evidence
from finescale.stats.family import FittedLaw, Joint
from finescale.stats.fits import Fits, GroupFit, Member, Status, law_named
from finescale.stats.groups import Group

FORMAT = "finescale-fits/2"


def save(fits: Fits, path: str | File) -> None:
    """Write fits aside and rename them into place.

    Raises:
        InputError: the file cannot be written there, or the runs hold something JSON has no word for; nothing is left.
    """
    body = {
        "format": FORMAT,
        **{name: getattr(fits, name) for name in ("law", "factor", "by", "seed", "y", "left_out", "about")},
        "groups": [_pack(fit) for fit in fits.groups],
    }
    path = File(path)
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("w", encoding="utf-8") as out:
            json.dump(body, out, allow_nan=False, default=_plain)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(path)
    except OSError as error:
        what = f"cannot be written: {error.strerror}"
        raise InputError(Fault(str(path), what, "name a file in a folder that is there")) from error
    except (TypeError, ValueError) as error:
        raise InputError(Fault(str(path), f"cannot be written: {error}", "mend that column of the runs")) from error
    finally:
        with suppress(OSError):  # there is none to take away
            aside.unlink()


def load_fits(path: str | File) -> Fits:
    """Read fits that ``Fits.to_json`` wrote.

    Raises:
        InputError: no such file, not JSON, or another format.
    """
    try:
        body = json.loads(File(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(Fault(str(path), f"cannot be read: {error}", "give a file written by Fits.to_json")) from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        found = body.get("format") if isinstance(body, dict) else type(body).__name__
        raise InputError(Fault(str(path), f"format {found!r}, expected {FORMAT!r}", "fit again with this version"))
    try:
        return _fits(body)
    except InputError:
        raise
    except Exception as error:  # numpy and pandas meet a damaged file with whatever they stumble on first
        what = f"is damaged: {type(error).__name__}: {error}"
        raise InputError(Fault(str(path), what, "fit again")) from error


def _fits(body: dict[str, Any]) -> Fits:
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
    if isinstance(value, date | time):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a file of fits")


def _pack(fit: GroupFit) -> dict[str, Any]:
    group = fit.group
    auto = {"auto": _pack_auto(fit)} if isinstance(fit, AutoFit) else {}
    return {
        **auto,
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
    known = {"group": group, "law": body["law"], "members": members, "status": Status(**body["status"]), **noise}
    if "auto" in body:
        return AutoFit(**known, diagnostics=body["diagnostics"], **_unpack_auto(body["auto"]))
    return GroupFit(**known, diagnostics=body["diagnostics"])


def _pack_auto(fit: AutoFit) -> dict[str, Any]:
    paths = [{"key": key, "x": p.x, "centre": p.centre, "scale": p.scale, "run": p.run} for key, p in fit.paths.items()]
    joint = None
    if fit.joint is not None:
        laws = [{"law": one.law.name, "theta": one.theta, "coef": one.coef} for one in fit.joint.laws]
        known = {name: getattr(fit.joint, name) for name in ("weights", "steps", "missed")}
        joint = {"laws": laws, **known}
    found = fit.support.found
    law = {"laws": found.laws, "error": found.error, "named": found.named, "sentence": found.sentence}
    return {"paths": paths, "unit": fit.unit, "learnt": fit.learnt, "joint": joint, "law": law}


def _unpack_auto(body: dict[str, Any]) -> dict[str, Any]:
    paths = {}
    for one in body["paths"]:
        arrays = {name: np.array(one[name], dtype=float) for name in ("x", "centre", "scale")}
        paths[tuple(one["key"])] = Path(**arrays, run=one["run"])
    joint = None
    if body["joint"] is not None:
        laws = tuple(
            FittedLaw(law_named(one["law"]), np.array(one["theta"], dtype=float), np.array(one["coef"], dtype=float))
            for one in body["joint"]["laws"]
        )
        known = {name: np.array(body["joint"][name], dtype=float) for name in ("weights", "steps", "missed")}
        joint = Joint(laws, known["weights"], known["steps"].reshape(len(known["missed"]), -1), known["missed"])
    unit = np.array(body["unit"], dtype=float)
    law = body["law"]
    error = np.array(law["error"], dtype=float).reshape(len(law["error"]), len(law["laws"]))
    support = Support([])
    support.found = Evidence(tuple(law["laws"]), error, law["named"], law["sentence"])
    return {"paths": paths, "unit": unit, "learnt": tuple(body["learnt"]), "joint": joint, "support": support}


def _table(frame: pd.DataFrame) -> dict[str, Any]:
    clean = frame.astype(object).where(frame.notna(), None)
    return {"columns": list(frame.columns), "index": list(frame.index), "data": clean.to_numpy().tolist()}


def _frame(body: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(body["data"], columns=body["columns"], index=body["index"]).infer_objects()
