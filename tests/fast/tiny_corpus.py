"""A corpus of made-up sentences in the layout of a fetched one, so that tests need no network."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from finescale.lab.corpora.recipes import RECIPES

WORDS = {
    "the": "das", "red": "rote", "old": "alte", "small": "kleine", "house": "Haus", "car": "Auto", "book": "Buch",
    "window": "Fenster", "opens": "öffnet", "closes": "schließt", "moves": "bewegt", "slowly": "langsam",
    "today": "heute", "here": "hier", "again": "wieder", "never": "nie",
}  # fmt: skip
SHAPE = (("the",), ("red", "old", "small"), ("house", "car", "book", "window"), ("opens", "closes", "moves"),
         ("slowly", "today", "here", "again", "never"))  # fmt: skip


def sentence(rng: random.Random) -> tuple[str, str]:
    """An English sentence and its German twin, word by word, with a number that makes it one of many."""
    words = [rng.choice(place) for place in SHAPE]
    number = str(rng.randrange(1000))
    return " ".join([*words, number]), " ".join([*(WORDS[word] for word in words), number])


def write_tiny_corpus(cache: Path, pairs: int = 300, documents: int = 400) -> str:
    """Write the corpus into ``cache`` where ``fetch`` looks for it; returns its digest."""
    rng = random.Random(0)
    recipe = RECIPES[0]
    root = cache / "corpora" / f"{recipe.tier}-{recipe.source}-{recipe.fingerprint()}"
    root.mkdir(parents=True)
    sizes = {"train": pairs, "dev": 40, "test": 40}
    files: dict[str, list[dict[str, Any]]] = {}
    for split, count in sizes.items():
        both = [sentence(rng) for _ in range(count)]
        files[f"pairs.en-de.{split}.jsonl"] = [
            {"langs": "en-de", "src": en, "tgt": de, "source": "made-up", "group": split} for en, de in both
        ]
    for place, language in enumerate(("en", "de")):
        texts = [". ".join(sentence(rng)[place] for _ in range(8)) for _ in range(documents)]
        files[f"documents.{language}.jsonl"] = [{"text": text, "source": "made-up", "group": "d"} for text in texts]
    described = {}
    for name, rows in files.items():
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        (root / name).write_bytes(content)
        described[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
    counts = {"documents.en": {"rows": documents, "words": documents * 48, "bytes": 1}}
    leaks = {"words": 13, "found": 0, "remaining": 0}
    manifest = {"tier": recipe.tier, "source": recipe.source, "languages": ["en", "de"], "digest": digest}
    manifest |= {"files": described, "artefacts": [], "counts": counts, "leaks": leaks, "warnings": [], "messages": []}
    (root / "manifest.json").write_text(json.dumps(manifest))
    return digest
