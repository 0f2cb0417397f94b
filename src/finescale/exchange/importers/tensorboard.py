"""TensorBoard's logs: a run is a folder with event files, whatever trainer wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from finescale.errors import Fault, InputError
from finescale.exchange.disk import folders
from finescale.exchange.events import FILES
from finescale.exchange.found import Found, Importer, Skipped
from finescale.exchange.history import arguments, gaps, logged
from finescale.exchange.known import base, settings

LOSSES = ("eval/loss", "eval_loss", "validation/loss", "val/loss", "val_loss", "test/loss", "test_loss")


def runs(root: Path) -> Iterator[Found | Skipped]:
    """Every folder at or under ``root`` with event files; several of one run are read as one.

    Raises:
        InputError: there is no such folder.
    """
    if root.is_file():
        raise InputError(Fault(str(root), "is a file", "give the folder that its event files lie in"))
    for folder in folders(root):
        if not any(folder.glob(FILES)):
            continue
        events, wrong = logged(folder)
        if not events.scalars:
            yield Skipped(folder, wrong[0] if wrong else "its event files hold no scalar")
            continue
        scores = {tag: tuple(sorted(points, key=lambda point: point[0])) for tag, points in events.scalars.items()}
        config = arguments(events)
        notes = [*wrong, *_gaps(scores)]
        name = str(folder.relative_to(root)) if folder != root else (folder.name or folder.resolve().name)
        facts = base(config.get("model_name_or_path")) | settings(config) | {"steps": _last(scores)}
        yield Found(name, folder, facts, scores, config, notes=tuple(dict.fromkeys(notes)))


def _last(scores: dict[str, tuple[tuple[float, float], ...]]) -> float:
    return max(step for points in scores.values() for step, _ in points)


def _gaps(scores: dict[str, tuple[tuple[float, float], ...]]) -> Iterator[str]:
    for name in LOSSES:
        if name in scores and (missing := gaps([step for step, _ in scores[name]], _last(scores))):
            yield f"{name} {missing}"


IMPORTER = Importer("tensorboard", "folders with TensorBoard's event files", LOSSES, runs)
