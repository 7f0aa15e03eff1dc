"""Five hundred hostile files: each costs itself and a sentence, and nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import draw_picture
from hostile import FORMATS, NO_UNICODE, ODD_NAMES, write_hostile_files
from medley.telling import shown

COUNT, SEED = 500, 20

MOST_BYTES = 1_000_000_000
SLOWEST_S = 30.0
"""For one file, on a slow machine that does something else as well; the slowest takes about a second."""

_DECODE = """
import json, sys, time
from pathlib import Path
from medley.errors import ImageError
from medley.media.images import open_picture, probe
from medley.settings import Settings

settings, refused, decoded, slowest = Settings(), {}, {}, (0.0, "")
for path in sorted(Path(sys.argv[1]).iterdir()):
    started = time.perf_counter()
    try:
        probe(path, settings)
        decoded[path.name] = open_picture(path.read_bytes(), settings, path.name).size
    except ImageError as error:
        refused[path.name] = str(error)
    slowest = max(slowest, (time.perf_counter() - started, path.name))
status = dict(line.split(":") for line in open("/proc/self/status"))  # ru_maxrss has that of the parent, too
peak = int(status["VmHWM"].split()[0]) * 1024
print(json.dumps({"refused": refused, "decoded": decoded, "slowest": slowest, "peak": peak}))
"""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "hostile"
    write_hostile_files(folder, COUNT, SEED)
    return folder


def run(*command: str | Path, within_s: float = 200.0) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, *map(str, command)]
    return subprocess.run(line, capture_output=True, text=True, timeout=within_s, check=False)


def test_each_file_is_decoded_or_refused_in_a_sentence_with_its_name(hostile: Path) -> None:
    done = run("-W", "ignore", "-c", _DECODE, hostile)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    refused, decoded = told["refused"], told["decoded"]
    print(f"seed {SEED}: {len(decoded)} decoded, {len(refused)} refused, slowest {told['slowest'][0]:.2f} s")
    print(f"({told['slowest'][1]}), peak {told['peak'] / 1e6:.0f} MB")
    assert len(refused) + len(decoded) == COUNT
    for name, sentence in refused.items():
        assert shown(name) in sentence
        assert sentence.endswith(".")
        assert sentence.isprintable()
    assert told["slowest"][0] < SLOWEST_S
    assert told["peak"] < MOST_BYTES
    assert {"pipe.jpg", "zero.png", "gone.png", "empty.jpg", "wide.png", "page.jpg"} <= refused.keys()
    assert {"flat.png", "new\nline.jpg"} <= decoded.keys()
    for form in FORMATS:
        assert any(name.endswith(form.lower()) for name in decoded), (
            "no mutant survives, so the mutations are too coarse"
        )


@pytest.mark.parametrize("count", [40, pytest.param(COUNT, marks=pytest.mark.soak)])
def test_a_batch_of_them_goes_on_and_names_what_it_could_not_paint(count: int, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile"
    write_hostile_files(hostile, count, SEED)
    style = draw_picture(tmp_path / "style.png", seed=1)
    pools = ("--content", hostile, "--styles", style, "--out", tmp_path / "out")
    done = run("-m", "medley_producer", "run", *pools, "--size", "32", "--num-steps", "1", "--json")
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["done"] + told["failed"] == told["jobs"]
    failures = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_bytes().split(b"\n") if line]
    named = {line.get("skipped") or line["content"] for line in failures}
    painted = len(list((tmp_path / "out").glob("*--style*.png")))
    print(f"seed {SEED}: {painted} painted, {len(named)} named as skipped or failed, {told['seconds']} s")
    assert painted + len(named) == count
    assert all(line["reason"].endswith(".") and line["reason"].isprintable() for line in failures)
    assert not list((tmp_path / "out").rglob(".part-*"))


def test_odd_names_come_through(hostile: Path, tmp_path: Path) -> None:
    """Of the files whose names are odd, half are torn; in one of these it shows in the header."""
    odd = tmp_path / "odd"
    odd.mkdir()
    for name in [*ODD_NAMES, os.fsdecode(NO_UNICODE)]:
        shutil.copy(hostile / name, odd / name)
    style = draw_picture(tmp_path / "style.png", seed=1)
    pools = ("--content", odd, "--styles", style, "--batch", "odd", "--dry-run")
    done = run("-m", "medley_producer", "submit", *pools)
    assert done.returncode == 1, done.stderr
    assert "new_nline--style" in done.stdout
    assert "skipped ünï 夜 🎨.jpg cannot be read" in done.stdout
    assert len(done.stdout.splitlines()) == len(ODD_NAMES) + 2, "a line for each file, and one that counts"


CSVS = {
    "torn": (b'filename,style\nphoto.jpg,Cubism\nphoto2.jpg,"Cub', 1, "a quote that it opens is never closed"),
    "with a BOM": (b"\xef\xbb\xbffilename\r\nphoto.jpg\r\n", 1, ""),
    "with paths that climb out": (b"filename\nphoto.jpg\n../../etc/passwd.jpg\n/etc/passwd.jpg\n", 1, "--image-root"),
    "with a row of a thousand commas": (b"filename\nphoto.jpg\n" + b"," * 1000 + b"\n", 1, ""),
}
"""Bytes, how many pictures they name that can be used, and what is said of the others."""

REFUSED_CSVS = {
    "binary": bytes(range(256)) * 40,
    "of URLs": b"filename\nhttps://example.org/a.jpg\n",
    "empty": b"",
    "without rows": b"filename\n",
    "one endless cell": b"filename\n" + b"a" * 300_000,
}


def dry_run(content: Path, style: Path) -> subprocess.CompletedProcess[str]:
    pools = ("--content", content, "--styles", style, "--pairing", "product")
    return run("-m", "medley_producer", "submit", *pools, "--batch", "csv", "--dry-run")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    for n, name in enumerate(("photo.jpg", "photo2.jpg")):
        draw_picture(tmp_path / name, seed=n)
    return tmp_path / "table.csv"


@pytest.mark.parametrize("what", CSVS)
def test_the_good_rows_of_a_bad_csv_are_used(what: str, table: Path) -> None:
    data, usable, said = CSVS[what]
    table.write_bytes(data)
    done = dry_run(table, table.with_name("photo.jpg"))
    assert done.returncode == (1 if said else 0), done.stderr
    assert f"{usable} pair" in done.stdout
    assert said in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", REFUSED_CSVS)
def test_a_csv_that_cannot_be_used_is_refused_by_name(what: str, table: Path) -> None:
    table.write_bytes(REFUSED_CSVS[what])
    done = dry_run(table, table.with_name("photo.jpg"))
    assert done.returncode == 2
    assert "table.csv" in done.stderr
    assert done.stderr.startswith("medley: ")
    assert done.stderr.count("\n") == 1
