"""A study kept at a URL (``s3://bucket/study``): a folder of this machine holds its copy, and the URL the truth.

A step is made in the copy and sent up whole: its files under a name of their own, then ``manifest.json`` with their
sizes and digests, created only if there is none yet. So what has a manifest is complete, the first to finish wins, and
an upload that was cut off is nothing. Every file system that fsspec knows and that can create a key only if it is new
serves (S3, Google Cloud Storage, …); one that cannot is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from finescale.core import fingerprint, sha256_of
from finescale.errors import Fault, InputError, Refused, StudyError
from finescale.lab.corpora.cache import cache_folder
from finescale.study import store
from finescale.study.config import STUDY_FILE
from finescale.study.lease import WORKER, Lease, alone, hold
from finescale.study.plan import Step
from finescale.study.policy import Failure
from finescale.study.store import CONFLICTS, FOLDERS, PLAINLY, SPEC, How, Store, read_json, write_json

ADDRESS = "remote.json"
MANIFEST = "manifest.json"
MANIFEST_LAYOUT = 1
LEASES = "leases"
SENT_BY_DRIVER = ("study.lock.json", "sessions.jsonl")
SECONDS_BETWEEN_BEATS = 5.0
MISSED_BEATS = 4
_OF_NEEDS = {"data": "data", "base": "bases", "previous": "bases", "rate": "rates"}


def is_url(text: str) -> bool:
    """Whether a study is named by a URL and not by a path."""
    return "://" in text


def here(address: str) -> Path:
    """The folder of this machine that a study's address, a path or a URL, means."""
    if not is_url(address):
        return Path(address)
    url = address.rstrip("/")
    return cache_folder() / "studies" / fingerprint(url) / (PurePosixPath(url).name or "study")


def store_at(address: str) -> Store:
    """The store that a worker finds at a study's address."""
    return RemoteStore(here(address), address.rstrip("/")) if is_url(address) else store_of(Path(address))


def store_of(folder: Path) -> Store:
    """The store of a study folder, which may be the copy of a study kept at a URL."""
    if (folder / ADDRESS).exists():
        return RemoteStore(folder, str(read_json(folder / ADDRESS)["url"]))
    return Store(folder)


def mirror(url: str) -> Path:
    """Bring this machine's copy of a study at a URL up to date and return its folder.

    Raises:
        InputError: there is no study at the URL, or it cannot be reached.
        Refused: what is there cannot create a key only if it is new.
    """
    home = RemoteStore(here(url), url.rstrip("/"))
    try:
        if not home.holds_study():
            raise InputError(Fault(url, "holds no study", f"put a {STUDY_FILE} there"))
        home.folder.mkdir(parents=True, exist_ok=True)
        write_json(home.folder / ADDRESS, {"url": home.url})
        home.pull_loose()
        home.catch_up()
    except (OSError, ValueError) as error:
        raise InputError(Fault(url, f"cannot be read: {error}", "name an address this machine can reach")) from error
    return home.folder


