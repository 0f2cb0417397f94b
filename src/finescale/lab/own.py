"""The user's own examples: JSONL files, the layouts that need no template, and every line that does not fit.

Conversations are told as lines ``Role: content``, or by the model's own chat template where a task asks for it; the
last assistant turn is the target, what comes before it the prompt. The layouts are those of TRL (``prompt`` and
``completion``, as strings or as message lists; ``messages``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from finescale.core import fingerprint, sha256_of
from finescale.errors import Faults
from finescale.lab.tasks import LANGUAGE, nothing_in, template_fields

ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}
MOST_LISTED = 3
NAMES = {int: "a number", float: "a number", bool: "true or false", list: "a list", dict: "an object"}
_HALF = "has half a character (a lone surrogate, \\ud800 to \\udfff)"


@dataclass(frozen=True)
class Layout:
    """Columns by which rows are known, and the template and target they stand for."""

    name: str
    columns: tuple[str, ...]
    template: str
    target: str


LAYOUTS = (
    Layout("messages", ("messages",), "{prompt}\nAssistant:", "completion"),
    Layout("prompt and completion as message lists", ("prompt", "completion"), "{prompt}\nAssistant:", "completion"),
    Layout("prompt and completion", ("prompt", "completion"), "{prompt}", "completion"),
    Layout("src and tgt", ("src", "tgt"), "Source: {src}\nTarget:", "tgt"),
)


LINES = "conversations are written as lines (System: …, User: …, Assistant:), not by a model's own chat template"
CHAT = "conversations are written by the model's own chat template; the last turn of the assistant is the target"
PLAIN = "the model has a chat template, by which plain prompts are not written; init --chat has them written so"
"""What anybody has to know who gives conversations to a model: it may have been tuned on another form of them."""


@dataclass(frozen=True)
class Form:
    """How rows are read: a template over fields, the target, the languages, and columns left unused on purpose."""

    template: str
    target: str
    languages: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Fields each row must have."""
        of_language = [LANGUAGE] if len(self.languages) > 1 else []
        return tuple(dict.fromkeys([*template_fields(self.template), self.target, *of_language]))


def is_conversation(template: str | None, target: str | None) -> bool:
    """Whether rows so read are conversations, told as lines."""
    return (template, target) == (LAYOUTS[0].template, LAYOUTS[0].target)


def leaves_out_template(path: Path, form: Form) -> bool:
    """Whether a chat template would write rows of a file without a word of the form's own template."""
    if is_conversation(form.template, form.target):
        return False
    return any(isinstance(row, dict) and _messages(row, set(form.fields)) is not None for _, row in lines(path))


def digest(paths: Mapping[str, Path]) -> str:
    """Identity of files by split: over their content, never their paths."""
    return fingerprint({split: sha256_of(path) for split, path in paths.items()})


def lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Number and object of each line that is not blank, or what is wrong with the line.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, _object(line.rstrip("\r\n"))


def _object(line: str) -> dict[str, Any] | str:
    try:
        row: Any = json.loads(line)
    except RecursionError:
        return "is not JSON: it is nested too deep"
    except ValueError as error:
        return f"is not JSON: {_reason(error, line)}"
    if not isinstance(row, dict):
        return "is not a JSON object"
    return row if all(map(_encodes, row)) else f"{_HALF} in a column's name"


