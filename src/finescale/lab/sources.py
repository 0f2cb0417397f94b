"""Where the files of a published model are: a local folder, or the Hugging Face hub with its cache.

Only settings, tokenizer and safetensors weights are fetched, and code where a study trusts it; pickled weights are left
where they are. A model that was downloaded once is found again without a network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from finescale.core import fingerprint, sha256_of
from finescale.errors import Fault, Faults, InputError, near_path
from finescale.lab import packages

SETTINGS = ("*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
WEIGHTS = "*.safetensors"
CODE = "*.py"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
LOCAL = ("/", "~", ".")


def is_folder(name: str) -> bool:
    """Whether a model's name is the path of a folder."""
    return name.startswith(LOCAL)


def folder(name: str, weights: bool = True, code: bool = False) -> Path:
    """The folder with a model's files, checked to hold what is needed.

    Args:
        name: a whole path, or ``repository`` or ``repository@revision`` on the hub.
        weights: False where settings and tokenizer are enough.
        code: whether the code that it brings is fetched too.

    Raises:
        InputError: the model cannot be had, or a file is missing; says what to do.
    """
    place = _local(name) if is_folder(name) else _downloaded(name, weights, code)
    faults = Faults()
    if not (place / "config.json").is_file():
        faults.add(name, "has no config.json", "is it a model that transformers has saved?")
    if not any((place / file).is_file() for file in TOKENIZERS):
        faults.add(name, "has no tokenizer", "save it beside the weights: tokenizer.save_pretrained(folder)")
    if weights and not any(place.glob(WEIGHTS)):
        pickled = any(place.glob("*.bin")) or any(place.glob("*.pt"))
        what = "has pickled weights only, which are not opened" if pickled else "has no weights (*.safetensors)"
        faults.add(name, what, "load it where you trust it and save it again: model.save_pretrained(folder)")
    faults.raise_if_any()
    return place


def whole(name: str, code: bool = False) -> Path:
    """The folder with a model's weights, whatever its name is; fetched where it is not here, with its code if asked.

    Raises:
        InputError: the model cannot be had.
    """
    return packages.weights(name).parent if name.startswith(packages.PREFIX) else folder(name, code=code)


def digest(place: Path, code: bool = False) -> str:
    """Identity of a local model: the content of its settings, tokenizer and weights, whatever the folder is called.

    Its code counts where it is run (``code``).
    """
    patterns = (*SETTINGS, WEIGHTS, *([CODE] if code else []))
    files = sorted({path for pattern in patterns for path in place.glob(pattern)})
    return fingerprint({path.name: _sha256(path) for path in files})


def tokenizer_digest(place: Path) -> str:
    """Identity of a model's tokenizer: the content of its files."""
    return fingerprint({file: _sha256(place / file) for file in TOKENIZERS if (place / file).is_file()})


def same_weights(places: dict[str, Path]) -> Iterator[Fault]:
    """Faults for models that are published under two names and are one and the same file.

    Seen in the wild: intermediate checkpoints that were uploaded twice (bigscience/bloom-7b1-intermediate, steps 100000
    and 200000; allenai/OLMo-7B-0424-hf, steps 200k to 251k were the final model).
    """
    seen: dict[str, str] = {}
    for name, place in places.items():
        files = (path for pattern in (WEIGHTS, "*.gguf") for path in sorted(place.glob(pattern)))
        found = fingerprint({path.name: _sha256(path) for path in files})
        if found in seen:
            yield Fault(name, f"has the very weights of {seen[found]}", "leave one of them out; one is mislabelled")
        seen.setdefault(found, name)


def _sha256(path: Path) -> str:
    """SHA-256 of a file; a blob of the hub's cache is named by it, so that it need not be read."""
    named = path.resolve().name
    if path.is_symlink() and len(named) == 64 and path.resolve().parent.name == "blobs":
        return named
    return sha256_of(path)


def _local(name: str) -> Path:
    place = Path(name).expanduser()
    if not place.is_absolute():
        raise InputError(Fault(name, "is not a whole path", f"write {str(place.absolute())!r}"))
    if not place.is_dir():
        alike = "" if place.exists() else near_path(place)
        raise InputError(Fault(name, "is no folder", alike or "name the folder that save_pretrained wrote"))
    return place


def _downloaded(name: str, weights: bool, code: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    patterns = [*SETTINGS, *([WEIGHTS] if weights else []), *([CODE] if code else [])]
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        said = str(error).strip().splitlines()
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
        what = f"cannot be had{offline}: {type(error).__name__}: {said[0] if said else ''}"
        fix = f"with a network: hf download {repository}" + (f" --revision {revision}" if revision else "")
        raise InputError(Fault(name, what, f"{fix}; or name a local folder by its whole path")) from None
