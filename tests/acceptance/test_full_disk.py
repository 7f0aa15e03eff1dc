"""A full disk costs the jobs that it has no room for, by that name, and leaves nothing half-written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DISK_KB = 450
"""Room for some of six pictures and their frames, some 75 KB each."""

_RUN = """
mount -t tmpfs -o size={kb}k none "$OUT" || exit 99
"$PYTHON" -m medley_producer run --content "$DATA/contents" --styles "$DATA/styles" --out "$OUT/out" \
    --pairs 6 --size 192 --num-steps 2 --frame-every 1 --device cpu \
    --content-layers block2_relu1 --style-layers block1_relu1 block2_relu1
code=$?
echo "parts: $(find "$OUT" -name '.part-*' | wc -l)"
echo "commits: $(find "$OUT" -path '*/jobs/*' -name result.json | wc -l)"
echo "failed by that name: $(find "$OUT" -name '*.failed.json' -exec grep -l 'No space left on device' {{}} + | wc -l)"
echo "pictures: $(find "$OUT" -path '*/jobs/*' -name pastiche.png | wc -l)"
echo "frames: $(find "$OUT" -path '*/jobs/*/frames/*' | wc -l)"
exit $code
"""


@pytest.fixture
def mount_point(tmp_path: Path) -> Path:
    """A folder on which a small disk can be mounted, where this machine lets us."""
    may = shutil.which("unshare") and subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    if not may or may.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("This machine has no user namespaces, so no small disk can be mounted.")
        pytest.skip("This machine has no user namespaces, so no small disk can be mounted.")
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def test_jobs_fail_by_that_name_and_nothing_half_written_stays(dataset: Path, mount_point: Path) -> None:
    environment = os.environ | {"OUT": str(mount_point), "DATA": str(dataset), "PYTHON": sys.executable}
    environment |= {"MEDLEY_GIVE_BACK_S": "0.1", "MEDLEY_ATTEMPTS": "2"}
    command = ["unshare", "-rm", "sh", "-c", _RUN.format(kb=DISK_KB)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    # If what is left is too little even for an outcome, the run ends with the sentence, and not with the batch.
    assert done.returncode in (1, 3), done.stdout + done.stderr
    assert "No space left on device" in (done.stdout if done.returncode == 1 else done.stderr)
    told = {line.rpartition(": ")[0]: int(line.rpartition(": ")[2]) for line in done.stdout.splitlines()[-5:]}
    assert told["parts"] == 0
    assert told["commits"] >= 1
    assert told["failed by that name"] >= 1 or done.returncode == 3
    assert (told["pictures"], told["frames"]) == (told["commits"], told["commits"] * 3), "an attempt left something"
