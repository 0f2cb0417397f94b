"""Files as people have them, given as examples and as tables of runs: read rightly, or refused in words that help."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from finescale.errors import Faults, InputError
from finescale.stats.runs import read_runs
from finescale.study.files import FileTask, check_task

ROWS = [{"prompt": f"{n} zwölf", "completion": f"{2 * n}"} for n in range(20)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
RUNS = "examples,loss\n" + "".join(f"{2**n},{3 - n / 10}\n" for n in range(4, 10))
RUN_LINES = "".join(json.dumps({"examples": 2**n, "loss": 3 - n / 10}) + "\n" for n in range(4, 10))


def examples(path: Path, **table: object) -> tuple[dict[str, int], str]:
    """Rows in a file of examples, and what is wrong with it."""
    faults = Faults()
    counts = check_task("mine", FileTask.model_validate({"file": str(path), **table}), path.parent, faults)
    return counts, " / ".join(map(str, faults))


@pytest.mark.parametrize(
    "content",
    [LINES.encode(), b"\xef\xbb\xbf" + LINES.encode(), LINES.replace("\n", "\r\n").encode(), f"\n{LINES}\n\n".encode()],
)
def test_lines_are_read_with_a_mark_of_order_any_line_ends_and_blank_lines(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    assert examples(tmp_path / "rows.jsonl") == ({"train": 20}, "")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("rows.jsonl", gzip.compress(LINES.encode(), mtime=0), "is compressed by gzip — unpack it first"),
        ("rows.jsonl.gz", gzip.compress(LINES.encode(), mtime=0), "is compressed by gzip"),
        ("rows.parquet", b"PAR1 and more", "is Parquet — .*pandas.read_parquet"),
        ("rows.xlsx", b"PK\x03\x04 and more", "is a ZIP archive"),
        ("rows.jsonl", LINES.encode("utf-16"), "is UTF-16 text — save it as UTF-8"),
        ("rows.jsonl", LINES.encode("cp1252"), "cannot be read: 'utf-8' codec.*iconv -f WINDOWS-1252"),
        ("rows.json", json.dumps(ROWS).encode(), "is an array of JSON, not an object a line"),
        ("rows.json", json.dumps(ROWS, indent=1).encode(), "is an array of JSON"),
        ("rows.json", json.dumps(ROWS[0], indent=1).encode(), "has JSON over several lines"),
        ("rows.csv", "prompt,completion\nzwölf,x\n".encode("cp1252"), "is a table, .*pandas.read_csv"),
        ("rows.jsonl", LINES.replace("}", ",}").encode(), "line 1: is not JSON: a comma before a closing bracket at"),
        ("rows.jsonl", LINES.replace('"', "'").encode(), "line 1: is not JSON: expecting property name"),
        ("rows.jsonl", LINES[:-9].encode(), "line 20: is not JSON"),
        ("rows.jsonl", b'{"data": {"prompt": "a"}, "id": 1}\n', r"no layout has the columns data \(an object\), id"),
        ("rows.jsonl", b'{"prompt": "a", "completion": 4}\n', r"has no text in completion \(completion is a number\)"),
        ("rows.jsonl", b'{"prompt": "a", "completion": ""}\n', "has no text in completion —"),
        ("rows.jsonl", b"", "holds no examples"),
        ("rows.jsonl", b"\n \n", "holds no examples"),
        ("rows.txt", b"hello\n", "line 1: is not JSON"),
    ],
)
def test_examples_in_another_form_are_refused_with_the_way_out(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    _, said = examples(tmp_path / name)
    assert re.search(says, said), said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("runs.csv", RUNS.encode()),
        ("RUNS.CSV", RUNS.encode()),
        ("runs.csv", b"\xef\xbb\xbf" + RUNS.replace("\n", "\r\n").encode()),
        ("runs.csv", RUNS.replace("examples,loss", " examples , loss ").encode()),
        ("runs.csv", RUNS.replace("\n", ",\n").replace("loss,", "loss").encode()),
        ("runs.tsv", RUNS.replace(",", "\t").encode()),
        ("runs.jsonl", b"\xef\xbb\xbf" + RUN_LINES.replace("\n", "\r\n").encode()),
    ],
)
def test_tables_of_runs_are_read_as_they_are_meant(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    frame = read_runs(tmp_path / name).frame
    assert frame["examples"].tolist() == [2.0**n for n in range(4, 10)]
    assert frame["loss"].tolist() == [3 - n / 10 for n in range(4, 10)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("runs.csv", b"examples,loss\n1,024,2.5\n2,048,2.4\n", "rows have more cells than the header has names"),
        ("runs.csv", gzip.compress(RUNS.encode(), mtime=0), "is compressed by gzip"),
        ("runs.csv.gz", gzip.compress(RUNS.encode(), mtime=0), "is compressed by gzip"),
        ("runs.csv", b"PAR1", "is Parquet — a table of runs: call it .parquet"),
        ("runs.xlsx", b"PK\x03\x04", "is a ZIP archive, as .zip and .xlsx files are"),
        ("runs.csv", RUNS.replace("examples", "größe").encode("cp1252"), "save it as UTF-8, as in iconv"),
        ("runs.csv", RUNS.encode("utf-16"), "is UTF-16 text"),
        ("runs.jsonl", json.dumps([{"examples": 1, "loss": 2}]).encode(), "is an array of JSON"),
        ("runs.csv", RUNS.replace("\n", "%\n").replace("loss%", "loss").encode(), "numbers are written without %"),
        ("runs.csv", b"", "No columns to parse"),
        ("runs.csv", b"examples,loss\n", "has no rows"),
    ],
)
def test_tables_in_another_form_are_refused_with_the_way_out(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_runs(tmp_path / name)


def test_folders_and_urls_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder — give a table of runs"):
        read_runs(tmp_path)
    with pytest.raises(InputError, match=r"is a URL, and only files that are here are read — download it"):
        read_runs("https://example.org/runs.csv")
