"""``study.toml`` read into a typed ``StudySpec``, or one error that lists every fault at once.

Each section is checked on its own, so that a fault in one does not hide those of the others; what relates sections
is checked for those that are sound (``study/relate.py``).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from finescale import registry
from finescale.errors import Faults, collecting, near
from finescale.lab.probes import FLORES
from finescale.stats.paths import there
from finescale.study.fields import ALL
from finescale.study.files import BuiltInTask, FileTask
from finescale.study.relate import check_names, relate
from finescale.study.spec import MethodChoice, OneFactor, StudySpec

STUDY_FILE = "study.toml"
SECTIONS = ("data", "base", "finetune", "rate_search", "evaluate", "fit", "budget", "run")


def read(folder: Path) -> StudySpec:
    """Read ``folder/study.toml``, or the ``.toml`` file that ``folder`` is.

    Raises:
        InputError: anything is wrong with it or the files it names; lists every fault with its key.
    """
    path = study_file(folder)
    with collecting() as faults:
        raw = _parse(path, faults)
    with collecting() as faults:
        spec = _check(raw, path.parent, faults)
    assert spec is not None, "a study without faults has a spec"
    return spec


def study_file(path: Path) -> Path:
    """The study file that a path means: itself, or the one in that folder."""
    return path if path.suffix == ".toml" and not path.is_dir() else path / STUDY_FILE


def _parse(path: Path, faults: Faults) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there(path.parent if path.name == STUDY_FILE else path, "a study's folder, or a NAME.toml")
        faults.add(
            str(path), "there is no such file", "a study is a folder with a study.toml; `finescale demo` makes one"
        )
    except NotADirectoryError:
        faults.add(str(path.parent), "is a file", "give a study's folder, or a NAME.toml that says what it is")
    except (OSError, UnicodeDecodeError) as error:
        faults.add(str(path), f"cannot be read: {error}", "it must be a UTF-8 text file")
    except RecursionError:
        faults.add(str(path), "cannot be read: its brackets are nested too deep", "see https://toml.io")
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        faults.add(f"{path}" + (f", line {line[1]}" if line else ""), f"is not TOML: {error}", "see https://toml.io")
    return {}


def _check(raw: dict[str, Any], folder: Path, faults: Faults) -> StudySpec | None:
    fields = {field.alias or name: field for name, field in StudySpec.model_fields.items()}
    for key in raw.keys() - fields.keys():
        faults.add(key, "is unknown", near(key, fields))
    sections: dict[str, Any] = {"question": raw.get("question", "")}
    if raw.get("schema") != 1:
        faults.add("schema", f"is {raw.get('schema', 'missing')}", "this version reads `schema = 1`")
    if not isinstance(sections["question"], str):
        faults.add("question", "is not text")
    for key in SECTIONS:
        section = fields[key].annotation
        assert isinstance(section, type)
        sections[key] = _section(section, raw.get(key, {}), key, faults)
    if "one_factor" in raw:
        sections["one_factor"] = _section(OneFactor, raw["one_factor"], "one_factor", faults)
    sections["tasks"] = {name: _task(name, table, faults) for name, table in _tables(raw, "tasks", faults).items()}
    sections["methods"] = _methods(_tables(raw, "methods", faults), "methods" in raw, faults)
    check_names(raw, faults)
    relate(sections, folder, faults)
    return None if faults.found else StudySpec(schema=1, **sections)


def _tables(raw: dict[str, Any], key: str, faults: Faults) -> dict[str, dict[str, Any]]:
    tables = raw.get(key, {})
    if isinstance(tables, dict) and all(isinstance(table, dict) for table in tables.values()):
        return tables
    faults.add(key, "is not a set of tables", f"write each as [{key}.NAME]")
    return {}


def _task(name: str, table: dict[str, Any], faults: Faults) -> Any:
    """The table of a built-in task, by its name, or of one of the user's own."""
    where = f"tasks.{name}"
    if name not in {*registry.names("task"), FLORES}:
        return _section(FileTask, table, where, faults)
    if "file" in table:
        faults.add(where, "is the name of a built-in task or data set", "choose another name for your own")
        return None
    return _section(BuiltInTask, table, where, faults)


