"""Ray: the same study to the digest as at home, nodes killed at random, nothing open to the network."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="needs finescale[ray]")
psutil = pytest.importorskip("psutil", reason="tells who listens where")

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "fast"), str(HERE.parent)]

import cluster_study  # noqa: E402
from cluster_study import left_behind, made_at_home_and_on, opened, results, start  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from test_kills import shrink  # noqa: E402

from finescale.errors import InputError  # noqa: E402
from finescale.study import store  # noqa: E402
from finescale.study.backends import Setup  # noqa: E402
from finescale.study.backends.ray import POLITE, RayBackend  # noqa: E402

pytestmark = pytest.mark.slow
NODE_KILLS = 30
NODES = 3


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No cluster before a test, none after it."""
    ray.shutdown()
    yield
    ray.shutdown()


def test_the_same_study_at_home_and_on_ray_gives_the_same_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "cache"))
    home, cluster = made_at_home_and_on("ray", tmp_path)
    digests = [
        {step.id: store.digest(study.store.record(step)) for step in study.plan.steps.values()}
        for study in (home, cluster)
    ]
    assert digests[0] == digests[1]
    for step in home.plan.of("run"):
        rows = [(study.store.done(step) / "rows.parquet").read_bytes() for study in (home, cluster)]
        assert rows[0] == rows[1], "the sums of every test example are the same too"
    one = home.plan.of("run")[0]
    changed = home.store.record(one) | {"dev_loss": 0.0}
    assert store.digest(changed) != digests[0][one.id]
    assert store.digest(home.store.record(one) | {"seconds": 0.0}) == digests[0][one.id]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that runs nothing and some nodes of one CPU each, as they would be on machines of their own."""
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": POLITE}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(NODES):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def test_a_cluster_is_asked_what_its_largest_node_has(cluster: Cluster) -> None:
    """Not what the driver's own machine has, nor the head, which takes no steps; and a grown cluster is not refused."""
    cluster.add_node(num_cpus=1, memory=7_000_000_000_000, object_store_memory=100_000_000)
    assert RayBackend.largest_memory(cluster.address) == 7_000_100_000_000
    assert not ray.is_initialized(), "whoever only asked has left again"
    for node in list(cluster.worker_nodes):
        cluster.remove_node(node)
    deadline = time.monotonic() + 30
    while RayBackend.largest_memory(cluster.address) is not None:
        assert time.monotonic() < deadline, "where no node takes steps nobody can tell"


def busy(folder: Path) -> bool:
    return any((folder / name).is_dir() and any((folder / name).glob("*.part")) for name in store.FOLDERS.values())


def kill_nodes(cluster: Cluster, folder: Path, kills: int) -> None:
    """Drive the study again and again and kill nodes while steps run, a new one taking the place of each."""
    done = 0
    while done < kills:
        driver = start(str(folder), "ray", cluster.address)
        while driver.poll() is None and done < kills:
            time.sleep(random.random() * 0.5)
            if not busy(folder):
                continue
            cluster.remove_node(random.choice(list(cluster.worker_nodes)), allow_graceful=False)
            done += 1
            cluster.add_node(num_cpus=1, wait=False)
        if done >= kills and driver.poll() is None:
            driver.kill()
        driver.wait(300)
        if driver.returncode == 0:
            shrink(opened(str(folder)))


def test_a_study_whose_nodes_are_killed_equals_one_whose_were_not(cluster: Cluster, tmp_path: Path) -> None:
    random.seed(os.environ.get("KILL_SEED", "5"))
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    assert start(str(calm)).wait(300) == 0
    kill_nodes(cluster, wild, NODE_KILLS)
    for _ in range(3):
        if start(str(wild), "ray", cluster.address).wait(300) == 0:
            break
    study = opened(str(wild))
    assert results(study) == results(opened(str(calm)))
    folders = [path.name for name in store.FOLDERS.values() for path in (wild / name).iterdir()]
    assert sorted(folders) == sorted(study.plan.steps), "none lost, none double"
    assert left_behind(wild) == []
    assert not (wild / store.CONFLICTS).exists()
    assert {path.name for step in study.plan.of("run") for path in study.store.done(step).iterdir()} == {
        "record.json",
        "rows.bin",
    }


def test_a_cluster_started_here_has_no_dashboard() -> None:
    backend: Any = RayBackend(Setup(2))
    backend.submit("time:sleep", "/tmp", "nothing")
    assert not ray._private.worker.global_worker.node.webui_url
    running = [" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True)]
    assert running, "there is a cluster"
    pages = [line for line in running if "dashboard/dashboard.py" in line]
    assert all("--host=127.0.0.1" in line and "--minimal" in line for line in pages), "what is left of it serves nobody"
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    backend.close()


def test_a_cluster_that_is_not_there_is_told() -> None:
    backend = RayBackend(Setup(1, address=f"127.0.0.1:{cluster_study.free_port()}"))
    with pytest.raises(InputError, match="cannot be reached"):
        backend.submit("time:sleep", "0", "nothing")
