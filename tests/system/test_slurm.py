"""Slurm: the batch script is a golden file, and the same array runs a real miniature study on this machine."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

submitit = pytest.importorskip("submitit", reason="needs finescale[slurm]")

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "fast"), str(HERE.parent)]

from cluster_study import left_behind, made_at_home_and_on, opened, results  # noqa: E402
from kill_study import WORK  # noqa: E402

from finescale.errors import InputError  # noqa: E402
from finescale.study.backends import Setup  # noqa: E402
from finescale.study.backends.slurm import HERE as LOCAL  # noqa: E402
from finescale.study.backends.slurm import SlurmBackend, pull  # noqa: E402
from finescale.study.run import run  # noqa: E402

pytestmark = pytest.mark.slow
GOLDEN = HERE.parent / "golden" / "slurm" / "batch.sh"
SBATCH = '#!/bin/sh\ncat "$1" > "$RECORD"\necho Submitted batch job 12\n'


def test_the_batch_script_is_the_golden_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden file is what submitit 1.5.4 submits; an ``sbatch`` that keeps its argument stands for Slurm's."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": "#!/bin/sh\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("RECORD", str(tmp_path / "seen"))
    setup = Setup(
        workers=3,
        cpus=2,
        memory_bytes=6 * 10**9,
        options={"partition": "cpu", "minutes": 90},
        folder=tmp_path / "study",
    )
    backend = SlurmBackend(setup)
    backend.submit("time:sleep", str(tmp_path / "study"), "abc")
    seen = (tmp_path / "seen").read_text().replace(str(tmp_path), "/shared").replace(sys.executable, "python")
    seen = re.sub(r"submission_file_[0-9a-f]{32}", "submission_file", seen)
    assert seen == GOLDEN.read_text()
    assert len(backend.jobs) == 3, "one array, a job per worker"


def test_what_slurm_does_not_know_and_no_slurm_at_all_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="finds no Slurm here"):
        SlurmBackend(Setup(folder=tmp_path))
    with pytest.raises(InputError, match="is no cluster of Slurm's"):
        SlurmBackend(Setup(folder=tmp_path, address="10.0.0.1:99"))


def test_an_array_on_this_machine_makes_the_study_as_the_local_backend_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "cache"))
    _, array = made_at_home_and_on("slurm", tmp_path, LOCAL)
    assert not (array.folder / "queue").exists()


def test_jobs_that_are_taken_away_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job of the array is killed while steps run; the steps are preempted, tried again, and none is lost."""
    study = opened(str(tmp_path / "array"))
    made: list[SlurmBackend] = []
    real = SlurmBackend._start
    monkeypatch.setattr(SlurmBackend, "_start", lambda self: (made.append(self), real(self))[1])
    killed = []

    def kill(now: object) -> None:
        if not killed and len(study.store.finished(study.plan)) >= 3:
            for job in made[0].jobs.values():
                job.cancel()
                killed.append(job)

    outcome = run(study, workers=2, backend="slurm", address=LOCAL, function=WORK, show=kill)
    assert outcome.complete
    assert len(killed) == 2
    assert len(made) >= 2, "a second array was submitted"
    calm = opened(str(tmp_path / "calm"))
    assert run(calm, workers=2, function=WORK).complete
    assert results(study) == results(calm)
    assert left_behind(study.folder) == []


def test_a_worker_whose_driver_is_silent_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finescale.study.backends.slurm.SECONDS_OF_SILENCE", 0.3)
    pull(str(tmp_path), 1, (), None, [])
