"""Files of weights: what was written is read, and what is wrong with a file is said in one sentence."""

import hashlib
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

import weight_files
from medley.errors import UsageError, WeightsError
from medley.weight_files import MOST_BYTES
from medley_workers.network.codebook import pack, unpack
from medley_workers.network.convolutions import convolution_shapes
from medley_workers.network.loading import Provenance, describe, load_weights
from medley_workers.network.tensorfile import Array, write_tensors
from medley_workers.network.vgg import Network

NAMES = weight_files.names()
METHODS = ("kmeans", "feedback")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test puts its file."""
    return tmp_path / "weights.safetensors"


def refused(file: Path, by: Callable[[Path], object] = load_weights) -> str:
    """The one sentence by which a file is refused; it names the file."""
    with pytest.raises(WeightsError) as caught:
        by(file)
    sentence = str(caught.value)
    assert sentence.startswith(str(file))
    assert sentence.endswith(".")
    assert sentence.isprintable()
    assert len(sentence) < 500
    return sentence


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [1, 7, 8, 64, 1001])
def test_indices_take_their_bits_and_come_back(bits: int, count: int) -> None:
    indices = np.random.default_rng(bits).integers(0, 2**bits, count, np.uint8)
    packed = pack(indices, bits)
    assert packed.dtype == np.uint8
    assert len(packed) == (count * bits + 7) // 8
    assert (unpack(packed, bits, count) == indices).all()


def test_the_highest_bit_comes_first_and_zeros_fill_the_end() -> None:
    assert pack(np.array([0b101, 0b001, 0b110], np.uint8), 3).tolist() == [0b10100111, 0b00000000]


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_convolution_of_kmeans_is_the_table_at_the_indices(bits: int, file: Path) -> None:
    arrays = weight_files.kmeans_arrays(bits)
    write_tensors(file, arrays, weight_files.note("kmeans", bits=bits))
    weights = load_weights(file)
    assert weights.layers == tuple(NAMES)
    for name in NAMES:
        shape = convolution_shapes()[name]
        weight, bias = weights.convolution(name)
        digits = "".join(f"{byte:08b}" for byte in arrays[f"{name}.indices"])
        indices = [int(digits[at : at + bits], 2) for at in range(0, bits * int(np.prod(shape)), bits)]
        assert (weight.numpy() == arrays[f"{name}.table"][indices].reshape(shape)).all()
        assert (bias.numpy() == arrays[f"{name}.bias"]).all()


def test_convolutions_of_feedback_are_read(file: Path) -> None:
    weights = load_weights(weight_files.write_small_file(file, "feedback"))
    assert weights.layers == tuple(NAMES)
    for name, layer in zip(NAMES[1:], weight_files.coded_layers(), strict=True):
        assert torch.equal(weights.convolution(name)[0], layer.weight())
        assert (weights.convolution(name)[1] == 0.5).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_file_says_what_it_is(method: str, file: Path) -> None:
    weight_files.write_small_file(file, method)
    info = describe(file)
    data = file.read_bytes()
    assert (info.bytes, info.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert info.layers == (("block1_conv1", 1728), ("block1_conv2", 36864), ("block2_conv1", 73728))
    assert info.ratio == pytest.approx(4 * (1728 + 64 + 36864 + 64 + 73728 + 128) / len(data))
    assert info.provenance == Provenance.model_validate(weight_files.note(method))
    assert "CC BY 4.0" in info.provenance.licence


@pytest.mark.parametrize("method", METHODS)
def test_a_network_says_which_convolutions_its_file_lacks(method: str, file: Path) -> None:
    network = Network(load_weights(weight_files.write_small_file(file, method)), "cpu")
    image = torch.zeros(1, 3, 32, 32)
    assert network.features(image, ["block2_relu1"])["block2_relu1"].isfinite().all()
    with pytest.raises(UsageError, match=r"end with block2_conv1, .* need block2_conv2, block3_conv1: "):
        network.features(image, ["block1_relu1", "block3_conv1"])


# What is wrong with the note.

NOTES: dict[str, tuple[dict[str, Any], str]] = {
    "no bits": ({"bits": 0}, "bits: .* greater than 0"),
    "nine bits": ({"bits": 9}, "9.0 bits are none of 1 to 8"),
    "parts of a bit": ({"bits": 2.5}, "2.5 bits are none of 1 to 8"),
    "less than a bit": ({"bits": 0.5}, "0.5 bits are none of 1 to 8"),
    "bits that are no number": ({"bits": float("nan")}, "bits: .* finite"),
    "one layer": ({"layers": 1}, "layers: .* greater than or equal to 2"),
    "seventeen layers": ({"layers": 17}, "layers: .* less than or equal to 16"),
    "far too many layers": ({"layers": 10**400}, "layers: "),
    "more layers than there are": ({"layers": 14}, "it does not hold the first 14 convolutions"),
    "fewer layers than there are": ({"layers": 2}, "it does not hold the first 2 convolutions"),
    "a later version": ({"version": 2}, "version: "),
    "another method": ({"method": "magic"}, "method: "),
    "no digest": ({"source_sha256": "abc"}, "source_sha256: "),
    "a field too many": ({"author": "me"}, "author: "),
    "a field that moves the cursor": ({"a\nb\x1b[2J": 1}, r"a\\nb\\x1b\[2J: "),
    "a field that is a book": ({"a" * 50_000: 1}, "aaaa"),
    "a field that is no Unicode": ({"\ud800": 1}, "unicode"),
}


@pytest.mark.parametrize("wrong", NOTES)
def test_a_note_that_is_wrong_is_refused(wrong: str, file: Path) -> None:
    changes, said = NOTES[wrong]
    write_tensors(file, weight_files.kmeans_arrays(), weight_files.note("kmeans") | changes)
    with pytest.raises(WeightsError, match=said):
        load_weights(file)
    refused(file)


@pytest.mark.parametrize("layers", [2, 13, 14, 16])
def test_feedback_of_other_layers_than_it_says_is_refused(layers: int, file: Path) -> None:
    write_tensors(file, weight_files.feedback_arrays(), weight_files.note("feedback", layers=layers))
    assert "what goes with the integers is not" in refused(file)


@pytest.mark.parametrize("method", METHODS)
def test_the_arrays_of_the_other_method_are_refused(method: str, file: Path) -> None:
    arrays = weight_files.feedback_arrays() if method == "kmeans" else weight_files.kmeans_arrays()
    write_tensors(file, arrays, weight_files.note(method))
    assert "is damaged" in refused(file)


METADATA: dict[str, dict[str, str] | None] = {
    "of nobody": None,
    "of somebody else": {"format": "pt"},
    "not JSON": {"medley": "kmeans, 3 bits"},
    "a list": {"medley": "[]"},
    "a word": {"medley": '"kmeans"'},
    "empty": {"medley": "{}"},
    "nested without end": {"medley": "[" * 40_000},
    "deeply nested": {"medley": '{"a":' * 3_000 + "1" + "}" * 3_000},
    "a number too long": {"medley": '{"bits":1' + "0" * 9_000 + "}"},
}


@pytest.mark.parametrize("metadata", METADATA)
def test_safetensors_of_others_are_refused(metadata: str, file: Path) -> None:
    file.write_bytes(save(dict(weight_files.kmeans_arrays()), METADATA[metadata]))
    assert refused(file, load_weights) == refused(file, describe)


# What is wrong with the arrays.


def changed(name: str, change: Callable[[Array], Array]) -> Callable[[dict[str, Array]], None]:
    """Replaces an array."""

    def apply(arrays: dict[str, Array]) -> None:
        arrays[name] = change(arrays[name])

    return apply


def with_value(value: float) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        return np.concatenate([array[:-1], np.array([value], array.dtype)])

    return change


KMEANS: dict[str, tuple[Callable[[dict[str, Array]], object], str]] = {
    "an array is missing": (lambda a: a.pop("block1_conv2.bias"), "first 3 convolutions"),
    "an array too many": (lambda a: a.update(more=np.zeros(1, np.uint8)), "first 3 convolutions"),
    "another name": (lambda a: a.update(b=a.pop("block1_conv2.bias")), "first 3 convolutions"),
    "indices too short": (changed("block1_conv2.indices", lambda x: x[:-1]), "indices of block1_conv2"),
    "indices too long": (changed("block1_conv2.indices", lambda x: np.append(x, x[:1])), "indices of block1_conv2"),
    "indices of two axes": (changed("block1_conv2.indices", lambda x: x.reshape(2, -1)), "indices of block1_conv2"),
    "signed indices": (changed("block1_conv2.indices", lambda x: x.view(np.int8)), "indices of block1_conv2"),
    "a table too short": (changed("block1_conv1.table", lambda x: x[:-1]), "table of block1_conv1"),
    "a table too long": (changed("block1_conv1.table", lambda x: np.append(x, x)), "table of block1_conv1"),
    "a table of doubles": (changed("block1_conv1.table", lambda x: x.astype(np.float64)), "table of block1_conv1"),
    "a table of integers": (changed("block1_conv1.table", lambda x: x.view(np.int32)), "table of block1_conv1"),
    "NaN in a table": (changed("block2_conv1.table", with_value(np.nan)), "not finite in the table of block2_conv1"),
    "infinity in a bias": (changed("block2_conv1.bias", with_value(np.inf)), "not finite in the bias of block2_conv1"),
    "a bias too long": (changed("block2_conv1.bias", lambda x: np.append(x, x)), "bias of block2_conv1"),
}


@pytest.mark.parametrize("damage", KMEANS)
def test_damaged_arrays_of_kmeans_are_refused(damage: str, file: Path) -> None:
    change, said = KMEANS[damage]
    arrays = weight_files.kmeans_arrays()
    change(arrays)
    write_tensors(file, arrays, weight_files.note("kmeans"))
    assert said in refused(file)


def side_with(begin: int, values: bytes) -> Callable[[Array], Array]:
    """Other bytes somewhere in what goes with the integers."""

    def change(side: Array) -> Array:
        data = bytearray(zlib.decompress(side.tobytes()))
        end = begin + len(values) if begin >= 0 else None
        data[begin:end] = values
        return deflated(bytes(data))

    return change


def deflated(data: bytes) -> Array:
    return np.frombuffer(zlib.compress(data), np.uint8)


TAPS_AT = 2 * (1728 + 64 + 64 + 128)
"""Where the taps begin: behind the first convolution and the biases, in half precision."""

NAN = struct.pack("<e", float("nan"))

FEEDBACK: dict[str, tuple[Callable[[dict[str, Array]], object], str]] = {
    "an array is missing": (lambda a: a.pop("escape_at"), "its arrays are not side, states"),
    "an array too many": (lambda a: a.update(more=np.zeros(1, np.uint8)), "its arrays are not side, states"),
    "a state too few": (changed("states", lambda x: x[:-1]), "there are not 4096 states"),
    "twice the states": (changed("states", lambda x: np.append(x, x)), "there are not 4096 states"),
    "no states": (changed("states", lambda x: x[:0]), "there are not 4096 states"),
    "states of 64 bits": (changed("states", lambda x: x.astype(np.uint64)), "states is not a row of <u4"),
    "states of two axes": (changed("states", lambda x: x.reshape(2, -1)), "states is not a row of <u4"),
    "states of zero": (changed("states", np.zeros_like), "the stream"),
    "signed words": (changed("words", lambda x: x.view(np.int16)), "words is not a row of <u2"),
    "words cut": (changed("words", lambda x: x[:-1]), "the stream ends too soon"),
    "no words": (changed("words", lambda x: x[:0]), "the stream ends too soon"),
    "words too many": (changed("words", lambda x: np.append(x, x)), "the stream does not end where it should"),
    "a word flipped": (changed("words", lambda x: x ^ (np.arange(len(x)) == 99).astype(np.uint16)), "the stream"),
    "an escape without a place": (changed("escape_at", lambda x: x[:-1]), "there are not as many escapes as places"),
    "an escape of floats": (changed("escape_value", lambda x: x.view(np.float16)), "escape_value is not a row of <i2"),
    "an escape beyond all": (changed("escape_at", with_value(36864 + 73728)), "beyond the last weight"),
    "an escape far beyond": (changed("escape_at", with_value(2**32 - 1)), "beyond the last weight"),
    "side is not zlib's": (changed("side", lambda x: x[::-1].copy()), "cannot be inflated"),
    "side is empty": (changed("side", lambda x: x[:0]), "is not 2"),
    "side is cut": (changed("side", lambda x: x[:-1]), "is not 2"),
    "side is too short": (changed("side", lambda x: deflated(zlib.decompress(x.tobytes())[:-1])), "is not 2"),
    "side is too long": (changed("side", lambda x: deflated(zlib.decompress(x.tobytes()) + b"\0")), "is not 2"),
    "side is a bomb": (changed("side", lambda _: deflated(bytes(300_000_000))), "is not 2"),
    "NaN in the first convolution": (changed("side", side_with(0, NAN)), "a value is not finite"),
    "infinity in a bias": (changed("side", side_with(2 * 1728, b"\0\x7c")), "a value is not finite"),
    "NaN in the taps": (changed("side", side_with(TAPS_AT, NAN)), "a value is not finite"),
    "shares that do not add up": (changed("side", side_with(-2, b"\1\0")), "frequencies of a class do not add up"),
    "no shares": (changed("side", side_with(-39 * 255 * 2, bytes(39 * 255 * 2))), "do not add up"),
}


@pytest.mark.parametrize("damage", FEEDBACK)
def test_damaged_arrays_of_feedback_are_refused(damage: str, file: Path) -> None:
    change, said = FEEDBACK[damage]
    arrays = weight_files.feedback_arrays()
    change(arrays)
    write_tensors(file, arrays, weight_files.note("feedback"))
    assert said in refused(file)


# What is no such file at all.


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


FOREIGN: dict[str, bytes] = {
    "empty": b"",
    "ten bytes": b"0123456789",
    "only a length": struct.pack("<Q", 2),
    "a header longer than the file": struct.pack("<Q", 5_000) + b"{}",
    "a header longer than any": struct.pack("<Q", 2**64 - 1) + b"{" + bytes(100),
    "a header of nothing": struct.pack("<Q", 0) + b"{}",
    "a header of UTF-16": with_header(b"{\0}\0"),
    "a header that is cut": with_header(b'{"__metadata__":{"medley":'),
    "a header that never ends": with_header(b'{"a":' * 10_000),
    "a page": b"<!DOCTYPE html><title>404 Not Found</title>",
    "a pickle": b"\x80\x04cos\nsystem\n(S'false'\ntR.",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    "an archive": b"PK\3\4" + bytes(100),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_no_file_of_weights_is_refused(what: str, file: Path) -> None:
    file.write_bytes(FOREIGN[what])
    refused(file)
    refused(file, describe)


@pytest.mark.parametrize("method", METHODS)
def test_a_file_cut_anywhere_is_refused(method: str, file: Path) -> None:
    data = weight_files.write_small_file(file, method).read_bytes()
    for length in [*range(24), *range(24, len(data), 997), len(data) - 1]:
        file.write_bytes(data[:length])
        refused(file)


@pytest.mark.parametrize("by", [load_weights, describe])
def test_what_cannot_be_opened_is_refused(by: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("", "gone", "pipe", "loop"):
        refused(tmp_path / name, by)
    assert "No such file" in refused(tmp_path / "gone", by)
    refused(Path("/dev/zero"), by)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a file")
def test_a_file_that_fails_while_it_is_read_is_refused() -> None:
    assert "Input/output error" in refused(Path("/proc/self/mem"))


@pytest.mark.parametrize("begins", [b"", with_header(b"{}" + b" " * 98)])
def test_a_file_larger_than_any_network_is_not_read(begins: bytes, file: Path) -> None:
    with file.open("wb") as opened:
        opened.write(begins)
        opened.truncate(MOST_BYTES + 1)  # a hole: it takes no room
    assert "50,000,001 bytes" in refused(file)
    assert "50,000,001 bytes" in refused(file, describe)
