"""What a file holds, whatever it is called: told from its first bytes, where lines of JSON or a table are wanted."""

from __future__ import annotations

from pathlib import Path

PYTHON = "in Python: pandas.{read}({name!r}).to_json('rows.jsonl', orient='records', lines=True, force_ascii=False)"
ARRAY = 'python -c "import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin)]" < {name} > rows.jsonl'
UTF8 = "save it as UTF-8, as in iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
PACKED = "unpack it first"
HEADS = (
    (b"\x1f\x8b", "is compressed by gzip", PACKED),
    (b"BZh", "is compressed by bzip2", PACKED),
    (b"\xfd7zXZ", "is compressed by xz", PACKED),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", PACKED),
    (b"PK\x03\x04", "is a ZIP archive, as .zip and .xlsx files are", "unpack it, or save its sheet as text"),
    (b"PAR1", "is Parquet", f"a table of runs: call it .parquet; examples: {PYTHON}".replace("{read}", "read_parquet")),
    (b"ARROW1", "is an Arrow file", "write its rows as text"),
    (b"SQLite format 3", "is a database of SQLite", "write its rows as text"),
    (b"\xff\xfe", "is UTF-16 text", "save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16 text", "save it as UTF-8"),
)
"""First bytes of files that are no text as it is read here, what they are, and the way out."""


def no_text(path: Path) -> tuple[str, str] | None:
    """What a file is that is no UTF-8 text from its first bytes on, and the way out; None where it may be.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(16)
    found = next(((what, fix) for first, what, fix in HEADS if head.startswith(first)), None)
    return None if found is None else (found[0], found[1].format(name=path.name))


def no_lines(path: Path) -> tuple[str, str] | None:
    """What a file is that holds no JSON object a line, and the way out; None where it may, or is empty.

    Raises:
        OSError: it cannot be opened.
    """
    if (found := no_text(path)) is not None:
        return found
    with path.open("rb") as file:
        first = next((line.strip() for line in file if line.strip().removeprefix(b"\xef\xbb\xbf")), b"")
    first = first.removeprefix(b"\xef\xbb\xbf")
    if first.startswith(b"["):
        return "is an array of JSON, not an object a line", ARRAY.format(name=path.name)
    if first == b"{":
        return "has JSON over several lines, not an object a line", f"jq -c . {path.name} > rows.jsonl"
    if path.suffix.lower() in (".csv", ".tsv") and not first.startswith(b"{"):
        read = "read_csv" if path.suffix.lower() == ".csv" else "read_table"
        return "is a table, not an object of JSON a line", PYTHON.format(read=read, name=path.name)
    return None
