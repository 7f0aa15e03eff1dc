"""How coarse the grid of each convolution may be, next to the others'."""

import math
from collections.abc import Mapping, Sequence

from medley.telling import Told
from medley_workers.compressing.grid import Rounding
from medley_workers.compressing.likeness import Judge
from medley_workers.network.convolutions import Convolutions, NetworkWeights
from medley_workers.network.vgg import Network

_USUAL_COARSENESS = 0.5
"""At which a layer's harm is measured: about that of a file whose pictures nobody can tell apart."""

_CONTENT_SHARE = 0.25
"""What the content layer's squared error counts beside each Gram's. Counted whole, it was measured to cost a fifth of
block 5's error at equal bytes; at a tenth, its own error doubles."""


def allot(weights: NetworkWeights, roundings: Mapping[str, Rounding], judge: Judge, told: Told) -> dict[str, float]:
    """How coarse each layer should be; the mean of the logarithms over all weights is 0.

    A layer that alone is rounded at coarseness f adds A f^2 to the squared errors of all that is compared, and its n
    weights take n / 8 bytes less for each octave of f. At equal bytes the sum is least where A f^2 / n is the same
    for all layers.
    """
    exact = {name: weights.convolution(name) for name in weights.layers}
    coarseness: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for done, (name, rounding) in enumerate(roundings.items()):
        told("trying each layer", done, len(roundings))
        weight, bias = exact[name]
        rounded = Convolutions(exact | {name: (rounding.at(_USUAL_COARSENESS).weight(), bias)})
        harm = sum(_harm(each) for each in judge.errors(Network(rounded, "cpu")))
        sizes[name] = weight.numel()
        # What comes after all that is compared does no harm that is seen: it is rounded as its last seen neighbour is.
        coarseness[name] = math.sqrt(weight.numel() / harm) if harm else next(reversed(coarseness.values()), 1.0)
    mean = sum(sizes[name] * math.log(coarseness[name]) for name in sizes) / sum(sizes.values())
    return {name: relative / math.exp(mean) for name, relative in coarseness.items()}


def _harm(errors: Sequence[float]) -> float:
    *grams, content = (error**2 for error in errors)
    return sum(grams) + _CONTENT_SHARE * content
