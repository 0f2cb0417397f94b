"""Every reader, given inputs that are almost right: only our own errors come out, and each says where.

``PYTHONPATH=tests/fast python tests/fuzz/test_fuzz_readers.py 100000`` reads so many and counts them; ``FUZZ_SEED``
chooses which. The fast tier reads some of each kind, the slow one 100,000 in all.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutate import Mutator, damaged, retyped_json, retyped_jsonl, retyped_lines
from study_toy import TOML, record, toy_study

import finescale as fs
from finescale.core import fingerprint
from finescale.errors import FinescaleError
from finescale.exchange.ask import Ask
from finescale.exchange.gather import import_runs
from finescale.study import config, index, lock, store
from finescale.study.lock import Study

MANY = 100_000
EXCHANGE = Path(__file__).parent.parent / "golden" / "exchange"
SEED = int(os.environ.get("FUZZ_SEED", "1"))
WIDE = """
schema = 1
question = "Which?"
[data]
tier = "starter"
stream_tokens = 20_000
[base]
ladder = ["2xs", "own"]
pretrain_tokens = [4_000, 8_000]
pretraining = "branches"
languages = ["en", "de"]
vocab = 300
context = 200
recipe = { batch_tokens = 256, warmup_tokens = 512 }
[base.shapes.own]
layers = 2
heads = 2
width = 32
ff = 64
[finetune]
tasks = ["pairs", "mt-en-de"]
examples = [20, 60]
seeds = [0, 1]
dev_examples = 20
test_examples = 30
recipe = { batch_examples = 4, min_steps = 5 }
[methods.full]
learning_rate = [1e-3, 3e-3]
[methods.lora]
rank = [2, 4]
learning_rate = 1e-2
alpha = 8.0
[methods.prompt]
length = 4
examples = { pairs = [20] }
[one_factor]
bases = ["2xs"]
[rate_search]
base = "smallest"
per = "pet-size"
examples = 20
[tasks.pairs]
file = "pairs.jsonl"
template = "{q}"
target = "a"
[evaluate]
metrics = ["chrf"]
decoded = 10
probes = { pairs = ["text:en", "de-en@1"] }
[fit]
laws = ["multiplicative", "auto"]
hold_out = { examples = 1 }
[budget]
usd_per_device_hour = 0.4
[run]
workers = 2
minutes = 5.5
keep = "scores"
"""


@dataclass(frozen=True)
class Reader:
    """A way in: valid contents, how they are spoilt, what reads them from a folder, how many in the fast tier."""

    name: str
    seeds: tuple[bytes, ...]
    mutators: tuple[Mutator, ...]
    read: Callable[[Path, bytes], object]
    share: int = 1
    few: int = 30


@dataclass
class Count:
    """What became of the inputs of one reader."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


def fuzz(reader: Reader, folder: Path, inputs: int, chance: random.Random) -> Count:
    """Read so many spoilt inputs; what is not one of our own errors is a fault, kept with the input that made it."""
    count = Count()
    for number in range(inputs):
        content = chance.choice(reader.mutators)(chance.choice(reader.seeds), chance)
        began = time.perf_counter()
        try:
            reader.read(folder, content)
            count.outcomes["read"] += 1
        except FinescaleError as error:
            count.outcomes[type(error).__name__ if str(error).strip() else "silent"] += 1
        except Exception as error:
            kept = Path(tempfile.gettempdir()) / f"fuzz-{reader.name}-{number}"
            kept.write_bytes(content)
            count.faults.append(f"{reader.name}, input {number}, kept as {kept}: {error!r} in {_place_of(error)}")
        count.slowest = max(count.slowest, time.perf_counter() - began)
    return count


def _place_of(error: Exception) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "finescale" in Path(frame.filename).parts]
    return ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-2:])


# -------------------------------------------------------------------------------------------------------------- readers


def read_toml(folder: Path, content: bytes) -> object:
    (folder / "study.toml").write_bytes(content)
    (folder / "pairs.jsonl").exists() or (folder / "pairs.jsonl").write_bytes(pairs())
    return config.read(folder)