def _section(model: type[BaseModel], raw: Any, where: str, faults: Faults) -> Any:
    """One section, or None with its faults noted."""
    if not isinstance(raw, dict):
        faults.add(where, "is not a table", f"write it as [{where}]")
        return None
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        for item in error.errors():
            faults.add(_path(where, item["loc"]), *_say(model, item))
        return None


def _path(where: str, keys: tuple[int | str, ...]) -> str:
    """The place of a fault as the user wrote it: a value for all tasks stands under no key of its own."""
    written = (key for key in keys if key != ALL)
    return where + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in written)


def _say(model: type[BaseModel], item: Any) -> tuple[str, str]:
    kind, keys = item["type"], item["loc"]
    if kind == "extra_forbidden":
        return "is unknown", near(str(keys[-1]), _keys_at(model, keys[:-1]))
    if kind == "missing":
        return "is missing", f"add `{keys[-1]} = …`"
    if kind == "fault":
        return item["msg"], item["ctx"].get("fix", "")
    return f"{item['msg'][:1].lower()}{item['msg'][1:]}, got {item['input']!r}", ""


def _keys_at(model: type[BaseModel], keys: tuple[int | str, ...]) -> list[str]:
    """Keys of the table that is reached from a section by ``keys``; in a set of tables one of them is a name."""
    for key in keys:
        if str(key) not in model.model_fields:
            continue
        inner = model.model_fields[str(key)].annotation
        found = [kind for kind in (inner, *get_args(inner)) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        model = found[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def _methods(tables: dict[str, dict[str, Any]], present: bool, faults: Faults) -> dict[str, MethodChoice | None]:
    if not tables:
        what = "is empty" if present else "is missing"
        faults.add("methods", what, f"add a table such as [methods.full]; {near('', registry.names('method'))}")
    return {name: _method(name, table, faults) for name, table in tables.items()}


def _method(name: str, table: dict[str, Any], faults: Faults) -> MethodChoice | None:
    """A method's table; its own word for a size (``rank``, ``length``) and its own options are its keys."""
    where = f"methods.{name}"
    if name not in registry.names("method"):
        faults.add(where, "is unknown", near(name, registry.names("method")))
        return None
    method = registry.get("method", name)
    shared = {key: table[key] for key in ("examples", "recipe") if key in table}
    known = {"learning_rate", "examples", "recipe", *method.options, *([method.size_word] if method.size_word else [])}
    for key in table.keys() - known:
        faults.add(f"{where}.{key}", "is unknown", near(key, known))
    choice = {
        "sizes": _listed(table.get(method.size_word, method.default_sizes)) if method.size_word else (),
        "rates": _listed(table.get("learning_rate", method.default_rates)),
        "options": _options(where, table, method.options, faults),
    }
    found = Faults()
    section: MethodChoice | None = _section(MethodChoice, choice | shared, where, found)
    if method.size_word and not choice["sizes"]:
        found.add(f"{where}.sizes", "is empty", "list at least one value")
    for fault in found:
        place = fault.where.replace(f"{where}.rates", f"{where}.learning_rate")
        faults.add(place.replace(f"{where}.sizes", f"{where}.{method.size_word}"), fault.what, fault.fix)
    return section


def _options(where: str, table: dict[str, Any], defaults: dict[str, Any], faults: Faults) -> dict[str, Any]:
    options = {key: table.get(key, default) for key, default in defaults.items()}
    for key, default in defaults.items():
        if isinstance(default, float) and type(options[key]) is int:
            options[key] = float(options[key])
        if type(options[key]) is not type(default):
            kind = type(default).__name__
            faults.add(f"{where}.{key}", f"{options[key]!r} is not a {kind}", f"as in {key} = {default}")
    return options


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)