def _reason(error: ValueError, line: str) -> str:
    """Why a line cannot be read, and where in it."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    said = error.msg[:1].lower() + error.msg[1:].removesuffix(" starting at").removesuffix(" at")
    comma = re.match(r".*,\s*$", line[: error.pos]) and line[error.pos : error.pos + 1] in ("}", "]")
    return f"{'a comma before a closing bracket' if comma else said} at character {error.pos + 1}"


def fields_of(row: Mapping[str, Any], form: Form) -> dict[str, Any]:
    """The fields of a row, conversations told as text. One of several that a template shows may be empty.

    Raises:
        ValueError: a conversation, the row's language or a text is not as it should be; says how.
    """
    wanted = set(form.fields)
    fields = dict(row)
    if (messages := _messages(row, wanted)) is not None:
        fields |= _told(*messages)
    if len(form.languages) > 1 and row.get(LANGUAGE) not in form.languages:
        raise ValueError(f"its {LANGUAGE} is {row.get(LANGUAGE)!r}, not one of {', '.join(form.languages)}")
    shown = template_fields(form.template)
    empty = [name for name in form.fields if not isinstance(fields.get(name), str)]
    if not empty and not fields[form.target].strip():
        empty = [form.target]
    if not empty and nothing_in(shown, fields):
        empty = list(shown)
    if empty:
        raise ValueError(f"has no text in {', '.join(empty)}{_kinds_of(fields, empty)}")
    if broken := [name for name in form.fields if not _encodes(fields[name])]:
        raise ValueError(f"{_HALF} in {', '.join(broken)}")
    return fields


def _kinds_of(fields: Mapping[str, Any], names: list[str]) -> str:
    """What is in fields that hold something else than text; nothing where all are empty or left out."""
    kinds = {name: NAMES[type(fields[name])] for name in names if type(fields.get(name)) in NAMES}
    return f" ({', '.join(f'{name} is {kind}' for name, kind in kinds.items())})" if kinds else ""


def _encodes(text: str) -> bool:
    """Whether a text can be written as UTF-8; JSON's escapes can spell one that cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def unused(row: Mapping[str, Any], form: Form) -> list[str]:
    """Columns that neither the template nor the target uses and that were not left out on purpose."""
    if {"prompt", "completion"} <= set(form.fields) and isinstance(row.get("messages"), list):
        row = {name: value for name, value in row.items() if name != "messages"}
    return [name for name in row if name not in {*form.fields, *form.ignore}]


def language_of(row: Mapping[str, Any], languages: tuple[str, ...]) -> str:
    """Code of the target's language; "" where none was declared."""
    return str(row[LANGUAGE]) if len(languages) > 1 else languages[0] if languages else ""


def turns_of(row: Mapping[str, Any], form: Form) -> tuple[tuple[str, str], ...]:
    """Role and content of each message before the answer of a row that ``fields_of`` took; none where it is plain."""
    before, _ = _messages(row, set(form.fields)) or ([], [])
    return tuple((message["role"], message["content"]) for message in before)


def _messages(row: Mapping[str, Any], wanted: set[str]) -> tuple[list[Any], list[Any]] | None:
    """The messages before the answer, and the answer; None where the row is no conversation."""
    messages, prompt, completion = (row.get(name) for name in ("messages", "prompt", "completion"))
    if not {"prompt", "completion"} <= wanted or isinstance(prompt, str):
        return None
    if isinstance(messages, list):
        return messages[:-1], messages[-1:]
    return (prompt, completion) if isinstance(prompt, list) and isinstance(completion, list) else None


def _told(prompt: list[Any], completion: list[Any]) -> dict[str, str]:
    for message in [*prompt, *completion]:
        role, content = (message.get(key) for key in ("role", "content")) if isinstance(message, dict) else (None, None)
        if not isinstance(role, str) or role not in ROLES or not isinstance(content, str) or not content.strip():
            raise ValueError(f"has a message that is not a role ({', '.join(ROLES)}) with text: {message!r:.80}")
    if len(completion) != 1 or completion[0]["role"] != "assistant":
        raise ValueError("does not end in one message of the assistant")
    if not prompt:
        raise ValueError("has no message before the answer")
    told = "\n".join(f"{ROLES[message['role']]}: {message['content']}" for message in prompt)
    return {"prompt": told, "completion": completion[0]["content"]}


