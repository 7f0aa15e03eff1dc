"""What ``--quality`` stands for: a size and a number of steps, for people who do not want to know."""

from typing import Literal, get_args

QualityName = Literal["draft", "good", "best"]

_QUALITIES: dict[QualityName, tuple[int, int]] = {
    # At 256 px the strokes are there after 100 steps and the content's colours gone after 150; after 200 little moves.
    "draft": (256, 150),
    # The larger the picture, the longer its colours take: after 150 steps at 512 px, many are still the content's.
    "good": (512, 300),
    # Twice the detail, for four times the pixels; more steps for the same reason.
    "best": (1024, 500),
}
"""Longest side in px, and steps. The draft was judged on two photos in the styles of The Starry Night and The Scream;
the larger ones follow from it and from the beginning of one painting at 512 px."""

QUALITIES = get_args(QualityName)
"""Their names, from the quickest to the slowest."""


def quality(name: QualityName) -> dict[str, int]:
    """The values of options that a quality stands for."""
    size, num_steps = _QUALITIES[name]
    return {"size": size, "num_steps": num_steps}
