"""`medley walk` and `medley art`: what is asked for, where it goes, and what is said of what cannot be."""

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medley import keys
from medley.batches.ending import finish_batch
from medley.batches.stored import read_manifest, write_outcome
from medley.cluster import Cluster
from medley.errors import PaintingStopped
from medley.records.networks import WalkOptions
from medley.records.walks import Walk, WalkBatch
from medley.telling import quiet
from medley_producer.cli import main
from medley_producer.commands.random_networks import walk_options
from medley_producer.options.arguments import make_parser
from medley_producer.submit import submit_walk
from medley_workers.jobs.walking import Gear, render_stretch
from outcomes import an_outcome
from studio import network


@pytest.fixture
def say(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[[str], tuple[int, str]]:
    """Runs a command of medley's in an empty folder, on the cluster; returns its exit code and what it said."""
    monkeypatch.setenv("MEDLEY_REDIS_URL", cluster.settings.redis_url or "")
    monkeypatch.setenv("MEDLEY_STORAGE_URL", cluster.settings.storage_url or "")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(words: str) -> tuple[int, str]:
        code = main(words.split())
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ("", (512, 512)),
        ("--size 100", (100, 100)),
        ("--size 100 --ylim -0.5 0.5", (100, 50)),
        ("--size 1000 --ylim -10 10", (100, 1000)),
        ("--xres 64 --yres 32", (64, 32)),
        ("--xlim -1e3 1e3 --size 7", (7, 7)),
    ],
)
def test_the_longest_side_is_what_was_asked_for(words: str, size: tuple[int, int]) -> None:
    args = make_parser().parse_args(["walk", *words.split()])
    assert walk_options(args).size == size


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("walk", "--out FILE is needed, or --batch NAME"),
        ("walk --out a.webm", "a.webm is made as MP4, so its name must end in .mp4"),
        ("walk --out there.mp4", "there.mp4 is a folder; name a file in it"),
        ("walk --out a.mp4 --size 0", "--size 0: a video has 1 to 4,096 px a side"),
        ("walk --out a.mp4 --size 9000", "--size 9000: a video has 1 to 4,096 px a side"),
        ("walk --out a.mp4 --size 9 --xres 9", "--size is the longest side"),
        ("walk --out a.mp4 --xlim 1 -1", "--xlim|xlim is 1 to -1; give two numbers, the smaller one first"),
        ("walk --out a.mp4 --frames 2 --loop", "a loop of 2 frames does not go round"),
        ("walk --out a.mp4 --step nan", "--step: .*finite|--step: .*greater"),
        ("walk --batch ../up", "cannot be a batch's name"),
        ("walk --batch w --device cpu", "--device is of this machine"),
        ("art a.jpg", "a.jpg is made as PNG, so its name must end in .png"),
        ("art a.png --xres 70000", "--xres: .*less than or equal to 65500"),
        ("art a.png --z x", "--z: .*number"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(words: str, said: str, say: Callable[[str], tuple[int, str]]) -> None:
    Path("there.mp4").mkdir()
    code, told = say(words)
    assert code == 2
    assert re.search(said, told), told
    assert len(told.splitlines()) == 1
    assert [path.name for path in Path().iterdir()] == ["there.mp4"]


def test_a_picture_is_made_and_says_its_seed(say: Callable[[str], tuple[int, str]]) -> None:
    code, said = say("art a.png --xres 64 --z 0.5 -1e-1 --json")
    told = json.loads(said)
    assert (code, told["size"]) == (0, [64, 64])
    assert say(f"art b.png --xres 64 --z 0.5 -1e-1 --seed {told['seed']}")[0] == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert say("art c.png --xres 64 --color-space bw")[0] == 0
    with Image.open("c.png") as picture:
        assert picture.mode == "L"
        assert np.asarray(picture).std() > 1
    code, said = say("run --again a.png --out d")
    assert (code, "does not say how it was made" in said) == (2, True)


def test_a_walk_goes_to_the_workers_of_a_cluster_once(cluster: Cluster, say: Callable[[str], tuple[int, str]]) -> None:
    for _ in range(2):
        code, said = say("walk --batch w --frames 100 --json")
        assert (code, json.loads(said)) == (0, {"batch": "w", "jobs": 3})
        assert cluster.ledger.queue_lengths()["bulk"] == 3
    code, said = say("walk --batch w --frames 101")
    assert (code, "exists, and it is not this walk" in said) == (2, True)
    code, said = say("submit --batch w -c a.jpg -s b.jpg")
    assert (code, "exists, and it is a walk" in said) == (2, True)
    assert "w: waiting, 0 of 3" in say("status w")[1]


def rendered(cluster: Cluster, name: str, fail: int = 0) -> WalkBatch:
    """A walk of three jobs that has ended, the last of which failed."""
    batch = submit_walk(cluster, name, WalkOptions(xres=64, frames=100), "bulk", quiet)
    jobs = list(read_manifest(cluster.storage, batch))
    for number, job in enumerate(jobs):
        assert isinstance(job, Walk)
        failed = number >= len(jobs) - fail
        if not failed:
            render_stretch(job, batch, gear(cluster), lambda _: None)
        write_outcome(cluster.storage, an_outcome(batch, job, "resource" if failed else "painted"))
    assert finish_batch(cluster, name, lambda: None)
    return batch


def gear(cluster: Cluster) -> Gear:
    return Gear(cluster.settings, cluster.storage, network().device, "painter")


def test_a_walk_is_waited_for_and_fetched(cluster: Cluster, say: Callable[[str], tuple[int, str]]) -> None:
    rendered(cluster, "w")
    code, said = say("walk --batch w --frames 100 --xres 64 --out w.mp4")
    assert (code, said.splitlines()) == (0, ["100 frames, 3 of 3 jobs done, 0 s", "video: w.mp4"])
    assert Path("w.mp4").read_bytes() == cluster.storage.get(keys.video("w"))
    cluster.storage.delete(keys.video("w"))  # the disk was full when the workers made it
    assert say("walk --batch w --frames 100 --xres 64 --out again.mp4")[0] == 0
    assert Path("again.mp4").read_bytes() == Path("w.mp4").read_bytes()


def test_a_walk_that_failed_says_so(cluster: Cluster, say: Callable[[str], tuple[int, str]]) -> None:
    rendered(cluster, "some", fail=1)
    code, said = say("walk --batch some --frames 100 --xres 64 --out some.mp4")
    assert (code, said.splitlines()[0]) == (1, "100 frames, 2 of 3 jobs done, 0 s")
    assert "missing" in cluster.storage.get(keys.gallery("some")).decode()
    Path("all.mp4").write_bytes(b"of yesterday")
    rendered(cluster, "all", fail=3)
    code, said = say("walk --batch all --frames 100 --xres 64 --out all.mp4")
    assert (code, said.splitlines()[0]) == (1, "100 frames, 0 of 3 jobs done, 0 s")
    assert Path("all.mp4").read_bytes() == b"of yesterday"
    assert "video:" not in said
    lines = cluster.storage.get(keys.failures("all")).decode().splitlines()
    assert [json.loads(line)["frames"] for line in lines] == [[0, 47], [48, 95], [96, 99]]


def test_a_stretch_that_is_stopped_leaves_nothing(cluster: Cluster) -> None:
    batch = submit_walk(cluster, "w", WalkOptions(xres=256, frames=48), "bulk", quiet)
    (job,) = read_manifest(cluster.storage, batch)
    assert isinstance(job, Walk)
    looks: list[int] = []

    def look(done: int) -> None:
        looks.append(done)
        if done >= 10:
            raise PaintingStopped("The worker drains.")

    with pytest.raises(PaintingStopped):
        render_stretch(job, batch, gear(cluster), look)
    assert list(cluster.storage.list("jobs/")) == []
    assert looks == sorted(looks)


def test_a_walk_in_black_and_white_is_grey(cluster: Cluster) -> None:
    batch = submit_walk(cluster, "w", WalkOptions(xres=32, frames=3, color_space="bw"), "bulk", quiet)
    (job,) = read_manifest(cluster.storage, batch)
    assert isinstance(job, Walk)
    result = render_stretch(job, batch, gear(cluster), lambda _: None)
    assert result.frames == (0, 1, 2)
    again = render_stretch(job, batch, gear(cluster), lambda _: None)
    assert again == result  # a twin's
    for file in result.files.values():
        frame = np.asarray(Image.open(io.BytesIO(cluster.storage.get(file.key))))
        assert np.ptp(frame, axis=-1).max() == 0