def recognise(path: Path, where: str, faults: Faults) -> Layout | None:
    """The one layout that all rows of a file have; where there is none, what is in its way is told with its lines."""
    found: dict[Layout | str, list[int]] = {}
    broken: list[tuple[int, str]] = []
    for number, row in lines(path):
        if isinstance(row, dict):
            found.setdefault(_layout(row), []).append(number)
        else:
            broken.append((number, row))
    strange = [(key, numbers) for key, numbers in found.items() if isinstance(key, str)]
    known = "; ".join(" and ".join(layout.columns) for layout in (LAYOUTS[0], *LAYOUTS[2:]))
    for columns, numbers in strange[:MOST_LISTED]:
        fix = f"name a template and a target, or use one of: {known}"
        faults.add(where, f"{path.name}, {_listed(numbers)}: no layout has the columns {columns}", fix)
    layouts = {key: numbers for key, numbers in found.items() if isinstance(key, Layout)}
    if len(strange) > MOST_LISTED:
        others = sorted(number for _, numbers in strange[MOST_LISTED:] for number in numbers)
        what = f"{path.name}: {len(strange) - MOST_LISTED} more sets of columns that no layout has"
        faults.add(where, what, _listed(others))
    if len(layouts) > 1:
        mixed = "; ".join(f"{layout.name} in {_listed(numbers)}" for layout, numbers in layouts.items())
        faults.add(where, f"{path.name} mixes layouts: {mixed}", "use one layout in a file, or a file for each")
    if len(layouts) == 1 and not strange:
        return next(iter(layouts))  # broken lines are told by ``check``, which knows what they should hold
    if len(layouts) == 1:  # what is wrong with the rows that have it is told now: no later look reads them
        broken = sorted([*broken, *_wrong(path, next(iter(layouts)))])
    _fault_lines(path, broken, "each line is a JSON object", where, faults)
    return None


def _wrong(path: Path, layout: Layout) -> Iterator[tuple[int, str]]:
    """Lines that have a layout's columns, and cannot be read all the same."""
    form = Form(layout.template, layout.target)
    for number, row in lines(path):
        if isinstance(row, dict) and _layout(row) is layout:
            try:
                fields_of(row, form)
            except ValueError as problem:
                yield number, str(problem)


def _layout(row: Mapping[str, Any]) -> Layout | str:
    """The layout of a row, or its columns if none or several fit."""
    fits = [layout for layout in LAYOUTS if set(layout.columns) <= row.keys()]
    lists = isinstance(row.get("prompt"), list)
    fits = [one for one in fits if one.columns[0] != "prompt" or (one is LAYOUTS[1]) == lists]
    if len(fits) == 1:
        return fits[0]
    named = (f"{name} (an object)" if isinstance(value, dict) else name for name, value in row.items())
    return ", ".join(named) or "(none)"


def _listed(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"lines {', '.join(map(str, numbers[:10]))}{more}"


def _fault_lines(path: Path, bad: list[tuple[int, str]], fix: str, where: str, faults: Faults) -> None:
    """Fault the first few wrong lines one by one, and the others together."""
    for number, what in bad[:MOST_LISTED]:
        faults.add(where, f"{path.name}, line {number}: {what}", fix)
    if len(bad) > MOST_LISTED:
        faults.add(where, f"{path.name}: {len(bad)} lines in all are wrong", _listed([number for number, _ in bad]))


def check(path: Path, form: Form, where: str, faults: Faults, spare: list[str] | None = None) -> int:
    """Rows of a file; lines that cannot be read are faults, and columns nobody uses unless ``spare`` takes them."""
    count = 0
    bad: list[tuple[int, str]] = []
    left: dict[str, list[int]] = {}
    for number, row in lines(path):
        count += 1
        if isinstance(row, str):
            bad.append((number, row))
            continue
        try:
            fields_of(row, form)
        except ValueError as problem:
            bad.append((number, str(problem)))
            continue
        for name in unused(row, form):
            left.setdefault(name, []).append(number)
    _fault_lines(path, bad, f"each line is a JSON object with text in {', '.join(form.fields)}", where, faults)
    if spare is not None:
        spare += [name for name in left if name not in spare]
    elif left:
        named = "; ".join(f"{name!r} ({_listed(numbers)})" for name, numbers in left.items())
        ignore = ", ".join(json.dumps(name, ensure_ascii=False) for name in left)
        fix = f"use them in the template, or write ignore = [{ignore}]"
        faults.add(where, f"{path.name} has fields that are not used: {named}", fix)
    if not count:
        faults.add(where, f"{path.name} holds no examples", "write one JSON object a line")
    return count
