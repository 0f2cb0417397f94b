"""finescale: which model, which finetuning method, how many examples, and how sure are we?

Public names are imported on first use, so that ``import finescale`` stays light and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0.dev0"

_PUBLIC: dict[str, str] = {
    "Advice": "finescale.stats.advise",
    "Analysis": "finescale.study.analyse",
    "FinescaleError": "finescale.errors",
    "Fits": "finescale.stats.fits",
    "InputError": "finescale.errors",
    "Refused": "finescale.errors",
    "Runs": "finescale.stats.runs",
    "advise": "finescale.stats.advise",
    "analyse": "finescale.study.analyse",
    "claims": "finescale.stats.claims",
    "compare": "finescale.stats.select",
    "critical_size": "finescale.stats.critical",
    "fit": "finescale.stats.fit",
    "load_fits": "finescale.stats.files",
    "open_study": "finescale.study.lock",
    "published": "finescale.stats.published",
    "read_runs": "finescale.stats.runs",
    "read_study": "finescale.study.lock",
    "run": "finescale.study.run",
    "tables": "finescale.report.paper",
    "write_page": "finescale.report.page",
}

__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'finescale' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
