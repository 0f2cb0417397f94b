"""Learned metrics that cannot share this environment: BLEURT and COMET, each in its own, talked to through JSONL.

bleurt-pytorch does not import under a current transformers and COMET needs numpy below 2. So each has an environment in
the cache folder, made by ``finescale metrics install NAME`` from the pinned list beside this file, and a checkpoint,
downloaded there or given as a folder. Until both are there its score is refused with what to do; it is never 0.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finescale.errors import Fault, InputError, Refused, near
from finescale.lab.metrics.interval import Floats
from finescale.lab.metrics.text import Answers, TextMetric, mean, with_count

WORKER = Path(__file__).with_name("outside_worker.py")
PATIENCE = 1800, 30
"""Seconds a worker may take to start, and more for each example."""


@dataclass(frozen=True)
class Outside:
    """A learned metric's own environment.

    Attributes:
        name: the metric; its pinned requirements are ``NAME.txt`` beside this file.
        checkpoint: checkpoint fetched where none is named.
        package: the distribution whose version is in the signature.
        reads_source: whether a score depends on what was translated, too.
    """

    name: str
    checkpoint: str
    package: str
    reads_source: bool = False

    @property
    def pins(self) -> Path:
        """The pinned requirements."""
        return Path(__file__).with_name(f"{self.name}.txt")

    @property
    def home(self) -> Path:
        """The environment's folder; another list of pins or another Python is another environment."""
        made_of = f"{sys.version_info[:2]}\n{self.pins.read_text()}".encode()
        return _folder() / f"{self.name}-{hashlib.sha256(made_of).hexdigest()[:12]}"

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def needs(self) -> str:
        """What is to be done before it can score; "" where it is ready."""
        if not (self.home / "installed").exists():
            return f"not installed: finescale metrics install {self.name}"
        found = self.chosen()
        if found and Path(found["path"]).is_dir():
            return ""
        return (
            f"installed, but its weights are absent: finescale metrics install {self.name}, where the Hugging Face hub "
            f"can be reached, or with --checkpoint FOLDER"
        )

    def chosen(self) -> dict[str, str] | None:
        """The checkpoint in use: ``name``, ``path`` and ``digest``."""
        path = _folder() / f"{self.name}.json"
        if not path.exists():
            return None
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def install(self, checkpoint: str | None, say: Callable[[str], None]) -> None:
        """Make the environment if it is not there, and see to its weights.

        Args:
            checkpoint: a folder with weights, or a name on the hub; by default ``self.checkpoint``.
            say: is told what is being done.

        Raises:
            Refused: pip could not install it, or the weights are not here and cannot be fetched.
        """
        if not (self.home / "installed").exists():
            say(f"making {self.home} (about 1 GB)")
            _run([sys.executable, "-m", "venv", "--clear", str(self.home)], "its environment cannot be made")
            command = [str(self.python), "-m", "pip", "install", "--quiet", "--requirement", str(self.pins)]
            _run(command, f"pip could not install {self.pins.name}")
            (self.home / "installed").touch()
        name = checkpoint or self.checkpoint
        if Path(name).is_dir():
            path = Path(name).resolve()
            name = path.name
        else:
            say(f"fetching the weights {name}")
            why = f"the environment is ready, but the weights {name!r} are not here and could not be fetched"
            way = "try again where the Hugging Face hub can be reached, or give a folder: --checkpoint FOLDER"
            path = Path(json.loads(_run(self._command("fetch", name), f"{why}; {way}"))["path"])
        chosen = {"name": name, "path": str(path), "digest": _digest(path)}
        aside = _folder() / f"{self.name}.json.{os.getpid()}.aside"
        aside.write_text(json.dumps(chosen), encoding="utf-8")
        aside.replace(_folder() / f"{self.name}.json")

    def score(self, answers: Answers) -> Floats:
        """Score of every answer, (examples,).

        Raises:
            Refused: environment, weights or sources are absent, or the worker failed; says which.
        """
        found = self.chosen()
        if (needed := self.needs()) or found is None:
            raise Refused(needed)
        if self.reads_source and not all(answers.sources):
            raise Refused(
                f"{self.name} reads the source, which was not kept: remove the study's data folder and run it"
            )
        rows = zip(answers.sources, answers.predictions, answers.references, strict=True)
        asked = "".join(
            json.dumps({"source": source, "prediction": prediction, "reference": reference}) + "\n"
            for source, prediction, reference in rows
        )
        seconds = PATIENCE[0] + PATIENCE[1] * len(answers)
        said = _run(self._command("score", found["path"]), f"{self.name} could not score", asked, seconds)
        scores = np.array([json.loads(line)["score"] for line in said.splitlines()], float)
        if len(scores) != len(answers) or not all(map(math.isfinite, scores)):
            raise Refused(f"{self.name} gave {len(scores)} scores for {len(answers)} answers, or one is not a number")
        return scores

    def signature(self, _: Answers) -> str:
        """Checkpoint with its digest, and the package's pin."""
        found = self.chosen() or {}
        pin = next(line for line in self.pins.read_text().splitlines() if line.startswith(f"{self.package}=="))
        return f"checkpoint:{found.get('name')}@{found.get('digest')}|{pin}"

    def _command(self, action: str, place: str) -> list[str]:
        return [str(self.python), str(WORKER), self.name, action, place]


def _folder() -> Path:
    """Where environments and the choices of checkpoints are kept."""
    from finescale.lab.corpora.cache import cache_folder

    return cache_folder() / "metrics"


def _run(command: Sequence[str], failed: str, asked: str = "", seconds: float | None = None) -> str:
    """Output of a command; a failure is refused with its last line of complaint."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    try:
        done = subprocess.run(
            command, input=asked, capture_output=True, encoding="utf-8", timeout=seconds, env=env, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Refused(f"{failed}: no answer within {seconds:.0f} seconds") from error
    if done.returncode:
        complaint = [line for line in done.stderr.splitlines() if line.strip()]
        raise Refused(f"{failed} ({complaint[-1].strip() if complaint else f'exit code {done.returncode}'})")
    return done.stdout


def _digest(folder: Path) -> str:
    """Twelve hex digits over the names and contents of a checkpoint's files, whatever folder they are in."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]


def _metric(outside: Outside, unit: str, source: str) -> TextMetric:
    def statistics(answers: Answers) -> Floats:
        return with_count(outside.score(answers))

    return TextMetric(outside.name, unit, "higher", statistics, mean, outside.signature, source, outside.needs)


OUTSIDE = {
    "bleurt": Outside("bleurt", "lucadiliello/BLEURT-20-D12", "bleurt-pytorch"),
    "comet": Outside("comet", "Unbabel/wmt22-comet-da", "unbabel-comet", reads_source=True),
}
BLEURT = _metric(OUTSIDE["bleurt"], "BLEURT, about 0 to 1", "Sellam et al. 2020 (arXiv 2004.04696), by bleurt-pytorch")
COMET = _metric(OUTSIDE["comet"], "COMET, about 0 to 1", "Rei et al. 2022 (COMET-22), by unbabel-comet")


def find(name: str) -> Outside:
    """The environment of a metric.

    Raises:
        InputError: the metric has none of its own.
    """
    if name not in OUTSIDE:
        raise InputError(Fault(f"metric {name!r}", "has no environment of its own to install", near(name, OUTSIDE)))
    return OUTSIDE[name]
