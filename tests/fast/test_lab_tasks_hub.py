"""Tasks of the hub: one table of layouts, opened without a network from small data sets in exactly those layouts."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from hub_mirror import repository, write_flores, write_mirror

from finescale import registry
from finescale.core import TaskSpec
from finescale.errors import InputError
from finescale.lab import hub, pools
from finescale.lab.corpora import Corpus
from finescale.lab.probes import parse, translation
from finescale.lab.tasks import Task

NAMES = sorted(hub.PARTS)
NO_CORPUS = Corpus(Path("nowhere"), {"files": {}, "tier": "none"})


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import datasets

    datasets.config.HF_DATASETS_CACHE = str(tmp_path_factory.mktemp("cache"))
    return write_mirror(tmp_path_factory.mktemp("mirror"))


def spec(name: str, mirror: Path, languages: tuple[str, ...] = ()) -> TaskSpec:
    task: Task = registry.get("task", name)
    return task.spec(hub.digest(name, languages or task.usual, mirror), 4, 4, languages)


def splits(name: str, mirror: Path, languages: tuple[str, ...] = ()) -> pools.Pool:
    return pools.pool(spec(name, mirror, languages), NO_CORPUS, {name: mirror})


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_every_split_is_read(name: str, mirror: Path) -> None:
    found = splits(name, mirror)
    languages = len(registry.get("task", name).usual)
    counts = {split: len(rows) for split, rows in found.splits.items()}
    assert counts["train"] == 12 * languages
    assert counts["dev"] + counts["test"] == (9 if name == "wmt19-zh-en" else 15 * languages)
    assert all(row.prompt and row.target for rows in found.splits.values() for row in rows)
    assert found.facts["duplicates"]["exact across splits"] == 0


def test_where_there_is_no_test_split_validation_is_shared_out(mirror: Path) -> None:
    found = splits("wmt19-zh-en", mirror).splits
    assert not {row.prompt for row in found["dev"]} & {row.prompt for row in found["test"]}
    assert found["dev"]
    assert found["test"]
    assert found["train"][0].target.startswith("议会将在第")


def test_mlsum_speaks_the_languages_a_study_chooses(mirror: Path) -> None:
    usual = splits("mlsum", mirror).splits["train"]
    assert Counter(row.language for row in usual) == dict.fromkeys(("de", "es", "fr", "en"), 12)
    chosen = splits("mlsum", mirror, ("ru", "tr")).splits["train"]
    assert {row.language for row in chosen} == {"ru", "tr"}
    assert any("in Russian:" in row.prompt for row in chosen)
    with pytest.raises(InputError, match="no examples in 'zh'"):
        spec("mlsum", mirror, ("zh",))


def test_an_article_is_cut_where_the_template_says(mirror: Path) -> None:
    row = splits("cnn_dailymail", mirror).splits["train"][0]
    article = row.prompt.partition("\n")[2].removesuffix("\nSummary:")
    assert len(article) == 1400


@pytest.mark.parametrize("name", list(hub.FLORES))
def test_flores_is_read_in_both_layouts_and_asked_about_after_demonstrations(name: str, tmp_path: Path) -> None:
    mirror = write_flores(tmp_path, name)
    rows = translation(parse("flores:fr-zh@2"), NO_CORPUS, mirror)
    assert len(rows) == 4
    asked = rows[0].prompt
    assert asked.count("French: Le pont numéro") == 3
    assert asked.endswith("\nChinese:")
    assert {row.target for row in rows} == {f"{50 + i}号桥已关闭。" for i in range(4)}
    assert not any(row.target in other.prompt for row in rows for other in rows), "the test is nobody's demonstration"


def test_flores_is_known_by_its_content_and_its_languages(tmp_path: Path) -> None:
    mirror = write_flores(tmp_path, "facebook/flores")
    before = hub.flores_digest(("fr", "zh"), mirror)
    probe = parse("flores:fr-zh").model_copy(update={"digest": before})
    assert len(translation(probe, NO_CORPUS, mirror)) == 4
    readme = mirror / "facebook" / "flores" / "README.md"
    readme.write_text(readme.read_text() + "more")
    assert hub.flores_digest(("fr", "zh"), mirror) != before
    with pytest.raises(InputError, match="probe 'flores:fr-zh': the data set it reads has changed"):
        translation(probe, NO_CORPUS, mirror)


def test_what_cannot_be_had_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for place in (None, tmp_path):
        with pytest.raises(InputError, match=r"save_to_disk at MIRROR/wmt/wmt14/de-en"):
            hub.digest("wmt14-de-en", ("de",), place)
    with pytest.raises(InputError, match=r"cannot be had \(HF_HUB_OFFLINE is set\).*run datasets.load_dataset"):
        list(hub.flores(("fr", "de"), None))


def test_a_data_set_once_downloaded_is_read_from_the_cache(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is made by ``datasets`` itself, from the copy; a download would differ in its name alone."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.load_dataset(str(mirror / "wmt" / "wmt14"), "de-en")
    (tmp_path / "wmt14").rename(tmp_path / "wmt___wmt14")
    task = registry.get("task", "wmt14-de-en").spec(hub.digest("wmt14-de-en", ("de",), None), 4, 4)
    cached = pools.pool(task, NO_CORPUS, {})
    assert cached.splits == splits("wmt14-de-en", mirror).splits


def test_without_the_package_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'finescale\[hub\]'"):
        hub.digest("wmt14-de-en", ("de",), None)


def test_another_layout_is_named(tmp_path: Path, mirror: Path) -> None:
    repository(tmp_path / "wmt" / "wmt14", {"de-en": {"train": [{"de": "a", "en": "b"}], "validation": [], "test": []}})
    with pytest.raises(InputError, match=r"has no column 'translation.en', but de, en"):
        splits("wmt14-de-en", tmp_path)


def test_a_mirror_is_known_by_its_content_wherever_it_lies(mirror: Path, tmp_path: Path) -> None:
    shutil.copytree(mirror, tmp_path / "copy")
    before = hub.digest("mlsum", ("de", "en"), mirror)
    assert hub.digest("mlsum", ("de", "en"), tmp_path / "copy") == before
    assert hub.digest("mlsum", ("de",), mirror) != before
    task = spec("mlsum", tmp_path / "copy")
    readme = tmp_path / "copy" / "mteb" / "mlsum" / "README.md"
    readme.write_text(readme.read_text() + "more")
    with pytest.raises(InputError, match="have changed since the study was planned"):
        pools.pool(task, NO_CORPUS, {"mlsum": tmp_path / "copy"})


def test_empty_rows_are_left_out_and_counted(tmp_path: Path, mirror: Path) -> None:
    pair = {"translation": {"en": "Where is the old station?", "de": "Wo ist der alte Bahnhof?"}}
    rows = [pair, {"translation": {"en": "Here", "de": ""}}, {"translation": {"en": None, "de": "Dort"}}]
    held = [{"translation": {"en": f"held {i}", "de": f"gehalten {i}"}} for i in range(2)]
    sets = {"train": rows, "validation": held[:1], "test": held[1:]}
    repository(tmp_path / "wmt" / "wmt14", {"de-en": sets})
    found = splits("wmt14-de-en", tmp_path)
    assert found.facts["empty"] == 2
    assert [row.target for row in found.splits["train"]] == ["Wo ist der alte Bahnhof?"]
