"""What a worker does before the first step."""

import hashlib
from pathlib import Path

import pytest

from conftest import draw_picture
from medley import keys
from medley.errors import OutOfMemory
from medley.records.jobs import JobIds, StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture, Style
from medley.records.weights import DEFAULT_WEIGHTS
from medley.settings import Settings
from medley.storage import open_storage
from medley_workers.jobs.scene import Studio, set_up
from medley_workers.network.loading import load_weights
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights
from medley_workers.numbers import devices


def submitted(studio: Studio, path: Path) -> Picture:
    data = path.read_bytes()
    picture = Picture(sha256=hashlib.sha256(data).hexdigest(), ext="png", name=path.name)
    studio.storage.put(keys.input_picture(picture.input), data)
    return picture


def test_a_job_that_would_not_fit_fails_before_anything_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(load_weights(find_weights(DEFAULT_WEIGHTS)), "cpu")
    storage = open_storage((tmp_path / "storage").as_uri(), Settings())
    studio = Studio(Settings(), storage, network, "painter")
    content = submitted(studio, draw_picture(tmp_path / "content.png", seed=1))
    style = Style(**submitted(studio, draw_picture(tmp_path / "style.png", seed=2, size=(60, 80))).model_dump())
    options = StyleTransferOptions(size=1200)
    job = StyleTransfer(id=JobIds(options, DEFAULT_WEIGHTS).of(content, [style]), content=content, styles=(style,))
    monkeypatch.setattr(devices, "free_memory", lambda: 2_000_000_000)
    monkeypatch.delattr(network, "_weights")  # no layer can be run
    with pytest.raises(OutOfMemory, match=r"^1200 x 900 px needs about 6\.\d GB .* 2\.0 GB are free; --size \d+ would"):
        set_up(job, options, studio)