class RemoteStore(Store):
    """Steps and records of a study at ``url``, with ``folder`` as this machine's copy."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder)
        self.url = url

    @cached_property
    def _reached(self) -> tuple[Any, str]:
        """The file system and the study's place on it; nothing about it is remembered between calls."""
        try:
            import fsspec
        except ImportError as error:
            raise InputError(Fault(self.url, "needs fsspec", "pip install 'finescale[s3]'")) from error
        try:
            system, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise InputError(Fault(self.url, f"cannot be opened: {error}", "pip install 'finescale[s3]'")) from error
        return system, root.rstrip("/")

    @property
    def address(self) -> str:
        """The URL."""
        return self.url

    def key(self, *parts: str) -> str:
        """The key of something in the study."""
        return "/".join([self._reached[1], *parts])

    def names(self, *parts: str) -> list[str]:
        """Keys below a place, relative to it, sorted."""
        system, root = self._reached[0], self.key(*parts)
        with suppress(FileNotFoundError):
            return sorted(PurePosixPath(key).relative_to(root).as_posix() for key in system.find(root))
        return []

    def create(self, key: str, value: Any) -> bool:
        """Put JSON under a key unless there is something; whether it was put."""
        content = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        try:
            self._reached[0].pipe_file(key, content, mode="create")
        except FileExistsError:
            return False
        return True

    def put(self, key: str, value: Any) -> None:
        """Put JSON under a key, whatever was there."""
        self._reached[0].pipe_file(key, json.dumps(value, ensure_ascii=False, allow_nan=False).encode())

    def get(self, key: str) -> dict[str, Any] | None:
        """The JSON object under a key; None where there is none."""
        try:
            value = json.loads(self._reached[0].cat_file(key))
        except (FileNotFoundError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def remove(self, *parts: str) -> None:
        """Remove a key, or all below it."""
        with suppress(FileNotFoundError):
            self._reached[0].rm(self.key(*parts), recursive=True)

    def refuse_if_overwriting(self) -> None:
        """Try whether a key can be created only once.

        Raises:
            Refused: it cannot, so two workers could overwrite each other.
        """
        probe = self.key(LEASES, f"probe-{uuid.uuid4().hex}")
        try:
            once, twice = self.create(probe, {}), self.create(probe, {})
        except NotImplementedError:
            once, twice = False, True
        self.remove(*probe.removeprefix(self.key() + "/").split("/"))
        if not once or twice:
            raise Refused(f"{self.url}: its keys can be overwritten by whoever comes second, so no study is safe there")

    # What the driver does.

    @contextmanager
    def lease(self, tell: Callable[[str], None]) -> Iterator[Lease]:
        """Hold the copy and the URL; the latter by terms of office, each a key that only one driver can create."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with hold(self.folder, tell) as local:
            self.refuse_if_overwriting()
            held = Term(self, local, tell)
            try:
                yield held
            finally:
                held.end()

    def arrived(self, step: Step) -> bool:
        """Whether a step is finished, wherever it was made."""
        return super().arrived(step) or bool(self._reached[0].exists(self.key(FOLDERS[step.kind], step.id, MANIFEST)))

    def begin(self, step: Step, how: How = PLAINLY) -> None:
        """Make a step ready for a worker of any machine."""
        super().begin(step, how)
        where = FOLDERS[step.kind], f"{step.id}.part"
        self.remove(*where, "error.json")
        self.put(self.key(*where, SPEC), read_json(self.part(step) / SPEC))

    def failure(self, step: Step) -> Failure | None:
        """Why the step last failed, if it did."""
        found = self.get(self.key(FOLDERS[step.kind], f"{step.id}.part", "error.json"))
        return Failure.told(found) if found else super().failure(step)

    def catch_up(self) -> None:
        """Bring what is finished here or there to the other side, and clear away what came to nothing."""
        for name in SENT_BY_DRIVER:
            if (self.folder / name).exists():
                self._reached[0].put_file(str(self.folder / name), self.key(name))
        for kind in FOLDERS.values():
            there = self.listing(kind)
            for id, keys in there.items():
                if MANIFEST in keys:
                    self.pull(kind, id)
                    self._sweep(kind, id, keys)
            (self.folder / kind).mkdir(parents=True, exist_ok=True)
            for done in sorted((self.folder / kind).iterdir()):
                if done.suffix == "" and MANIFEST not in there[done.name]:
                    self.send(kind, done.name, done)
        self._pull_conflicts()

    def listing(self, kind: str) -> dict[str, list[str]]:
        """Keys of one kind of step, by the folder they are in."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.names(kind):
            id, _, rest = name.partition("/")
            found[id].append(rest)
        return found

    def _sweep(self, kind: str, id: str, keys: Iterable[str]) -> None:
        """Remove what late and cut-off uploads of a finished step left, and what was noted while it was made."""
        made = self.get(self.key(kind, id, MANIFEST)) or {}
        for token in {key.partition("/")[0] for key in keys} - {MANIFEST, str(made.get("token"))}:
            self.remove(kind, id, token)
        self.remove(kind, f"{id}.part")
        part = self.folder / kind / f"{id}.part"
        if part.exists():
            with alone(part):
                shutil.rmtree(part, ignore_errors=True)

    def put_aside(self, steps: Iterable[Step]) -> list[Path]:
        """Move finished steps of the copy into ``damaged/`` and remove them at the URL, so that they are made again."""
        chosen = list(steps)
        moved = super().put_aside(chosen)
        for step in chosen:
            self.remove(FOLDERS[step.kind], step.id)
        return moved

    # What a worker does.

    def ready(self, step_id: str) -> Path:
        """In a worker: the working folder of a step, with all it needs fetched into this machine's copy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind in FOLDERS.values():
            asked = self.get(self.key(kind, f"{step_id}.part", SPEC))
            if asked is None:
                continue
            self._pull_own(kind)
            for role, needed in asked["needs"].items():
                self.pull(_OF_NEEDS[role], needed)
            part = self.folder / kind / f"{step_id}.part"
            part.mkdir(parents=True, exist_ok=True)
            write_json(part / SPEC, asked, durable=False)
            return part
        raise StudyError(f"{self.url}: step {step_id!r} was not begun")

    def _pull_own(self, kind: str) -> None:
        """What a step reads of the study's own files: the lock as it is now, and data files where data is prepared."""
        if kind == FOLDERS["data"]:
            self.pull_loose()
        elif (lock := self.get(self.key(SENT_BY_DRIVER[0]))) is not None:
            write_json(self.folder / SENT_BY_DRIVER[0], lock, durable=False)

    def keep(self, part: Path, record: dict[str, Any]) -> None:
        """In a worker: send a step up whole, then make it finished here; the first to arrive wins."""
        store.seal(part, record)
        kind, id = part.parent.name, part.stem
        if not self.send(kind, id, part):
            self.pull(kind, id)
        store.place(part)
        conflicts = self.folder / CONFLICTS
        if conflicts.exists():
            self._send_conflicts(conflicts)

    def tell_failure(self, part: Path, failure: Failure) -> None:
        """Note why a step failed, here and at the URL."""
        super().tell_failure(part, failure)
        self.put(self.key(part.parent.name, part.name, "error.json"), vars(failure))

    def send(self, kind: str, id: str, folder: Path) -> bool:
        """Send a finished step's files, then their manifest; False where another step's manifest was there first."""
        token = uuid.uuid4().hex
        passing = (*store.PASSING, SPEC, WORKER)
        files = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.relative_to(folder).as_posix() not in passing
        }
        for name, path in files.items():
            self._reached[0].put_file(str(path), self.key(kind, id, token, name))
        listed = {name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)} for name, path in files.items()}
        if self.create(self.key(kind, id, MANIFEST), {"layout": MANIFEST_LAYOUT, "token": token, "files": listed}):
            return True
        self.remove(kind, id, token)
        return False

    def pull(self, kind: str, id: str) -> None:
        """Fetch a finished step, unless it is here.

        Raises:
            StudyError: what came is not what its manifest says, or there is no such step.
        """
        done = self.folder / kind / id
        if done.exists():
            return
        made = self.get(self.key(kind, id, MANIFEST))
        if made is None or made.get("layout") != MANIFEST_LAYOUT:
            raise StudyError(f"{self.url}/{kind}/{id}: has no manifest that this version reads")
        aside = done.with_name(f"{id}.{os.getpid()}-{uuid.uuid4().hex[:8]}.aside")
        aside.mkdir(parents=True)
        try:
            for name, said in made["files"].items():
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise StudyError(f"{self.url}/{kind}/{id}: its manifest names {name!r}, which is outside of it")
                path = aside / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self._reached[0].get_file(self.key(kind, id, made["token"], name), str(path))
                if path.stat().st_size != said["bytes"] or sha256_of(path) != said["sha256"]:
                    raise StudyError(
                        f"{self.url}/{kind}/{id}/{name}: is damaged; remove {kind}/{id} there and run again"
                    )
            with suppress(OSError):
                aside.rename(done)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def holds_study(self) -> bool:
        """Whether there is a study at the URL."""
        return bool(self._reached[0].exists(self.key(STUDY_FILE)))

    def pull_loose(self) -> None:
        """Fetch the study's own files (study.toml, data files, lock) that are not here or have another size."""
        system = self._reached[0]
        for name, said in system.find(self.key(), detail=True).items():
            relative = PurePosixPath(name).relative_to(self.key())
            if relative.parts[0] in (*FOLDERS.values(), LEASES, CONFLICTS) or ".." in relative.parts:
                continue
            path = self.folder / relative
            if not path.exists() or path.stat().st_size != said["size"] or path.suffix == ".toml":
                path.parent.mkdir(parents=True, exist_ok=True)
                aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
                system.get_file(name, str(aside))
                aside.replace(path)

    def _send_conflicts(self, path: Path) -> None:
        for line in path.read_text(encoding="utf-8").splitlines():
            self.create(self.key(CONFLICTS, f"{hashlib.sha256(line.encode()).hexdigest()[:16]}.json"), json.loads(line))

    def _pull_conflicts(self) -> None:
        lines = [json.dumps(self.get(self.key(CONFLICTS, name)), ensure_ascii=False) for name in self.names(CONFLICTS)]
        if lines:
            (self.folder / CONFLICTS).write_text("\n".join(lines) + "\n", encoding="utf-8")


