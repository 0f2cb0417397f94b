"""A corpus of made-up sentences in the layout of a fetched one, so that tests need no network."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from finescale.lab.corpora.recipes import RECIPES

WORDS = {
    "the": ("das", "这", "le"), "red": ("rote", "红色的", "rouge"), "old": ("alte", "旧的", "vieux"),
    "small": ("kleine", "小的", "petit"), "house": ("Haus", "房子", "bâtiment"), "car": ("Auto", "汽车", "camion"),
    "book": ("Buch", "书", "livre"), "window": ("Fenster", "窗户", "volet"), "opens": ("öffnet", "打开", "ouvre"),
    "closes": ("schließt", "关闭", "ferme"), "moves": ("bewegt", "移动", "bouge"),
    "slowly": ("langsam", "慢慢地", "lentement"), "today": ("heute", "今天", "aujourd’hui"),
    "here": ("hier", "这里", "ici"), "again": ("wieder", "再次", "encore"), "never": ("nie", "从不", "jamais"),
}  # fmt: skip
SHAPE = (("the",), ("red", "old", "small"), ("house", "car", "book", "window"), ("opens", "closes", "moves"),
         ("slowly", "today", "here", "again", "never"))  # fmt: skip
TONGUES = ("de", "zh", "fr")
SUMMARIES = {"en": 6, "de": 3, "zh": 1}
"""Mix of the summaries' languages, in tenths."""

Rows = list[dict[str, Any]]


def sentences(rng: random.Random) -> dict[str, str]:
    """A sentence in each language, word by word, with a number that makes it one of many; Chinese has no spaces."""
    words = [rng.choice(place) for place in SHAPE]
    number = str(rng.randrange(1000))
    told = {"en": " ".join([*words, number])}
    for place, language in enumerate(TONGUES):
        gap = "" if language == "zh" else " "
        told[language] = gap.join([*(WORDS[word][place] for word in words), number])
    return told


def write_tiny_corpus(cache: Path, pairs: int = 300, documents: int = 400) -> str:
    """Write the corpus into ``cache`` where ``fetch`` looks for it; returns its digest."""
    rng = random.Random(0)
    recipe = RECIPES[0]
    root = cache / "corpora" / f"{recipe.tier}-{recipe.source}-{recipe.fingerprint()}"
    root.mkdir(parents=True)
    files: dict[str, Rows] = {}
    sizes = {"train": pairs, "dev": 40, "test": 40}
    for split, count in sizes.items():
        both = [sentences(rng) for _ in range(count)]
        for tgt in ("de", "zh"):
            files[f"pairs.en-{tgt}.{split}"] = [
                {"langs": f"en-{tgt}", "src": told["en"], "tgt": told[tgt], "source": "made-up", "group": split}
                for told in both
            ]
    for language in ("en", "de", "zh"):
        texts = [". ".join(sentences(rng)[language] for _ in range(8)) for _ in range(documents)]
        files[f"documents.{language}"] = [{"text": text, "source": "made-up", "group": "d"} for text in texts]
    for split, count in sizes.items():
        files[f"summaries.{split}"] = _summaries(rng, split, count)
    for split in ("dev", "test"):
        files[f"multiway.{split}"] = [
            {"texts": sentences(rng), "source": "made-up", "group": f"{split}{i // 2}"} for i in range(40)
        ]
    return _put(root, files, {"tier": recipe.tier, "source": recipe.source, "languages": ["en", "de", "zh", "fr"]})


def _summaries(rng: random.Random, split: str, count: int) -> Rows:
    """Two sentences and their first words, in the declared mix and a random order."""
    languages = [language for language, tenths in SUMMARIES.items() for _ in range(count * tenths // 10)]
    rng.shuffle(languages)
    rows = []
    for language in languages:
        first, second = sentences(rng)[language], sentences(rng)[language]
        summary = first[: len(first) // 2].strip()
        rows.append({"lang": language, "text": f"{first}. {second}", "summary": summary, "source": "m", "group": split})
    return rows


def _put(root: Path, files: dict[str, Rows], manifest: dict[str, Any]) -> str:
    """The files and the manifest of a corpus; returns its digest."""
    described = {}
    for name, rows in files.items():
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        (root / f"{name}.jsonl").write_bytes(content)
        described[f"{name}.jsonl"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    counts: dict[str, Any] = {
        name: {"rows": len(rows), "words": len(rows) * 48, "bytes": 1}
        for name, rows in files.items()
        if name.startswith("documents")
    }
    for name, rows in files.items():
        pool, _, split = name.rpartition(".")
        if pool != "multiway" and split in ("train", "dev", "test"):
            by = {lang: sum(row.get("lang") == lang for row in rows) for lang in SUMMARIES}
            words = [len(rows) * 6] * 2
            told = {"rows": len(rows), "words": words, "by": by if pool == "summaries" else {"made-up": len(rows)}}
            counts.setdefault(pool, {})[split] = told
    leaks = {"words": 13, "found": 0, "remaining": 0}
    manifest = manifest | {"digest": digest, "files": described, "artefacts": [], "counts": counts, "leaks": leaks}
    (root / "manifest.json").write_text(json.dumps(manifest | {"warnings": [], "messages": []}))
    return digest
