"""What pictures are compared with, made once for each and kept within a bound: one photo may have a hundred styles, and
one painting a hundred photos.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping

from torch import Tensor

Tensors = Mapping[str, Tensor]


class TargetCache:
    """Keeps what was used last, in at most so many bytes of the device's memory."""

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