def read_pairs(folder: Path, content: bytes) -> object:
    (folder / "study.toml").write_text(WIDE)
    (folder / "pairs.jsonl").write_bytes(content)
    return config.read(folder)


def read_layout(folder: Path, content: bytes) -> object:
    (folder / "study.toml").write_text(WIDE.replace('template = "{q}"\ntarget = "a"\n', ""))
    (folder / "pairs.jsonl").write_bytes(content)
    return config.read(folder)


def read_record(folder: Path, content: bytes) -> object:
    study, path, _ = _studied(folder)
    path.write_bytes(content)
    return study.table(), index.fresh(study.store, study.plan, probes=True)


def read_signed_record(folder: Path, content: bytes) -> object:
    """A record that says something else under a digest that fits: written by another version, or by a vandal."""
    study, path, _ = _studied(folder)
    whole = json.loads(content)
    if isinstance(whole, dict):
        layout = whole.pop("layout", None)
        whole.pop("digest", None)
        try:
            whole = {"layout": layout, "digest": fingerprint(whole)} | whole
        except (ValueError, RecursionError):
            whole = {"layout": layout, "digest": "0"} | whole
    path.write_text(json.dumps(whole))
    return study.table(), index.fresh(study.store, study.plan, probes=True)


def read_error(folder: Path, content: bytes) -> object:
    study, _, _ = _studied(folder)
    step = study.plan.of("run")[1]
    study.store.part(step).mkdir(parents=True, exist_ok=True)
    (study.store.part(step) / "error.json").write_bytes(content)
    return study.store.failure(step)


def read_lock(folder: Path, content: bytes) -> object:
    (folder / lock.LOCK_FILE).write_bytes(content)
    return lock.open_study(folder).plan


def read_index(folder: Path, content: bytes) -> object:
    """Any of the index's three files; the table is what it was."""
    study, _, truth = _studied(folder)
    _mended(study)
    (study.folder / index.FOLDER / chance_of(content)).write_bytes(content)
    found = study.table()
    assert found.equals(truth), "the index was trusted"
    return found


def chance_of(content: bytes) -> str:
    return (index.RECORDS, index.PROBES, index.MANIFEST)[0 if content[:2] == b"PA" else 2]


def read_table(suffix: str) -> Callable[[Path, bytes], object]:
    def read(folder: Path, content: bytes) -> object:
        path = folder / f"runs{suffix}"
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(fs.read_runs(path))

    return read


def read_source(kind: str, name: str, ask: Ask, beside: Path | None = None) -> Callable[[Path, bytes], object]:
    """What an import reads of a file by its name; of a run's folder what lies ``beside`` it is there too."""

    def read(folder: Path, content: bytes) -> object:
        path = folder / "n64" / name
        if not path.parent.is_dir():
            path.parent.mkdir() if beside is None else shutil.copytree(beside, path.parent)
        path.write_bytes(content)
        place = path if path.suffix in (".csv", ".json", ".db") and kind != "trainer" else path.parent
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(import_runs(kind, [place], ask))

    return read


def imported() -> Iterator[Reader]:
    """A reader for each kind of file that an importer reads, on what its tool wrote."""
    named, told = Ask(pattern=r"n(?P<examples>\d+)"), Ask(values={"examples": "64"})
    both = (damaged, retyped_json)
    kinds: tuple[tuple[str, str, Ask, tuple[Mutator, ...]], ...] = (
        ("trainer", "trainer/lora-n64-s0/trainer_state.json", named, both),
        ("tensorboard", "tensorboard/lora-n64/*tfevents*", named, (damaged,)),
        ("mlflow", "mlflow/search_runs.csv", told, (damaged,)),
        ("wandb", "wandb/project.csv", told, (damaged,)),
        ("wandb", "wandb/*.wandb", told, (damaged,)),
        ("lm-eval", "lm_eval/whole/results_*.json", told, both),
        ("peft-comparison", "peft_comparison/lora.json", replace(told, loss="1 - test accuracy"), both),
        ("axolotl", "axolotl/lora-64/README.md", told, (damaged,)),
    )
    for kind, pattern, ask, mutators in kinds:
        (path, *_) = sorted(EXCHANGE.glob(pattern))
        name = f"{kind}{path.suffix if kind == 'wandb' else ''}"
        beside = path.parent if kind in ("trainer", "axolotl") else None
        yield Reader(name, (path.read_bytes(),), mutators, read_source(kind, path.name, ask, beside), 2, 3)
    lines = b"_step,examples,loss\n" + b"".join(b"%d,64,%d.5\n" % (n, 9 - n) for n in range(8))
    yield Reader("log", (lines,), (damaged,), read_source("table", "log.csv", Ask(step="_step")), 2, 3)