class Term(Lease):
    """A driver's term of office at a URL: ``leases/NNNNNNNN.json``, created by one driver only, beside a local lease.

    The next driver creates the next number; the one before sees it at its next beat and stops.
    """

    def __init__(self, home: RemoteStore, local: Lease, tell: Callable[[str], None]) -> None:
        super().__init__(local.path, local.descriptor)
        self.home, self.local = home, local
        self.number = self._outwait(tell)
        if not home.create(self._key(self.number), self._said()):
            raise StudyError(
                f"{home.url}: another driver began to run this study at this moment; wait for it, or end it"
            )
        for name in home.names(LEASES):
            if name < f"{self.number:08d}.json":
                home.remove(LEASES, name)
        self.beats_due = time.monotonic() + SECONDS_BETWEEN_BEATS

    def beat(self) -> None:
        """Show that the driver lives.

        Raises:
            StudyError: another driver has taken the study over.
        """
        self.local.beat()
        if time.monotonic() < self.beats_due:
            return
        if (last := self._last()) != self.number:
            raise StudyError(f"{self.home.url}: another driver has taken this study over (term {last})")
        self.count, self.beats_due = self.count + 1, time.monotonic() + SECONDS_BETWEEN_BEATS
        self.home.put(self._key(self.number), self._said())

    def end(self) -> None:
        """Say that nobody drives the study now."""
        with suppress(OSError):
            if self._last() == self.number:
                self.home.put(self._key(self.number), {})

    def _key(self, number: int) -> str:
        return self.home.key(LEASES, f"{number:08d}.json")

    def _said(self) -> dict[str, Any]:
        return {"holder": self.me, "pid": os.getpid(), "host": socket.gethostname(), "beat": self.count}

    def _last(self) -> int:
        """The number of the last term there was; 0 where there was none."""
        return max((int(name[:8]) for name in self.home.names(LEASES) if name[:8].isdigit()), default=0)

    def _outwait(self, tell: Callable[[str], None]) -> int:
        """The number of the next term, once the last driver was seen to be gone.

        Raises:
            StudyError: it is not.
        """
        last = self._last()
        first = self.home.get(self._key(last)) or {}
        if not first:
            return last + 1
        tell(f"process {first.get('pid')} on {first.get('host')} drove this study last; watching whether it still does")
        deadline = time.monotonic() + MISSED_BEATS * SECONDS_BETWEEN_BEATS
        while time.monotonic() < deadline:
            time.sleep(SECONDS_BETWEEN_BEATS / 4)
            if self._last() != last or (self.home.get(self._key(last)) or first) != first:
                raise StudyError(
                    f"{self.home.url}: another driver is running this study: process {first.get('pid')} on "
                    f"{first.get('host')}; wait for it, or end it"
                )
        tell("it does not: this driver takes over")
        return last + 1
