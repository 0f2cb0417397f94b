"""Losses stay what they were, and are the same bits when they are made again; tests/golden/losses/make.py made them."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "losses"
sys.path.insert(0, str(GOLDEN))
from make import losses  # noqa: E402

ROUNDING = 2e-4
"""Other processors add in another order, and training carries that on."""


@cache
def made() -> dict[str, Any]:
    return losses()


def test_pretraining_loses_what_it_lost() -> None:
    golden = json.loads((GOLDEN / "losses.json").read_text())
    assert made()["pretraining"] == pytest.approx(golden["pretraining"], rel=ROUNDING)
    assert made()["valid"] == pytest.approx(golden["valid"], rel=ROUNDING)


def test_every_method_loses_what_it_lost() -> None:
    golden = json.loads((GOLDEN / "losses.json").read_text())
    assert set(made()["finetuning"]) == set(golden["finetuning"]), "a new method needs golden losses: run make.py"
    for name, curve in golden["finetuning"].items():
        assert made()["finetuning"][name] == pytest.approx(curve, rel=ROUNDING), name


def test_made_again_they_are_the_same_bits() -> None:
    assert losses() == made()