def read_fits(folder: Path, content: bytes) -> object:
    path = folder / "fits.json"
    path.write_bytes(content)
    return fs.load_fits(path)


# --------------------------------------------------------------------------------------------------------- valid inputs


def pairs() -> bytes:
    return b"".join(json.dumps({"q": f"frage {n} ü任务", "a": f"answer {n}"}).encode() + b"\n" for n in range(130))


def layouts() -> tuple[bytes, ...]:
    made = []
    for n in range(130):
        turns = [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]
        made.append(({"prompt": f"p{n}", "completion": f"c{n}"}, {"messages": turns}, {"src": f"s{n}", "tgt": f"t{n}"}))
    return tuple(b"".join(json.dumps(row[kind]).encode() + b"\n" for row in made) for kind in range(3))


_studies: dict[Path, tuple[Study, Path, pd.DataFrame]] = {}


def _studied(folder: Path) -> tuple[Study, Path, pd.DataFrame]:
    """A toy study with a few finished steps in ``folder``, the record that is spoilt, and its true table."""
    if folder not in _studies:
        study = toy_study(folder / "study")
        score = [{"metric": "nll", "value": 2.0, "low": 1.0, "high": 3.0}]
        for kind in ("data", "base", "rate", "run"):
            for step in study.plan.of(kind)[:6] if kind != "run" else study.plan.of(kind)[:1]:
                study.store.begin(step)
                asked = store.read_json(study.store.part(step) / store.SPEC)
                more: dict[str, Any] = {"probes": {"fr-de": {"scores": score, "zero_scores": score}}, "steps": 7}
                store.finish(study.store.part(step), record(asked, study.folder) | more)
        path = study.store.done(study.plan.of("run")[0]) / "record.json"
        _studies[folder] = study, path, study.table()
        (folder / "record.json").write_bytes(path.read_bytes())
    return _studies[folder]


def _mended(study: Study) -> None:
    path = study.store.done(study.plan.of("run")[0]) / "record.json"
    whole = (study.folder.parent / "record.json").read_bytes()
    if path.read_bytes() != whole:
        path.write_bytes(whole)
    study.table()


@cache
def readers() -> tuple[Reader, ...]:
    """All of them, with valid inputs made by the code that writes such files."""
    home = Path(tempfile.mkdtemp(prefix="fuzz-seeds-"))
    study, path, _ = _studied(home)
    lock.write_lock(study)
    kept = study.folder / index.FOLDER
    runs = _runs()
    for suffix, write in (("csv", runs.to_csv), ("parquet", runs.to_parquet)):
        write(home / f"runs.{suffix}", index=False)
    fs.fit(fs.read_runs(runs), "power", by=("method",), draws=4).to_json(home / "fits.json")
    told = json.dumps({"kind": "bug", "message": "m", "cause": "c", "details": ""}).encode()
    table = {suffix: (home / f"runs.{suffix}").read_bytes() for suffix in ("csv", "parquet")}
    lines = b"\n".join(json.dumps(row).encode() for row in runs.to_dict("records"))
    small, json_like = (damaged,), (damaged, retyped_json)
    return (
        Reader("toml", (WIDE.encode(), TOML.encode()), (damaged, retyped_lines, retyped_lines), read_toml, 40),
        Reader("own", (pairs(),), (damaged, retyped_jsonl), read_pairs, 12),
        Reader("layout", layouts(), (damaged, retyped_jsonl), read_layout, 10),
        Reader("record", (path.read_bytes(),), json_like, read_record, 10),
        Reader("signed", (path.read_bytes(),), (retyped_json,), read_signed_record, 10),
        Reader("error", (told,), json_like, read_error, 60),
        Reader("lock", ((study.folder / lock.LOCK_FILE).read_bytes(),), json_like, read_lock, 44),
        Reader("index", tuple((kept / n).read_bytes() for n in (index.RECORDS, index.MANIFEST)), small, read_index, 1),
        Reader("csv", (table["csv"],), small, read_table(".csv"), 2),
        Reader("tsv", (table["csv"].replace(b",", b"\t"),), small, read_table(".tsv"), 1),
        Reader("jsonl", (lines,), (damaged, retyped_jsonl), read_table(".jsonl"), 1),
        Reader("parquet", (table["parquet"],), small, read_table(".parquet"), 4),
        Reader("fits", ((home / "fits.json").read_bytes(),), json_like, read_fits, 6),
        *imported(),
    )


