"""A machine that only submits: the base install, without torch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ended import all_pairs, paint_batch
from medley.cluster import Cluster
from medley.settings import Settings
from medley_producer.local import environment

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("shared", "producer", "workers")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing but `pip install medley-farm`; returns its folder of programs."""
    folder = tmp_path_factory.mktemp("base")
    source = folder / "source"  # a copy, as building leaves files behind
    for name in SOURCES:
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    (source / "docs").mkdir()
    for name in ("pyproject.toml", "docs/package.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    programs = folder / "venv" / "bin"
    install: list[str | Path] = [
        programs / "pip",
        "install",
        "--quiet",
        "--constraint",
        REPOSITORY / "constraints.txt",
        source,
    ]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if installed.returncode and not os.environ.get("CI"):
        pytest.skip(f"pip cannot install here: {installed.stderr[-300:]}")
    assert installed.returncode == 0, installed.stderr
    return programs


def test_submit_works_without_torch(base: Path, tmp_path: Path, redis_url: str, dataset: Path) -> None:
    torch = subprocess.run([base / "python", "-c", "import torch"], capture_output=True, text=True, check=False)
    assert "No module named 'torch'" in torch.stderr

    settings = Settings(redis_url=redis_url, storage_url=(tmp_path / "storage").as_uri())
    command: list[str | Path] = [base / "medley", "submit", "--batch", "b", "--json"]
    command += ["--content", str(dataset / "contents"), "--styles", str(dataset / "styles")]
    submitted = subprocess.run(command, env=environment(settings), capture_output=True, text=True, check=False)
    assert submitted.returncode == 0, submitted.stderr
    assert json.loads(submitted.stdout)["enqueued"] == 12


def test_pieces_are_made_and_walks_submitted_without_torch(base: Path, cluster: Cluster, dataset: Path) -> None:
    paint_batch(cluster, all_pairs(dataset, contents=1, styles=1), num_steps=1)
    for words in (["video", "b"], ["sheet", "b"], ["walk", "--batch", "w", "--frames", "50"]):
        made = subprocess.run(
            [base / "medley", *words, "--json"], env=environment(cluster.settings), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        json.loads(made.stdout)


@pytest.mark.parametrize(
    "command",
    [
        ["worker"],
        ["run", "-c", "a.jpg", "-s", "b.jpg", "-o", "out"],
        ["vgg", "info", "x.safetensors"],
        ["art", "a.png"],
        ["walk", "--out", "a.mp4"],
    ],
)
def test_painting_says_what_is_missing(base: Path, command: list[str]) -> None:
    told = subprocess.run([base / "medley", *command], capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "medley-farm[worker]" in told.stderr


def test_doctor_says_that_this_machine_can_submit_but_not_paint(base: Path) -> None:
    ended = subprocess.run([base / "medley", "doctor", "--json"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (torch,) = [check for check in json.loads(ended.stdout)["checks"] if check["name"] == "torch"]
    assert (torch["state"], torch["remedy"]) == ("yellow", "pip install 'medley-farm[worker]'")


def test_what_is_installed_is_what_runs_and_nothing_else(base: Path) -> None:
    listing = "import importlib.metadata as m; print(*(f for f in m.files('medley-farm')), sep='\\n')"
    listed = subprocess.run(
        [base / "python", "-I", "-c", listing], capture_output=True, text=True, check=True
    ).stdout.split()
    ours = {Path(name) for name in listed if name.startswith("medley") and "dist-info" not in name}
    assert {path.parts[0] for path in ours} == {"medley", "medley_producer", "medley_workers"}
    lie_here = {path.relative_to(REPOSITORY / name) for name in SOURCES for path in (REPOSITORY / name).rglob("*.*")}
    unwanted = {".pyc", ".so", ".c"}  # what Python and a compiler make, and what that is made of
    assert {path for path in ours if path.suffix not in unwanted - {".c"}} == {
        path for path in lie_here if path.suffix not in unwanted
    }
    assert any(name.endswith("licenses/LICENSE") for name in listed)
