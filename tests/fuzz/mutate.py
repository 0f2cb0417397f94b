"""Inputs that are almost right: valid ones with flipped bits, cut, repeated, spliced, or of other types."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

TOKENS = [
    *("null", "true", "NaN", "Infinity", "-1", "0", "1e999", "-0.0", "9" * 400, "1e-320", "0x10", "nan", "inf"),
    *('"', "'", "{", "}", "[", "]", ",", ":", "\\", "\n", "\r", "\t", "\0", "#", "=", "[[", "]]", '"""', "{}", "[]"),
    *("\\ud800", "\u202e", "\ufeff", "é", "任务", "../..", "<script>", "{x}", "{0}", "{x!r}", "1970-01-01", "12:00:00"),
    *("[" * 3000, '{"a":' * 3000, "a" * 5000),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, 1e-308, float("nan"), float("inf")),
    *("", "a", "0", "1e5", "\ud800", "\0", "x" * 300, "full", "nll", "{src}", "../up", "1970-01-01"),
    *([], {}, [1], ["a"], [[]], [None], {"a": 1}, {"": None}, [1, "a"], [{}], {"metric": "nll", "value": 1.0}),
]


def damaged(seed: bytes, chance: random.Random) -> bytes:
    """The bytes with one to four kinds of damage."""
    content = bytearray(seed)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice((_flip, _flip, _cut, _drop, _repeat, _splice, _splice, _noise))(content, chance)
    return bytes(content)


def _place(content: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(content) + 1)


def _flip(content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        if content:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _cut(content: bytearray, chance: random.Random) -> None:
    del content[_place(content, chance) :]


def _drop(content: bytearray, chance: random.Random) -> None:
    at = _place(content, chance)
    del content[at : at + chance.choice((1, 4, 20, 200))]


def _repeat(content: bytearray, chance: random.Random) -> None:
    at = _place(content, chance)
    content[at:at] = content[at : at + chance.choice((1, 10, 100))] * chance.choice((1, 2, 20))


def _splice(content: bytearray, chance: random.Random) -> None:
    at = _place(content, chance)
    content[at : at + chance.choice((0, 0, 1, 5))] = chance.choice(TOKENS).encode("utf-8", "surrogatepass")


def _noise(content: bytearray, chance: random.Random) -> None:
    at = _place(content, chance)
    content[at:at] = chance.randbytes(chance.choice((1, 3, 30)))


def retyped(value: Any, chance: random.Random, times: int = 1) -> Any:
    """A copy of a JSON value in which some places hold something else, are gone, or are called otherwise."""
    copy = json.loads(json.dumps(value))
    for _ in range(times):
        places = list(_places(copy))
        holder, key = chance.choice(places)
        deed = chance.random()
        if deed < 0.7:
            holder[key] = deepcopy(chance.choice(VALUES))
        elif deed < 0.85:
            del holder[key]
        elif isinstance(holder, dict):
            holder[str(chance.choice(VALUES))] = holder.pop(key)
        else:
            holder.append(deepcopy(holder[key]))
        if not copy:
            return copy
    return copy


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])


def retyped_lines(seed: bytes, chance: random.Random) -> bytes:
    """TOML with another value, one line gone, or one line twice."""
    lines = seed.decode().splitlines()
    at = chance.randrange(len(lines))
    key, equals, _ = lines[at].partition("=")
    deed = chance.random()
    if deed < 0.7 and equals:
        value = chance.choice(VALUES)
        said = "[]" if value is None else json.dumps(value, ensure_ascii=False)
        lines[at] = f"{key}= {said.replace('NaN', 'nan').replace('Infinity', 'inf')}"
    elif deed < 0.85:
        del lines[at]
    else:
        lines.insert(chance.randrange(len(lines)), lines[at])
    return "\n".join(lines).encode("utf-8", "surrogatepass")


Mutator = Callable[[bytes, random.Random], bytes]


def retyped_json(seed: bytes, chance: random.Random) -> bytes:
    """JSON with values of other types."""
    return json.dumps(retyped(json.loads(seed), chance, chance.choice((1, 1, 2, 5)))).encode()


def retyped_jsonl(seed: bytes, chance: random.Random) -> bytes:
    """JSON lines, one of them with values of other types."""
    lines = seed.splitlines()
    at = chance.randrange(len(lines))
    lines[at] = retyped_json(lines[at], chance)
    return b"\n".join(lines)
