"""The page on clusters names real verbs, and its KubeRay manifest has the form the operator reads."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from finescale import registry
from finescale.study.policy import CLASSES
from finescale.study.spec import Base, RunChoice

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = (DOCS / "clusters.md").read_text()
yaml = pytest.importorskip("yaml")


def test_the_manifest_is_a_ray_cluster_that_is_safe_and_complete() -> None:
    made = yaml.safe_load((DOCS / "kuberay.yaml").read_text())
    assert (made["apiVersion"], made["kind"]) == ("ray.io/v1", "RayCluster")
    head, (workers,) = made["spec"]["headGroupSpec"], made["spec"]["workerGroupSpecs"]
    assert head["rayStartParams"] == {"num-cpus": "0", "dashboard-host": "127.0.0.1"}
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    for group in (head, workers):
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["image"]
        assert not any("value" in one and "KEY" in one["name"] for one in container.get("env", [])), "no secret inside"
    mounted = {one["name"] for one in workers["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert mounted == {one["name"] for one in workers["template"]["spec"]["volumes"]}
    pins = (DOCS.parent / "constraints.txt").read_text()
    assert f"ray=={made['spec']['rayVersion']}\n" in pins


def test_the_page_names_what_there_is() -> None:
    assert set(re.findall(r"--on (\w+)", PAGE)) <= set(registry.names("backend"))
    assert {"killed", "preempted", "memory"} <= {*CLASSES} & {*re.findall(r"`(\w+)`", PAGE)}
    trusting, slurm = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", PAGE, re.S))
    assert Base.model_validate(trusting["base"]).trust_remote_code == tuple(trusting["base"]["models"])
    assert RunChoice.model_validate(slurm["run"]).slurm["partition"] == "cpu"
    extras = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"ray", "s3", "slurm"} <= extras.keys()
