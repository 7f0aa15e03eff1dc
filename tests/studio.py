"""A studio for tests that paint whole jobs without a queue: storage in a folder, and the real network on the CPU."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from conftest import draw_picture
from medley import keys
from medley.errors import MedleyError, PaintingStopped, StorageRefused, StorageUnreachable
from medley.records.batches import Batch, Sampling
from medley.records.jobs import ENGINE, JobIds, StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture, Style
from medley.records.results import Result
from medley.records.weights import DEFAULT_WEIGHTS, Weights
from medley.settings import Settings
from medley.storage import open_storage
from medley.storage.folder import FolderStorage
from medley_workers.jobs.inputs import Inputs
from medley_workers.jobs.painting import paint_alone
from medley_workers.jobs.scene import Studio
from medley_workers.network.loading import load_weights
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights
from medley_workers.numbers.transfer import Step

Look = Callable[[Step, float | None], None]

LAYERS: dict[str, Any] = {"content_layers": ("block2_relu1",), "style_layers": ("block1_relu1", "block2_relu1")}
"""Options for those who look at other things: with two blocks of the network, steps are quick."""


class Faulty(FolderStorage):
    """A folder that raises ``error`` when something is put under a key that ends with ``at``."""

    at: str | None = None
    error: type[MedleyError] = StorageRefused
    deletes = True

    def put(self, key: str, data: bytes, content_type: str | None = None, *, private: bool = False) -> None:
        super().put(key, data, content_type, private=private)  # what was refused may be there all the same
        self._fail(key)

    def put_new(self, key: str, data: bytes) -> bool:
        self._fail(key)
        return super().put_new(key, data)

    def delete(self, key: str) -> None:
        if not self.deletes:
            raise StorageUnreachable("Storage does not answer.")
        super().delete(key)

    def _fail(self, key: str) -> None:
        if self.at and key.endswith(self.at):
            raise self.error("The disk is full.")


def open_studio(folder: Path, weights: Weights = DEFAULT_WEIGHTS) -> Studio:
    settings = Settings()
    return Studio(settings, open_storage(folder.as_uri(), settings), network(weights), "painter")


@cache
def network(weights: Weights = DEFAULT_WEIGHTS) -> Network:
    """The real network on the CPU, read once."""
    return Network(load_weights(find_weights(weights)), "cpu")


def submitted(studio: Studio, path: Path) -> Picture:
    """A picture that is among the inputs in storage."""
    data = path.read_bytes()
    picture = Picture(sha256=hashlib.sha256(data).hexdigest(), ext=path.suffix[1:], name=path.name)
    studio.storage.put(keys.input_picture(picture.input), data)
    return picture


def make_job(
    studio: Studio, content: Path, styles: Mapping[Path, float], options: StyleTransferOptions
) -> StyleTransfer:
    """A job whose inputs are in storage; the styles with their weights."""
    picture = submitted(studio, content)
    blend = tuple(Style(**submitted(studio, path).model_dump(), weight=weight) for path, weight in styles.items())
    return StyleTransfer(id=JobIds(options, DEFAULT_WEIGHTS).of(picture, blend), content=picture, styles=blend)


def paint_job(
    job: StyleTransfer, batch: Batch, studio: Studio, look: Look, load_s: float = 0.0, inputs: Inputs | None = None
) -> Result:
    """Paint a job and commit it."""
    return paint_alone(job, batch, studio, look, load_s, inputs)()


def make_batch(options: StyleTransferOptions) -> Batch:
    """A batch of these options, which is not in storage."""
    return Batch(
        name="b", sampling=Sampling(content=("c",), styles=("s",)), options=options, weights=DEFAULT_WEIGHTS,
        engine=ENGINE, manifest="0" * 64, pairs=1, jobs=1, created_at=datetime.now(UTC),
    )  # fmt: skip


class Easel:
    """Where one job is painted, again and again."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.storage = Faulty(folder / "storage")
        self.studio = replace(open_studio(folder / "storage"), storage=self.storage)
        self.options = StyleTransferOptions.model_validate({"size": 48, "num_steps": 12, **LAYERS, **options})
        content, style = (draw_picture(folder / f"{n}.png", seed=n) for n in (1, 2))
        self.job = make_job(self.studio, content, {style: 1.0}, self.options)
        self.checkpoint = keys.checkpoint(self.job.id)

    def paint(self, look: Look = lambda *_: None, **settings: Any) -> Result:
        studio = replace(self.studio, settings=Settings(**settings))
        return paint_job(self.job, make_batch(self.options), studio, look)

    def stop_at(self, step: int, *, worth_keeping: bool = True) -> None:
        """Paint until a look says to stop."""
        with pytest.raises(PaintingStopped, match="drains"):
            self.paint(stopping_at(step, worth_keeping=worth_keeping))

    def undisturbed(self) -> Result:
        """What is painted if nobody stops it; nothing of it stays."""
        result = self.paint()
        for key in self.files():
            self.storage.delete(key)
        return result

    def files(self) -> list[str]:
        return list(self.storage.list("jobs/"))

    def assert_whole(self, result: Result) -> None:
        """Nothing but the result and what it names is there, and that is as it says."""
        assert sorted(self.files()) == sorted([*(file.key for file in result.files.values()), keys.result(self.job.id)])
        for file in result.files.values():
            assert hashlib.sha256(self.storage.get(file.key)).hexdigest() == file.sha256


def stopping_at(step: int, *, worth_keeping: bool = True) -> Look:
    def look(at: Step, _: float | None) -> None:
        if at.index == step:
            raise PaintingStopped("The worker drains.", worth_keeping=worth_keeping)

    return look


def token(key: str) -> str:
    return key.split("/")[2]
