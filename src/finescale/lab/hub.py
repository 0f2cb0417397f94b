"""Tasks and probes from data sets of the Hugging Face hub: one table of layouts, and how they are opened.

A *mirror* is a folder laid out as the hub (``MIRROR/wmt/wmt14``): each data set is a copy of its repository, or the
``save_to_disk`` of a configuration (``MIRROR/wmt/wmt14/de-en``). Without one, the data set comes from the cache or the
hub, by the package ``datasets``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finescale.core import fingerprint, sha256_of
from finescale.errors import Fault, InputError, near
from finescale.lab.tasks import LANGUAGE_NAMES, SUMMARY_PROMPT, Origin, Row, Task, translation_prompt

USUAL_SPLITS = {"train": "train", "dev": "validation", "test": "test"}
DEV_SHARE = 0x55
"""Where a data set has no test split, validation rows whose hash begins below this are dev, the others test."""


@dataclass(frozen=True)
class Part:
    """One configuration of a data set, in one target language; ``columns`` maps fields to columns, ``a.b`` inside one.

    ``train_examples`` is as published in the data set's card; None where it was not read.
    """

    dataset: str
    config: str
    language: str
    columns: Mapping[str, str]
    train_examples: int | None = None
    splits: Mapping[str, str] = field(default_factory=lambda: USUAL_SPLITS)


_MLSUM = {"text": "text", "summary": "summary"}
_CNN = Part("abisee/cnn_dailymail", "3.0.0", "en", {"text": "article", "summary": "highlights"}, 287_113)
PARTS: dict[str, tuple[Part, ...]] = {
    "wmt14-de-en": (Part("wmt/wmt14", "de-en", "de", {"src": "translation.en", "tgt": "translation.de"}, 4_508_785),),
    "wmt19-zh-en": (Part("wmt/wmt19", "zh-en", "zh", {"src": "translation.en", "tgt": "translation.zh"}),),
    "mlsum": (
        Part("mteb/mlsum", "de", "de", _MLSUM, 220_887),
        Part("mteb/mlsum", "es", "es", _MLSUM, 266_367),
        Part("mteb/mlsum", "fr", "fr", _MLSUM),
        Part("mteb/mlsum", "ru", "ru", _MLSUM),
        Part("mteb/mlsum", "tu", "tr", _MLSUM),
        _CNN,
    ),
    "cnn_dailymail": (_CNN,),
}
"""What each task reads. WMT14's validation and test splits are newstest2013 and 2014; WMT19 has no test split."""

FLORES_CODES = {
    "ar": "arb_Arab", "cs": "ces_Latn", "da": "dan_Latn", "de": "deu_Latn", "en": "eng_Latn", "es": "spa_Latn",
    "fi": "fin_Latn", "fr": "fra_Latn", "hi": "hin_Deva", "hu": "hun_Latn", "it": "ita_Latn", "ja": "jpn_Jpan",
    "ko": "kor_Hang", "nl": "nld_Latn", "pl": "pol_Latn", "pt": "por_Latn", "ro": "ron_Latn", "ru": "rus_Cyrl",
    "sk": "slk_Latn", "sv": "swe_Latn", "tr": "tur_Latn", "uk": "ukr_Cyrl", "vi": "vie_Latn", "zh": "cmn_Hans",
}  # fmt: skip
FLORES = {"openlanguagedata/flores_plus": ("text", {}), "facebook/flores": ("sentence", {"zh": "zho_Hans"})}
"""Column of the sentence, and the codes that differ, in either layout; the first is the one that is still kept up."""


def digest(task: str, languages: tuple[str, ...], mirror: Path | None) -> str:
    """Identity of the data sets a task reads: the content of a mirror's files, or the commit on the hub.

    Raises:
        InputError: a data set cannot be had.
    """
    parts = [part for part in PARTS[task] if part.language in languages]
    return fingerprint({f"{part.dataset}/{part.config}": _digest(part.dataset, part.config, mirror) for part in parts})


def flores_digest(languages: tuple[str, ...], mirror: Path | None) -> str:
    """Identity of FLORES in these languages, as ``digest`` is that of a task's data sets.

    Raises:
        InputError: it cannot be had, or has no such language.
    """
    name, _, codes = _flores(languages, mirror)
    return fingerprint({f"{name}/{code}": _digest(name, code, mirror) for code in codes})


def rows(task: str) -> Callable[[Origin, str, tuple[str, ...]], Iterator[Row]]:
    """The ``rows`` of a task of the table: one language after another."""

    def read(origin: Origin, split: str, languages: tuple[str, ...]) -> Iterator[Row]:
        for part in PARTS[task]:
            if part.language in languages:
                named = {"language": LANGUAGE_NAMES[part.language]}
                for row in _split(part, split, origin.mirror):
                    yield part.language, {name: _at(row, path, part) for name, path in part.columns.items()} | named

    return read


def flores(languages: tuple[str, ...], mirror: Path | None, split: str = "devtest") -> Iterator[dict[str, str]]:
    """Sentences of FLORES in each of ``languages``, aligned by their id.

    Raises:
        InputError: the data set cannot be had, or has no such language.
    """
    name, column, codes = _flores(languages, mirror)
    by_language = []
    for code in codes:
        found = _open(name, code, mirror)
        by_language.append({row["id"]: row[column] for row in _known_split(found, split, f"{name} ({code})")})
    for key in sorted(set.intersection(*(set(sentences) for sentences in by_language))):
        yield {language: own[key] for language, own in zip(languages, by_language, strict=True)}


