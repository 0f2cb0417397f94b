"""How a verb is called: values are looked at as they are read, and what is wrong with a call is told all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from finescale.errors import Fault, InputError, collecting, near

UsageError: Any = typer.BadParameter.__base__  # typer has moved its click inside; this is the name in every version


class Verb(TyperCommand):
    """A verb that tells every fault of a call, where typer tells the first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read a call's words.

        Raises:
            InputError: several values are wrong or missing; a single one is told as typer or the value's reader does.
        """
        words = list(args)
        try:
            return super().parse_args(ctx, args)
        except (UsageError, InputError):
            faults = self._faults(ctx, words)
            if len(faults) < 2:
                raise
        raise InputError(*faults)

    def _faults(self, ctx: Any, words: list[str]) -> list[Fault]:
        """What is wrong with each value; nothing where the words cannot be told apart (an unknown option)."""
        try:
            given, left, _ = self.make_parser(ctx).parse_args(args=words)
        except UsageError:
            return []
        found: list[Fault] = []
        for param in self.get_params(ctx):
            values = given.get(param.name)
            listed = [[one] for one in values] if isinstance(values, list | tuple) and values else [values]
            for each in listed:
                try:
                    param.handle_parse_result(ctx, {**given, param.name: each}, left)
                except InputError as error:
                    found += error.faults
                except UsageError as error:
                    said = error.format_message().rstrip(".")
                    what, way = said[:1].lower() + said[1:], f"see {ctx.command_path} --help"
                    found.append(Fault(str(ctx.info_name), what, way))
        return found


def speak(app: typer.Typer) -> typer.Typer:
    """Have every verb of an application tell every fault of a call."""
    for command in app.registered_commands:
        command.cls = Verb
    return app


def pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """What was given as NAME=VALUE.

    Raises:
        InputError: something is not, or a name is given twice; every fault is listed.
    """
    with collecting() as faults:
        for text in given or []:
            if text.count("=") != 1:
                faults.add(f"{option} {text!r}", "is not NAME=VALUE")
        times = Counter(text.partition("=")[0] for text in given or [] if text.count("=") == 1)
        for name in (name for name, count in times.items() if count > 1):
            faults.add(f"{option} {name}", f"is given {times[name]} times", "give it once")
    return dict(text.split("=") for text in given or [])


def pair(option: str) -> Callable[[str], str]:
    """A reader of one NAME=VALUE."""

    def read(text: str) -> str:
        pairs([text], option)
        return text

    return read


def one_of(option: str, names: Callable[[], list[str]]) -> Callable[[str], str]:
    """A reader of one of the names that ``names()`` lists when it is asked."""

    def read(text: str) -> str:
        if text not in (valid := names()):
            raise InputError(Fault(f"{option} {text!r}", "is unknown", near(text, valid)))
        return text

    return read


def source(text: str) -> Path:
    """A file or folder that is there."""
    from finescale.stats.paths import there

    return there(Path(text), "a file or a folder")


def file_of(wanted: str) -> Callable[[str], Path]:
    """A reader of a file that is there."""

    def read(text: str) -> Path:
        from finescale.stats.paths import file_there

        return file_there(Path(text), wanted)

    return read


def folder_place(text: str) -> Path:
    """A folder that is there or can be made: neither it nor one above it is a file."""
    path = Path(text)
    above = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not above.is_dir():
        what = "is a file" if above == path else f"is to be in {above}, which is a file"
        raise InputError(Fault(f"--out {text}", what, "name a folder"))
    return path


def table_place(text: str) -> Path:
    """A place that a table can be written to, by the name of its file."""
    from finescale.exchange.tables import check_table

    check_table(Path(text))
    return Path(text)
