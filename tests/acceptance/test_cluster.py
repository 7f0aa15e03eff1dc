"""The cluster's commands as an operator types them, over a real Redis and a real S3 server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from farm import Farm, open_farm
from fixtures_s3 import storage_on
from medley_producer.local import environment
from servers import S3Server


@pytest.fixture
def farm(tmp_path: Path, redis_url: str, seaweedfs_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Farm]:
    """A farm on S3 with one worker."""
    storage = storage_on(seaweedfs_server, monkeypatch)
    endpoint = seaweedfs_server.endpoint_url
    with open_farm(tmp_path, redis_url, storage.root, s3_endpoint_url=endpoint) as farm:
        farm.start_worker()
        yield farm


def medley(farm: Farm, *arguments: str, code: int = 0) -> str:
    """Run a command; returns what it printed on stdout."""
    command = [sys.executable, "-m", "medley_producer", *arguments]
    ended = subprocess.run(
        command, env=environment(farm.settings), capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == code, ended.stderr + farm.told()
    assert ended.stderr == ""
    return ended.stdout


def test_a_batch_is_submitted_awaited_looked_at_and_fetched(farm: Farm, dataset: Path, tmp_path: Path) -> None:
    (dataset / "contents" / "note.jpg").write_text("no picture")
    pools = ["--content", str(dataset / "contents"), "--styles", str(dataset / "styles")]
    painting = ["--batch", "night", "--pairing", "product", "--pairs", "5", "--size", "48", "--num-steps", "2"]

    planned = json.loads(medley(farm, "submit", *pools, *painting, "--dry-run", "--json", code=1))
    assert len(planned["pairs"]) == 5
    assert planned["skipped"] == 1
    assert medley(farm, "status").startswith("No batches.")

    told = json.loads(medley(farm, "submit", *pools, *painting, "--wait", "--json", code=1))
    assert (told["jobs"], told["done"], told["failed"], told["skipped"]) == (5, 5, 0, 1)
    again = json.loads(medley(farm, "submit", *pools, *painting, "--json", code=1))
    assert again["enqueued"] == 0

    status = json.loads(medley(farm, "status", "night", "--watch", "--json"))
    assert (status["state"], status["done"], status["painting"]) == ("finished", 5, {})
    assert [worker["model_loads"] for worker in status["workers"]] == [1]
    assert "note.jpg is not a picture" in medley(farm, "status", "night")
    assert medley(farm, "status").startswith("night: finished, 5 of 5 painted")

    out = tmp_path / "fetched"
    medley(farm, "fetch", "night", str(out), code=1)
    assert len(list(out.glob("*--*.png"))) == 5
    with Image.open(out / "photo0--paint1.png") as picture:
        assert picture.size == (48, 36)
    assert json.loads((out / "failures.jsonl").read_text())["skipped"] == "note.jpg"
    assert (out / "contact_sheet.jpg").stat().st_size > 1000
