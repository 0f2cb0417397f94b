"""Published models by name: from a table of families, so that a study can be planned, or from their own files."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from finescale.core import BaseSpec, PublicBase
from finescale.errors import Fault, InputError, near
from finescale.lab import sources
from finescale.lab.ladder import Params, count
from finescale.lab.packages import PACKAGES, PREFIX, packaged
from finescale.study.family_table import FAMILIES, Family, Size


class Checkpoint(NamedTuple):
    """What a revision of a known family is.

    ``tokens`` were read until then; ``annealed`` says whether the learning rate had come down, so that it is a finished
    model; ``seed`` tells trainings apart that differ in nothing else.
    """

    family: str
    step: int
    tokens: int
    annealed: bool
    seed: int


def repositories() -> list[str]:
    """Repositories of all models known here."""
    return [family.repository.format(size=size) for family in FAMILIES for size in family.sizes]


def public_base(name: str, trust: bool = False) -> PublicBase:
    """The base that ``repository@revision``, ``pypi:PACKAGE`` or the path of a local folder names.

    What a table here knows is not looked at; any other model is described by its own files, which have to be there.
    With ``trust`` the code that a model brings may be run, which is a part of what the base is.

    Raises:
        InputError: the model cannot be had, or the revision names no step of a known model's training.
    """
    repository, _, revision = name.partition("@")
    if name.startswith(PREFIX):
        found = packaged(name)
    elif (entry := _entry(repository)) is not None:
        found = _at(*entry, repository, revision)
    else:
        found = _described(name, trust)
    return found.model_copy(update={"trust_remote_code": True}) if trust else found


def family_of(name: str) -> str:
    """What a model's kin share, which differ from it in size: ``repository`` with ``{size}``; else its own name."""
    kin = {family.repository.format(size=size): family.repository for family in FAMILIES for size in family.sizes}
    return kin.get(name, name)


def tabled(name: str) -> bool:
    """Whether a model's facts stand in a table here, so that it can be planned without its files."""
    return name.startswith(PREFIX) or name.partition("@")[0] in repositories()


@lru_cache
def _described(name: str, trust: bool) -> PublicBase:
    """A model that no table knows, by its own files: a local folder, or a repository of the hub."""
    try:
        place = sources.folder(name, weights=sources.is_folder(name), code=trust)
    except InputError as error:
        raise error if sources.is_folder(name) else _unknown(name, error) from None
    from finescale.lab.checkpoint import describe

    shape, inner, total = describe(name, trust)
    repository, _, revision = name.partition("@")
    local = sources.digest(place, code=trust) if sources.is_folder(name) else None
    return PublicBase(
        name=place.name if local else repository,
        revision=local or revision or "main",
        digest=local or f"{repository}@{revision or 'main'}",
        tokenizer=sources.tokenizer_digest(place),
        shape=shape,
        model_params=inner,
        total_params=total,
    )


def _unknown(name: str, error: InputError) -> InputError:
    """That no table and no cache knows a repository, with the nearest name that a table knows."""
    known_names = [*repositories(), *(PREFIX + package for package in PACKAGES)]
    close, _, _ = near(name.partition("@")[0], known_names).partition("? ")
    known = f"{close}? `finescale list bases` has all" if close.startswith("did") else "`finescale list bases` has them"
    fault = error.faults[0]
    return InputError(Fault(name, f"is no model known here, and {fault.what}", f"{known}; or {fault.fix}"))


def tokens_of(name: str) -> int:
    """Tokens a published model was pretrained on, as places in a plan are keyed; 0 where its publisher does not say."""
    return (public_base(name).pretrain_tokens or 0) if tabled(name) else 0


def checkpoint(name: str) -> Checkpoint:
    """What ``repository@revision`` of a known family is.

    Raises:
        InputError: the repository is in no table, or the revision names no step of its training or is known to be bad.
    """
    repository, _, revision = name.partition("@")
    family, size = _entry(repository) or (None, None)
    if family is None or size is None:
        raise InputError(Fault(repository, "is in no table of families", near(repository, repositories())))
    return _step(family, size, repository, revision)


def _entry(repository: str) -> tuple[Family, Size] | None:
    for family in FAMILIES:
        for label, size in family.sizes.items():
            if repository == family.repository.format(size=label):
                return family, size
    return None


def _step(family: Family, size: Size, repository: str, revision: str) -> Checkpoint:
    found = re.fullmatch(family.revision, revision)
    step = int(found["step"]) if found else 0
    if not 0 < step <= size.steps or (step % size.every and step not in size.early):
        what = f"has no revision {revision!r}" if revision else "is named without a revision"
        fix = f"write {repository}@REVISION as in {family.example}, every {size.every:,} steps to {size.steps:,}"
        raise InputError(Fault(repository, what, fix))
    if revision in size.bad:
        raise InputError(Fault(f"{repository}@{revision}", size.bad[revision], "take another revision"))
    last = size.annealed and step == size.steps
    return Checkpoint(family.repository, step, step * size.batch_tokens, last, size.seed)


def _at(family: Family, size: Size, repository: str, revision: str) -> PublicBase:
    shape = family.shape(size)
    params = family.params(shape)
    return PublicBase(
        name=repository,
        revision=revision,
        digest=f"{repository}@{revision}",
        tokenizer=family.tokenizer or family.repository,
        shape=shape,
        model_params=params.non_embedding,
        total_params=params.total,
        pretrain_tokens=_step(family, size, repository, revision).tokens,
    )


def params_of(base: BaseSpec | PublicBase) -> Params:
    """Parameters of a base of either kind."""
    if isinstance(base, PublicBase):
        return Params(non_embedding=base.model_params, total=base.total_params)
    return count(base.shape)