def _runs() -> pd.DataFrame:
    rows = [
        {"task": "mt", "method": method, "model_params": 1e6, "examples": n, "loss": 2 + 3 * n**-0.3, "seed": 0}
        for method in ("full", "lora")
        for n in (100, 200, 400, 800, 1600)
    ]
    return pd.DataFrame(rows)


# ---------------------------------------------------------------------------------------------------------------- tests

NAMES = (
    "toml",
    "own",
    "layout",
    "record",
    "signed",
    "error",
    "lock",
    "index",
    "csv",
    "tsv",
    "jsonl",
    "parquet",
    "fits",
    "trainer",
    "tensorboard",
    "mlflow",
    "wandb.csv",
    "wandb.wandb",
    "lm-eval",
    "peft-comparison",
    "axolotl",
    "log",
)


def named(name: str) -> Reader:
    (found,) = (reader for reader in readers() if reader.name == name)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_valid_input_is_read(name: str, tmp_path: Path) -> None:
    for seed in named(name).seeds:
        named(name).read(tmp_path, seed)


@pytest.mark.parametrize("name", NAMES)
def test_only_our_own_errors_come_out(name: str, tmp_path: Path) -> None:
    count = fuzz(named(name), tmp_path, named(name).few + named(name).share, random.Random(f"{SEED} {name}"))
    if name != "index" and named(name).few > 9:
        assert count.outcomes.total() > count.outcomes["read"], "some inputs are refused"
    assert not count.faults, count.faults[0]
    assert not count.outcomes["silent"], "every error says something"
    assert count.slowest < 20


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)), name=st.sampled_from(NAMES))
def test_anything_at_all_is_refused_or_read(content: bytes, name: str, tmp_path: Path) -> None:
    if name == "signed":
        return
    with suppress(FinescaleError):
        named(name).read(tmp_path, content)


@pytest.mark.slow
def test_a_hundred_thousand_inputs(tmp_path: Path) -> None:
    counts = campaign(tmp_path, MANY)
    assert sum(count.outcomes.total() for count in counts) >= MANY
    assert [fault for count in counts for fault in count.faults] == []


def campaign(folder: Path, inputs: int, seed: int = SEED) -> list[Count]:
    """Spread so many inputs over the readers by their shares, and print what became of them."""
    whole, counts = sum(reader.share for reader in readers()), []
    for reader in readers():
        home = folder / reader.name
        home.mkdir()
        began = time.perf_counter()
        count = fuzz(reader, home, -(-inputs * reader.share // whole), random.Random(f"{seed} {reader.name} {inputs}"))
        counts.append(count)
        spent = f"{time.perf_counter() - began:7.1f} s, slowest {count.slowest:.2f} s"
        print(f"{reader.name:8} {count.outcomes.total():7} inputs {spent}  {dict(count.outcomes)}")
        print("\n".join(f"  {fault}" for fault in count.faults[:20]), end="\n" if count.faults else "")
    print(f"{sum(count.outcomes.total() for count in counts)} inputs")
    return counts


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asked = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
        sys.exit(any(count.faults for count in campaign(Path(scratch), asked)))