def _flores(languages: tuple[str, ...], mirror: Path | None) -> tuple[str, str, list[str]]:
    """The data set that has FLORES, its column of sentences, and the configuration of each language."""
    for language in languages:
        if language not in FLORES_CODES:
            raise InputError(Fault(f"FLORES in {language!r}", "is unknown here", near(language, FLORES_CODES)))
    name = next((name for name in FLORES if mirror is not None and (mirror / name).is_dir()), next(iter(FLORES)))
    column, other = FLORES[name]
    return name, column, [other.get(language, FLORES_CODES[language]) for language in languages]


def _split(part: Part, split: str, mirror: Path | None) -> Iterator[dict[str, Any]]:
    """Rows of a split; where there is no test split, validation is shared out between dev and test by hash."""
    found = _open(part.dataset, part.config, mirror)
    if split == "train" or part.splits["test"] in found:
        yield from _known_split(found, part.splits[split], f"{part.dataset} ({part.config})")
        return
    for row in _known_split(found, part.splits["dev"], f"{part.dataset} ({part.config})"):
        first = _at(row, next(iter(part.columns.values())), part)
        if (hashlib.sha256(first.encode()).digest()[0] < DEV_SHARE) == (split == "dev"):
            yield row


def _known_split(found: Any, split: str, where: str) -> Any:
    if split not in found:
        raise InputError(Fault(f"data set {where}", f"has no split {split!r}", near(split, found)))
    return found[split]


def _at(row: Mapping[str, Any], path: str, part: Part) -> str:
    """The text at ``column`` or ``column.key``; "" where it is null."""
    value: Any = row
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            where = f"data set {part.dataset} ({part.config})"
            have = ", ".join(map(str, value)) if isinstance(value, Mapping) else "no columns inside"
            raise InputError(Fault(where, f"has no column {path!r}, but {have}", "is it the data set it should be?"))
        value = value[key]
    return "" if value is None else str(value)


def _local(dataset: str, config: str, mirror: Path) -> Path:
    """Where a mirror has a configuration: its ``save_to_disk``, or the copy of the repository.

    Raises:
        InputError: it has neither.
    """
    place = mirror / dataset
    if (place / config / "dataset_dict.json").is_file():
        return place / config
    if place.is_dir():
        return place
    raise InputError(Fault(f"data set {dataset} ({config})", f"is not at {place}", _without(dataset, config)))


def _open(dataset: str, config: str, mirror: Path | None) -> Any:
    """A configuration as a mapping of its splits.

    Raises:
        InputError: ``datasets`` is not installed, or the data set cannot be had; says what to do.
    """
    datasets = _package()
    place = None if mirror is None else _local(dataset, config, mirror)
    try:
        if place is None:
            return datasets.load_dataset(dataset, config)
        if (place / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(place))
        return datasets.load_dataset(str(place), config, streaming=True)  # read in place: no cached copy that ages
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise _cannot(dataset, config, error) from None


def _digest(dataset: str, config: str, mirror: Path | None) -> str:
    if mirror is not None:
        place = _local(dataset, config, mirror)
        files = sorted(path for path in place.rglob("*") if path.is_file() and not _hidden(path, place))
        return fingerprint({path.relative_to(place).as_posix(): sha256_of(path) for path in files})
    datasets = _package()
    try:
        return str(datasets.load_dataset_builder(dataset, config).hash)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise _cannot(dataset, config, error) from None


def _hidden(path: Path, place: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(place).parts)


def _package() -> Any:
    try:
        import datasets
    except ImportError:
        fault = Fault("data sets of the hub", "need the package datasets", "pip install 'finescale[hub]'")
        raise InputError(fault) from None
    datasets.disable_progress_bars()
    return datasets


def _cannot(dataset: str, config: str, error: Exception) -> InputError:
    said = str(error).strip().splitlines()
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
    what = f"cannot be had{offline}: {type(error).__name__}: {said[0] if said else ''}"
    return InputError(Fault(f"data set {dataset} ({config})", what, _without(dataset, config)))


def _without(dataset: str, config: str) -> str:
    return (
        f"with a network, run datasets.load_dataset({dataset!r}, {config!r}) once; or put a copy at MIRROR/{dataset} "
        f'(or its save_to_disk at MIRROR/{dataset}/{config}) and write mirror = "MIRROR" in the task\'s table'
    )


def _task(name: str, template: str, target: str, usual: tuple[str, ...], limits: tuple[int, int], source: str) -> Task:
    parts = PARTS[name]
    return Task(
        name=name,
        template=template,
        target=target,
        max_source_tokens=limits[0],
        max_target_tokens=limits[1],
        rows=rows(name),
        source=source,
        languages=tuple(part.language for part in parts),
        usual=usual,
        origin="hub",
        sizes={part.language: part.train_examples for part in parts},
    )


# Lengths as in the paper's Table 1; a news article is cut to 1400 characters, about 512 tokens, not left out.
NEWS_PROMPT = SUMMARY_PROMPT.format(text="text:.1400")
WMT14_DE_EN = _task(
    "wmt14-de-en", translation_prompt("en", "de"), "tgt", ("de",), (256, 256), "WMT14, English to German, by the hub"
)
WMT19_ZH_EN = _task(
    "wmt19-zh-en", translation_prompt("en", "zh"), "tgt", ("zh",), (256, 256), "WMT19, English to Chinese, by the hub"
)
MLSUM = _task(
    "mlsum", NEWS_PROMPT, "summary", ("de", "es", "fr", "en"), (512, 256), "MLSUM and CNN/DailyMail news, by the hub"
)
CNN_DAILYMAIL = _task("cnn_dailymail", NEWS_PROMPT, "summary", ("en",), (512, 256), "CNN/DailyMail news, by the hub")
