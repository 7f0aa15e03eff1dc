"""One picture to paint: what a producer asks for, what a worker is told, and the id of it."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import FailFast, Field

from medley.records.base import JobId, Record, canonical_json
from medley.records.options import StyleTransferOptions
from medley.records.pictures import Picture, Style
from medley.records.weights import Weights

ENGINE = 5
"""Raised when the same request would give other pixels, with other default weights too; part of job ids and of queue
names, so that no worker is sent jobs whose weights it does not have."""


class StyleTransfer(Record):
    """One job: a content and the styles to paint it in. A line of the manifest, and what a message carries.

    It holds digests and names, never pixels; the options, common to the batch, lie in ``batch.json``. ``init`` is the
    job of the same batch whose picture this one begins with, instead of what the options say.
    """

    kind: Literal["style_transfer"] = "style_transfer"
    id: JobId
    content: Picture
    styles: Annotated[tuple[Style, ...], Field(min_length=1), FailFast()]
    init: JobId | None = None

    @property
    def names(self) -> str:
        """Its pictures, as the dataset calls them."""
        return f"{self.content.name} x {', '.join(style.name for style in self.styles)}"

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Its inputs: the content, then the styles."""
        return (self.content, *self.styles)


class HowMade(Record):
    """What a finished picture says of itself: all that painting it again needs, but for the bytes of its inputs."""

    job: StyleTransfer
    options: StyleTransferOptions
    weights: Weights
    engine: int


class JobIds:
    """Gives the ids of the jobs of a batch, which has these options and weights.

    An id is the digest of everything that bears on the job's pixels and files, so equal work has one id whoever asks.
    """

    def __init__(self, options: StyleTransferOptions, weights: Weights) -> None:
        self._common = {
            "kind": "style_transfer",
            "options": options.identity(),
            "weights": weights.sha256,
            "engine": ENGINE,
        }

    def of(self, content: Picture, styles: Sequence[Style], init: JobId | None = None) -> JobId:
        """The id of the job of this content and these styles; ``init`` is the job whose picture it begins with."""
        own: dict[str, Any] = {"content": content.sha256, "styles": [[style.sha256, style.weight] for style in styles]}
        return digest_id(self._common | own | ({"init": init} if init else {}))


def digest_id(what: dict[str, Any]) -> JobId:
    """A job's id, of everything that bears on its pixels and files."""
    return hashlib.sha256(canonical_json(what)).hexdigest()[:32]
