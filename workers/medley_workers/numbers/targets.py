"""What pictures are compared with on the fast path, and a cache of it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medley_workers.numbers.tensors import Tensors


@dataclass(frozen=True)
class StyleTarget:
    """The Gram (N, C, C) that N pictures are to come to at a layer.

    Several styles make one target: with weights w, the sum of w |G - A|^2 is W |G - M|^2 and a constant, where W is the
    sum of the weights and M the mean of the Grams A, so weighted.
    """

    gram: Tensor
    weight: Tensor
    """(N,): W."""
    constant: Tensor
    """(N,)."""

    @staticmethod
    def blended(grams: Sequence[Tensor], weights: Sequence[float]) -> "StyleTarget":
        """Of one picture, from the Grams (C, C) of its styles."""
        stacked = torch.stack(list(grams))  # (styles, C, C)
        shares = torch.tensor(weights, dtype=stacked.dtype).to(stacked.device)
        total = shares.sum()
        mean = torch.einsum("s,scd->cd", shares, stacked) / total.clamp(min=torch.finfo(total.dtype).tiny)
        constant = (shares * (stacked - mean).square().sum(dim=(1, 2))).sum()
        return StyleTarget(mean[None], total[None], constant[None])

    @staticmethod
    def joined(targets: Sequence["StyleTarget"]) -> "StyleTarget":
        """Of several pictures, from those of each."""
        return StyleTarget(
            torch.cat([target.gram for target in targets]),
            torch.cat([target.weight for target in targets]),
            torch.cat([target.constant for target in targets]),
        )

    def distance(self, difference: Tensor) -> Tensor:
        """The weighted sum of squares, (N,), for what a Gram differs from the target."""
        return self.weight * difference.square().sum(dim=(1, 2)) + self.constant


@dataclass(frozen=True)
class Targets:
    """What N pictures are compared with, by layer: the contents' features (N, C, h, w), and the styles."""

    content: Mapping[str, Tensor]
    styles: Mapping[str, StyleTarget]


class TargetCache:
    """Keeps what was used last, in at most so many bytes of the device's memory: one photo may have a hundred styles,
    and one painting a hundred photos.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, Tensors] = OrderedDict()

    def get(self, key: Hashable | None, make: Callable[[], Tensors]) -> Tensors:
        """What was made under this key, or else what ``make`` makes; nothing is kept under None."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = make()
        if key is not None:
            self._kept[key] = made
            while self._bytes() > self._most_bytes:
                self._kept.popitem(last=False)
        return made

    def clear(self) -> None:
        """Let go of everything, as memory is short."""
        self._kept.clear()

    def _bytes(self) -> int:
        return sum(tensor.nbytes for tensors in self._kept.values() for tensor in tensors.values())
