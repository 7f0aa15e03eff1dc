"""Checkpoints that are damaged, of something else, or meant to harm: none of them is gone on with, all are told."""

import hashlib
import json
import pickle
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from hostile import mutated
from hostile_weights import with_header
from medley.errors import NumbersError
from medley_workers.jobs.checkpoint import find_checkpoint
from studio import Easel, token

SEED = 6


def taken_apart(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and the note of a checkpoint."""
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    return load(data), json.loads(header["__metadata__"]["medley"])


def put_together(arrays: dict[str, Any], note: Any) -> bytes:
    return save(arrays, {"medley": note if isinstance(note, str) else json.dumps(note)})


class Bad:
    """Ways to spoil a sound checkpoint of a job of 12 steps with frames at 0, 2 and 4: (arrays, note) to bytes."""

    @staticmethod
    def truncated(arrays: dict[str, Any], note: Any) -> bytes:
        return put_together(arrays, note)[:-100]

    @staticmethod
    def cut_in_its_header(arrays: dict[str, Any], note: Any) -> bytes:
        return put_together(arrays, note)[:200]

    @staticmethod
    def empty(*_: Any) -> bytes:
        return b""

    @staticmethod
    def pickled(arrays: dict[str, Any], note: Any) -> bytes:
        return pickle.dumps((arrays, note, exec))

    @staticmethod
    def header_of_a_gigabyte(arrays: dict[str, Any], note: Any) -> bytes:
        return struct.pack("<Q", 2**30) + put_together(arrays, note)[8:]

    @staticmethod
    def deeply_nested(*_: Any) -> bytes:
        return struct.pack("<Q", 10_000) + b"[" * 10_000

    @staticmethod
    def without_note(*_: Any) -> bytes:
        return with_header({"canvas": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))

    @staticmethod
    def too_large(arrays: dict[str, Any], note: Any) -> bytes:
        return put_together(arrays, note) + bytes(1_000_000)

    @staticmethod
    def not_a_number(arrays: dict[str, Any], note: Any) -> bytes:
        arrays["canvas"][0, 0, 0, 0] = np.nan
        return put_together(arrays, note)

    @staticmethod
    def infinite_memory(arrays: dict[str, Any], note: Any) -> bytes:
        return put_together(arrays | {"scale": np.array(np.inf, np.float32)}, note)

    @staticmethod
    def smaller(arrays: dict[str, Any], note: Any) -> bytes:
        return put_together({name: array[:, :, :8] if array.ndim else array for name, array in arrays.items()}, note)

    @staticmethod
    def of_doubles(arrays: dict[str, Any], note: Any) -> bytes:
        return put_together({"canvas": arrays["canvas"].astype(np.float64)}, note)

    @staticmethod
    def of_another_optimiser(arrays: dict[str, Any], note: Any) -> bytes:
        canvas = arrays["canvas"]
        return put_together({"canvas": canvas, "exp_avg": canvas, "exp_avg_sq": canvas}, note)

    @staticmethod
    def without_canvas(arrays: dict[str, Any], note: Any) -> bytes:
        del arrays["canvas"]
        return put_together(arrays, note)

    @staticmethod
    def with_more_pairs(arrays: dict[str, Any], note: Any) -> bytes:
        del arrays["gradient"]
        return put_together(arrays | {"change.7": arrays["canvas"]}, note)


NOTES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no note": lambda _: "{",
    "another version": lambda note: note | {"version": 2},
    "another job": lambda note: note | {"job_id": "0" * 32},
    "more in it": lambda note: note | {"more": 1},
    "step 0": lambda note: note | {"step": 0},
    "beyond the end": lambda note: note | {"step": 13},
    "another step": lambda note: note | {"step": 6},
    "no losses": lambda note: note | {"losses": []},
    "losses in no order": lambda note: note | {"losses": [[0, 1.0], [3, 1.0], [2, 1.0]]},
    "a loss of later": lambda note: note | {"losses": [[0, 1.0], [6, 1.0]]},
    "a frame lacks": lambda note: note | {"files": dict(list(note["files"].items())[1:])},
    "other files": lambda note: note | {"files": {name: file | {"key": "b"} for name, file in note["files"].items()}},
    "files of another job": lambda note: note | {"files": with_keys(note, note["job_id"], "0" * 32)},
    "files anywhere": lambda note: note | {"files": with_keys(note, "jobs/", "../jobs/")},
    "files nowhere": lambda note: note | {"files": with_keys(note, "/frames", "0/frames")},
}


def with_keys(note: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {name: file | {"key": file["key"].replace(old, new)} for name, file in note["files"].items()}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Easel, bytes]:
    """A painting that was stopped after 5 of 12 steps, and its checkpoint."""
    easel = Easel(tmp_path_factory.mktemp("stopped"), precision="exact", frame_every=2)
    easel.stop_at(5)
    return easel, easel.storage.get(easel.checkpoint)


def look_for(easel: Easel, data: bytes) -> int | None:
    """The step at which an attempt would go on."""
    easel.storage.put(easel.checkpoint, data)
    start = torch.zeros(1, 3, 36, 48)
    found = find_checkpoint(easel.storage, easel.job.id, easel.options, start)
    return found.how_far.step if found else None


def refused(easel: Easel, data: bytes, caplog: pytest.LogCaptureFixture) -> str:
    """The warning with which a checkpoint is left alone."""
    caplog.clear()
    assert look_for(easel, data) is None
    (told,) = caplog.messages
    assert "is painted from the beginning" in told
    assert told.endswith(".")
    assert told.isprintable()
    return told


BAD = [name for name in vars(Bad) if not name.startswith("_")]


@pytest.mark.parametrize("way", BAD)
def test_a_bad_checkpoint_is_left_alone_with_a_warning(
    way: str, stopped: tuple[Easel, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    easel, sound = stopped
    assert look_for(easel, sound) == 5
    refused(easel, getattr(Bad, way)(*taken_apart(sound)), caplog)


@pytest.mark.parametrize("way", NOTES)
def test_a_checkpoint_that_says_what_is_not_so_is_left_alone_with_a_warning(
    way: str, stopped: tuple[Easel, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    easel, sound = stopped
    arrays, note = taken_apart(sound)
    refused(easel, put_together(arrays, NOTES[way](note)), caplog)


def test_mutants_are_left_alone_or_are_checkpoints(
    stopped: tuple[Easel, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    easel, sound = stopped
    rng = random.Random(SEED)
    count, left_alone = 300, 0
    for number in range(count):
        caplog.clear()
        at = look_for(easel, mutated(sound[:3_000], rng) + sound[3_000:] if number % 2 else mutated(sound, rng))
        assert at in (None, 5), f"seed {SEED}, mutant {number}"
        left_alone += at is None
        assert len(caplog.messages) == (at is None)
    print(f"seed {SEED}: {left_alone} of {count} left alone")
    assert left_alone > count / 3


def test_a_checkpoint_that_leads_to_no_picture_is_gone_on_with_once(tmp_path: Path) -> None:
    easel = Easel(tmp_path)
    easel.stop_at(6)
    arrays, note = taken_apart(easel.storage.get(easel.checkpoint))
    easel.storage.put(easel.checkpoint, put_together(arrays | {"canvas": arrays["canvas"] * 1e30}, note))
    with pytest.raises(NumbersError, match="after 6 steps"):
        easel.paint()
    assert easel.files() == []
    assert easel.paint().resumed_at == ()


def test_a_checkpoint_whose_frames_are_gone_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    easel = Easel(tmp_path, frame_every=2)
    easel.stop_at(5)
    easel.storage.delete(next(key for key in easel.files() if key.endswith("000002.jpg")))
    result = easel.paint()
    assert "1 of its frames are no longer in storage" in caplog.text
    assert result.resumed_at == ()
    assert len({token(file.key) for file in result.files.values()}) == 1
    for file in result.files.values():
        assert hashlib.sha256(easel.storage.get(file.key)).hexdigest() == file.sha256
