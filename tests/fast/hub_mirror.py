"""Small data sets in the layouts of the hub's: copies of repositories (README and Parquet) and ``save_to_disk``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

Rows = list[dict[str, Any]]
SPLITS = {"train": 12, "validation": 9, "test": 6}
ENGLISH = "Parliament meets in week {} to vote on the budget of the region"
PAIRS = {
    "de": "Das Parlament tritt in Woche {} zusammen, um über den Haushalt der Region abzustimmen",
    "zh": "议会将在第{}周开会，就该地区的预算进行表决",
}
NEWS = {
    "de": ("Der Fluss trat in Ort {} über die Ufer. Die Feuerwehr pumpte bis in die Nacht. ", "Hochwasser in Ort {}"),
    "es": ("El río se desbordó en el pueblo {}. Los bomberos trabajaron toda la noche. ", "Inundación en el pueblo {}"),
    "fr": ("La rivière a débordé au village {}. Les pompiers ont travaillé la nuit. ", "Inondation au village {}"),
    "ru": ("Река вышла из берегов в деревне {}. Пожарные работали всю ночь. ", "Наводнение в деревне {}"),
    "tu": ("Köy {} yakınında nehir taştı. İtfaiye gece boyunca çalıştı. ", "Köy {} sular altında"),
    "en": ("The river burst its banks in village {}. The fire brigade worked all night. ", "Flood in village {}"),
}
FLORES_SENTENCES = {
    "eng_Latn": "The bridge number {} is closed.", "deu_Latn": "Die Brücke Nummer {} ist gesperrt.",
    "fra_Latn": "Le pont numéro {} est fermé.", "zho_Hans": "{}号桥已关闭。",
}  # fmt: skip


def _numbers(split: str, count: int) -> range:
    """Numbers that no two splits share."""
    start = 100 * (1 + list(SPLITS).index(split))
    return range(start, start + count)


def _pairs(tgt: str, splits: dict[str, int]) -> dict[str, Rows]:
    return {
        split: [{"translation": {"en": ENGLISH.format(i), tgt: PAIRS[tgt].format(i)}} for i in _numbers(split, count)]
        for split, count in splits.items()
    }


def _news(language: str, text: str, summary: str) -> dict[str, Rows]:
    about = {"topic": "news", "url": "u", "title": "t", "date": "00/01/2010"} if text == "text" else {"id": "0"}
    body, told = NEWS[language]
    return {
        split: [{text: (body * 40).format(*[i] * 40), summary: told.format(i)} | about for i in _numbers(split, count)]
        for split, count in SPLITS.items()
    }


def repository(place: Path, configs: dict[str, dict[str, Rows]]) -> None:
    """A copy of a repository: Parquet files by configuration and split, named in the README's head."""
    head = []
    for config, splits in configs.items():
        files = []
        for split, rows in splits.items():
            path = place / config / f"{split}-00000-of-00001.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist(rows), path)
            files.append({"split": split, "path": f"{config}/{split}-*"})
        head.append({"config_name": config, "data_files": files})
    (place / "README.md").write_text(f"---\n{yaml.safe_dump({'configs': head})}---\n# A copy\n")


def saved(place: Path, splits: dict[str, Rows]) -> None:
    """What ``DatasetDict.save_to_disk`` leaves."""
    from datasets import Dataset, DatasetDict

    DatasetDict({split: Dataset.from_list(rows) for split, rows in splits.items()}).save_to_disk(str(place))


def write_mirror(mirror: Path) -> Path:
    """Every data set of the table, small."""
    repository(mirror / "wmt" / "wmt14", {"de-en": _pairs("de", SPLITS)})
    two = {split: SPLITS[split] for split in ("train", "validation")}
    saved(mirror / "wmt" / "wmt19" / "zh-en", _pairs("zh", two))
    by_language = {language: _news(language, "text", "summary") for language in NEWS if language != "en"}
    repository(mirror / "mteb" / "mlsum", by_language)
    saved(mirror / "abisee" / "cnn_dailymail" / "3.0.0", _news("en", "article", "highlights"))
    return mirror


def write_flores(mirror: Path, name: str) -> Path:
    """FLORES in one of its two layouts."""
    column = {"openlanguagedata/flores_plus": "text", "facebook/flores": "sentence"}[name]
    configs = {}
    for code, sentence in FLORES_SENTENCES.items():
        code = "cmn_Hans" if code == "zho_Hans" and column == "text" else code
        configs[code] = {
            split: [{"id": start + i, column: sentence.format(start + i)} for i in range(4)]
            for split, start in (("dev", 0), ("devtest", 50))
        }
    repository(mirror / name, configs)
    return mirror
