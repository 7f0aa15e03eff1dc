"""Writing a file of weights: the same bytes for the same weights, and whole or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import weight_files
from conftest import wait_until
from medley.errors import UsageError
from medley_workers.network.loading import describe, load_weights
from medley_workers.network.tensorfile import write_tensors

METHODS = ("kmeans", "feedback")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test puts its file."""
    return tmp_path / "weights.safetensors"


_WRITE = """
import sys
from pathlib import Path
import weight_files
weight_files.write_small_file(Path(sys.argv[1]), sys.argv[2])
"""


def environment(**more: str) -> dict[str, str]:
    """For a process that can import what tests can."""
    return os.environ | {"PYTHONPATH": str(Path(weight_files.__file__).parent)} | more


@pytest.mark.parametrize("method", METHODS)
def test_the_same_weights_give_the_same_bytes(method: str, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        command = [sys.executable, "-c", _WRITE, str(tmp_path / seed), method]
        subprocess.run(command, env=environment(PYTHONHASHSEED=seed), check=True, timeout=100)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_the_same_note_in_another_order_gives_the_same_bytes(tmp_path: Path) -> None:
    arrays, note = weight_files.kmeans_arrays(), weight_files.note("kmeans")
    write_tensors(tmp_path / "1", arrays, note)
    write_tensors(tmp_path / "2", dict(reversed(arrays.items())), dict(reversed(note.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_a_file_is_replaced_when_the_new_one_is_whole(file: Path) -> None:
    weight_files.write_small_file(file, "kmeans")
    weight_files.write_small_file(file, "feedback")
    assert describe(file).provenance.method == "feedback"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


_WRITE_ON_A_FULL_DISK = """
mount -t tmpfs -o size=40k none "$1" || exit 99
echo old > "$1/weights"
"$2" -c "$3" "$1/weights" kmeans
echo "code $?"; ls -A "$1"; cat "$1/weights"
"""


def test_a_full_disk_is_named_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    script = [_WRITE_ON_A_FULL_DISK, "sh", str(tmp_path), sys.executable, _WRITE]
    command = ["unshare", "-rm", "sh", "-c", *script]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=100, check=False)
    if (done.returncode == 99 or done.stderr.startswith("unshare:")) and os.environ.get("CI") != "true":
        pytest.skip("This machine has no user namespaces, so no small disk can be mounted.")
    assert done.stdout == "code 1\nweights\nold\n", done.stderr
    assert "weights cannot be written (No space left on device); make room" in done.stderr


@pytest.mark.parametrize("name", ["file/weights", "folder", "n" * 256])
def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=f"{name} cannot be written"):
        weight_files.write_small_file(tmp_path / name, "kmeans")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


_WRITE_AGAIN_AND_AGAIN = """
import itertools, sys
from pathlib import Path
import weight_files
for method in itertools.cycle(("kmeans", "feedback")):
    weight_files.write_small_file(Path(sys.argv[1]), method)
"""


def test_a_writer_that_is_killed_leaves_a_whole_file(file: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", _WRITE_AGAIN_AND_AGAIN, file], env=environment())
    try:
        wait_until(file.exists, 60, "a first file")
        for _ in range(100):  # whoever reads meanwhile reads a whole file, too
            assert load_weights(file).layers == tuple(weight_files.names())
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait(10)
    assert load_weights(file).layers == tuple(weight_files.names())
