"""The files of docs/clusters, and the commands of docs/clusters.md, followed on real nodes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from nodes import PYTHON, Job, Node, need_nodes, until
from nodes_search import CELLS, RUN, WORK, nodes_with_store, write_inputs
from PIL import Image
from small_grid import phantom_dataset, write_grid

import fgaug

CLONE = Path(__file__).parent.parent
RECIPES = CLONE / "docs" / "clusters"
PAGE = (CLONE / "docs" / "clusters.md").read_text(encoding="utf-8")
RAY = re.search(r"ray\[tune,default\]==([\d.]+)", (CLONE / "pyproject.toml").read_text())

CONTAINERS: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["name", "image", "resources"],
        "additionalProperties": False,
        "properties": {
            "name": {"type": "string"},
            "image": {"type": "string"},
            "env": {"type": "array", "items": {"required": ["name"]}},
            "volumeMounts": {"type": "array", "items": {"required": ["name", "mountPath"]}},
            "resources": {
                "additionalProperties": False,
                "required": ["requests", "limits"],
                "properties": {
                    kind: {"type": "object", "additionalProperties": {"type": "string"}}
                    for kind in ("requests", "limits")
                },
            },
        },
    },
}
TEMPLATE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["containers"],
            "properties": {
                "containers": CONTAINERS,
                "terminationGracePeriodSeconds": {"type": "integer"},
                "volumes": {"type": "array", "items": {"required": ["name"]}},
            },
        }
    },
}
# Ray's options are texts, also numbers: KubeRay refuses others.
PARAMETERS = {"type": "object", "additionalProperties": {"type": "string"}}
COUNT = {"type": "integer", "minimum": 0}
# The part of KubeRay's `RayJob` (ray.io/v1) that the recipe uses, from its API reference.
RAY_JOB = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": {"type": "object", "required": ["name"]},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "entrypoint": {"type": "string"},
                "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
                "backoffLimit": COUNT,
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "ttlSecondsAfterFinished": COUNT,
                "rayClusterSpec": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["headGroupSpec"],
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "enableInTreeAutoscaling": {"type": "boolean"},
                        "autoscalerOptions": {
                            "additionalProperties": False,
                            "properties": {"idleTimeoutSeconds": COUNT},
                        },
                        "headGroupSpec": {
                            "additionalProperties": False,
                            "required": ["rayStartParams", "template"],
                            "properties": {"rayStartParams": PARAMETERS, "template": TEMPLATE},
                        },
                        "workerGroupSpecs": {
                            "type": "array",
                            "items": {
                                "additionalProperties": False,
                                "required": ["groupName", "rayStartParams", "template"],
                                "properties": {
                                    "groupName": {"type": "string"},
                                    "replicas": COUNT,
                                    "minReplicas": COUNT,
                                    "maxReplicas": COUNT,
                                    "rayStartParams": PARAMETERS,
                                    "template": TEMPLATE,
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
INSTRUCTIONS = {"ARG", "FROM", "RUN", "ENV", "COPY", "USER", "WORKDIR", "CMD"}
SBATCH = {
    *("job-name", "nodes", "ntasks-per-node", "cpus-per-task", "gres", "mem", "time", "signal")
}


def test_each_is_on_the_page() -> None:
    shown = set(re.findall(r"\(clusters/([\w.-]+)\)", PAGE))
    assert shown == {path.name for path in RECIPES.iterdir()}


def test_they_name_this_version() -> None:
    assert RAY is not None
    texts = {path.name: path.read_text(encoding="utf-8") for path in RECIPES.iterdir()}
    for name in ("Dockerfile", "ray-cluster.yaml"):
        wheels = set(re.findall(r"fgaug-([\d.]+)-py3-none-any\.whl", texts[name]))
        assert wheels == {fgaug.__version__}
    job = yaml.safe_load(texts["kuberay-rayjob.yaml"])
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == RAY[1]
    images = set(re.findall(r"image: \S+:([\d.]+)", texts["kuberay-rayjob.yaml"]))
    assert images == {fgaug.__version__}


class TestRayCluster:
    def test_rays_own_validation(self) -> None:
        from ray.autoscaler._private.util import prepare_config, validate_config

        text = (RECIPES / "ray-cluster.yaml").read_text(encoding="utf-8")
        validate_config(prepare_config(yaml.safe_load(text)))

    def test_options_of_ray_start(self) -> None:
        from ray.scripts.scripts import start

        known = {option for parameter in start.params for option in parameter.opts}
        text = (RECIPES / "ray-cluster.yaml").read_text(encoding="utf-8")
        cluster = yaml.safe_load(text)
        lines = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
        used = {option for line in lines for option in re.findall(r"--[\w-]+", line)}
        assert {"--head", "--address"} <= used <= known


def test_the_ray_job() -> None:
    job = yaml.safe_load((RECIPES / "kuberay-rayjob.yaml").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(RAY_JOB)
    assert [error.message for error in Draft202012Validator(RAY_JOB).iter_errors(job)] == []
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        mounted = {each["name"] for box in pod["containers"] for each in box["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_image(tmp_path: Path) -> None:
    text = (RECIPES / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.M)).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line]
    assert {name for name, _ in steps} == INSTRUCTIONS
    assert [name for name, _ in steps[:2]] == ["ARG", "FROM"]
    for _, command in (step for step in steps if step[0] == "RUN"):
        subprocess.run(["sh", "-n", "-c", command], check=True)
    sources = [words.split()[0] for name, words in steps if name == "COPY"]
    assert sources == [f"dist/fgaug-{fgaug.__version__}-py3-none-any.whl"]
    users = [words for name, words in steps if name == "USER"]
    assert users == ["fgaug"], "nothing runs as root"


class TestSlurm:
    script = RECIPES / "slurm.sh"

    def test_its_options_and_syntax(self) -> None:
        text = self.script.read_text(encoding="utf-8")
        assert set(re.findall(r"^#SBATCH --([\w-]+)=\S+$", text, flags=re.M)) == SBATCH
        subprocess.run(["bash", "-n", str(self.script)], check=True)
        if checker := shutil.which("shellcheck"):
            subprocess.run([checker, str(self.script)], check=True)

    @pytest.mark.ray
    @pytest.mark.slow
    def test_on_two_nodes(self, tmp_path: Path) -> None:
        """`srun` starts its command on every node and ends with the largest exit code."""
        need_nodes()
        write_inputs(tmp_path, WORK, max_steps=5)
        with nodes_with_store(ray=False) as nodes:
            first, second = nodes.network.add("first"), nodes.network.add("second")
            first.put(tmp_path, WORK)
            for node in (first, second):
                node.env |= nodes.access
            named(first, second)
            env = {
                "SLURM_JOB_NODELIST": "first,second",
                "SLURM_JOB_NUM_NODES": "2",
                "SLURM_JOB_ID": "17",
                "SLURM_CPUS_PER_TASK": "1",
                "GRID": f"{WORK}/grid.yaml",
                "RUN": f"s3://{RUN}",
                "VENV": str(Path(PYTHON).parent.parent),
            }
            # The first node's `srun` runs its command there; the test does so on the second.
            tool(first, "scontrol", 'echo "$3" | tr , "\\n"')
            tool(first, "srun", 'shift; printf "%s\\n" "$@" > /root/command; exec "$@"')
            words = ["bash", "/root/slurm.sh"]
            first.put(self.script, "/root/slurm.sh")
            with first.start(words, PATH=f"/root/tools:{first.env['PATH']}", **env) as job:
                command = wait_for_text(first, "/root/command", job).splitlines()
                token = first.path("/root/.ray/auth_token")
                second.path("/root/.ray").mkdir()
                second.put(token, "/root/.ray/auth_token")
                own = {"RAY_AUTH_MODE": "token", "OMP_NUM_THREADS": "1"}
                path = f"{Path(PYTHON).parent}:{second.env['PATH']}"
                with second.start(command, PATH=path, **own) as other:
                    assert job.wait(600) == 0, job.output()
                    assert other.wait(60) == 0, other.output()
            assert nodes.finished() == CELLS


@pytest.mark.ray
@pytest.mark.slow
def test_ten_commands(tmp_path: Path) -> None:
    """The commands of the page, on the nodes that it speaks of."""
    need_nodes()
    write_images(tmp_path / "work")
    with nodes_with_store(ray=False) as nodes:
        head = nodes.network.add("head")
        driver, other = nodes.network.add("driver"), nodes.network.add("other")
        assert head.address in PAGE
        driver.put(tmp_path / "work", WORK)
        for node in (head, driver, other):
            node.env |= nodes.access
        for command in commands("head"):
            shell(head, command)
        for node in (driver, other):
            node.path("/root/.ray").mkdir()
            node.put(head.path("/root/.ray/auth_token"), "/root/.ray/auth_token")
            for command in commands("others"):
                shell(node, f"{command} --num-cpus=1")
        for command in commands("driver"):
            shell(driver, command)
        assert nodes.finished() == 4
        assert "4 ok" in shell(other, "fgaug status s3://bucket/runs/x")
        for node in (driver, other, head):
            shell(node, "ray stop")


def write_images(root: Path) -> None:
    """Write images, a table of labels and a grid, as a user has them."""
    dataset = fgaug.open_dataset(phantom_dataset(root, images=120))
    (root / "img").mkdir()
    lines = ["file,diagnosis,patient"]
    pixels = dataset.pixels()
    for number, row in enumerate(dataset.manifest.itertuples()):
        name = f"{row.image_id}.png"
        Image.fromarray(pixels[number].squeeze()).save(root / "img" / name)
        lines.append(f"{name},{row.label},{row.group}")
    (root / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    shutil.rmtree(root / "dataset")
    write_grid(
        root,
        dataset="data/breast",
        bank="banks/breast",
        axes={"mode": ["baseline", "augmentation"], "psi": [1.0], "ratio": [1], "seed": [1, 2]},
    )


def commands(name: str) -> list[str]:
    """Return the commands of the block of the page behind a mark."""
    found = re.search(rf"<!-- {name} -->\n```\n(.*?)```", PAGE, flags=re.S)
    assert found is not None
    return [line.split("   #")[0].strip() for line in found[1].splitlines()]


def shell(node: Node, command: str) -> str:
    own = {"PATH": f"{Path(PYTHON).parent}:{node.env['PATH']}"}
    return node.run(["sh", "-c", f"mkdir -p {WORK}; cd {WORK}; {command}"], seconds=600, **own)


def named(*machines: Node) -> None:
    """Let machines find each other by name."""
    lines = "".join(f"{node.address} {node.name}\n" for node in machines)
    for node in machines:
        node.path("/run/hosts").write_text(f"127.0.0.1 localhost\n{lines}")


def tool(node: Node, name: str, body: str) -> None:
    """Put a program of one line on a node."""
    path = node.path(f"/root/tools/{name}")
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def wait_for_text(node: Node, inside: str, job: Job) -> str:
    until(lambda: node.path(inside).is_file() or job.poll() is not None, 120, "srun is called")
    assert job.poll() is None, job.output()
    return node.path(inside).read_text()
