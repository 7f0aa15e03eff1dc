"""What painting one picture costs in memory, told from its size and its options.

The formula follows the tensors that painting holds at its peak, which is when the gradient is about to flow back: all
that the network keeps for it, and the gradients of all the Grams, which are taken first.
"""

from collections.abc import Sequence

from medley.layers import channels, convolutions, up_to
from medley.records.base import Size
from medley.records.options import MOST_PAINTED_PX, StyleTransferOptions
from medley.sizes import rendered_size

_FLOAT = 4
"""Bytes of a float32."""

_IMAGE = 3 * _FLOAT
"""Bytes a pixel of a picture as a tensor."""

_VIEW = 475
"""Bytes a pixel for looking at a canvas with another picture's mean and covariance of colours, measured."""

_PROCESS_BYTES = 300 * 2**20
"""What does not grow with the picture: code that the first step loads, kernels made for its shapes, re-ordered weights,
and holes between tensors. Measured with torch 2.14 on an x86 CPU as 200 to 300 MB, and taken for a GPU's libraries."""

HISTORY = 100
"""Pairs of vectors that L-BFGS remembers, as pastiche's does: torch's default."""

FAST_HISTORY = 60
"""What the fast path remembers: of paintings of up to 100 steps, no phase has more, and each begins anew."""

LEAST_HISTORY = 10
"""What it remembers where memory does not suffice for more. Of six paintings of 150 steps, the loss ended 4 % lower to
8 % higher; other roundings alone made it 6 % lower to 9 % higher."""

_CHECKPOINT = {"adam": 3 + 3, "lbfgs": 3 + 11}
"""Canvases for keeping how far a painting came: copies of what the next step changes, and the file."""

_HOLES = 1.25
"""The pairs outlive all that is allocated around them, and leave holes there: a quarter of their size at most, as
measured."""

_LEAST_SIDE = 32
"""A smaller size is no advice: the deeper layers would see nothing."""


def histories(options: StyleTransferOptions) -> tuple[int, ...]:
    """How many pairs of vectors L-BFGS is to remember, and how many if memory does not suffice for these.

    There is but one number where nothing can be spared: Adam remembers no pairs, and a few steps make but a few.
    """
    most = HISTORY if options.is_exact else FAST_HISTORY
    spares = options.optimizer == "lbfgs" and options.num_steps > LEAST_HISTORY
    return (most, LEAST_HISTORY) if spares else (most,)


def bytes_needed(size: Size, style_sizes: Sequence[Size], options: StyleTransferOptions, history: int = HISTORY) -> int:
    """The most memory that painting takes at any moment, over what a process that imported torch has already.

    Compared with measured peaks of exact paintings on a CPU, from 256 to 1024 px a side, with both optimisers, either
    pooling, layers from block 1 alone to block 5, and up to 110 steps: at most 5 % under what was measured, and at most
    35 % over it, but where L-BFGS found nothing to improve and so remembered nothing (then it was 66 %).
    Pictures as they were before they were resized are not counted.

    Args:
        size: of the result, px
        style_sizes: at which the styles are looked at, px
        options: layers, pooling, optimiser and steps
        history: pairs of vectors that L-BFGS remembers
    """
    pixels = size[0] * size[1]
    style_pixels = sum(width * height for width, height in style_sizes)
    painting = _network_bytes(size, options) + _optimizer_bytes(pixels, options, history)
    painting += _VIEW * pixels if options.preserve_color == "linalg" else 0
    setting_up = max((_look_bytes(style, options.style_layers) for style in style_sizes), default=0)
    # The content and the start stay beside the picture that is painted, and so do the styles.
    pictures = _IMAGE * (3 * pixels + style_pixels)
    targets = sum(_FLOAT * _features(size, layer) for layer in options.content_layers)
    return _PROCESS_BYTES + _weights_bytes(options) + pictures + targets + max(painting, setting_up)


def largest_side(
    size: Size, style_sizes: Sequence[Size], options: StyleTransferOptions, free_bytes: int, history: int = HISTORY
) -> int:
    """The longest side in px at which a picture of these proportions can be painted in so much memory.

    Styles that have no size of their own have as many pixels as the result. Returns 0 if no size fits.
    """
    low, high = 0, MOST_PAINTED_PX
    while low < high:
        side = (low + high + 1) // 2
        if bytes_needed(*_scaled(side, size, style_sizes, options), options, history) <= free_bytes:
            low = side
        else:
            high = side - 1
    return low


def room_problem(
    size: Size, style_sizes: Sequence[Size], options: StyleTransferOptions, free_bytes: int, history: int = HISTORY
) -> str | None:
    """Why a picture cannot be painted in so much memory, and the size that could be; None if it can."""
    needed = bytes_needed(size, style_sizes, options, history)
    if needed <= free_bytes:
        return None
    what = f"{size[0]} x {size[1]} px needs about {_gb(needed)} of memory and {_gb(free_bytes)} are free"
    side = largest_side(size, style_sizes, options, free_bytes, history)
    if side >= _LEAST_SIDE:
        return f"{what}; --size {side} would fit."
    return f"{what}, too little for any size; free some memory, or ask for a smaller --style-size if you set one."


def _scaled(
    side: int, size: Size, style_sizes: Sequence[Size], options: StyleTransferOptions
) -> tuple[Size, Sequence[Size]]:
    """The sizes of a result with this longest side, and of its styles."""
    scaled = rendered_size(*size, longest=side)
    if options.style_size or options.style_size_pixels:
        return scaled, style_sizes
    pixels = scaled[0] * scaled[1]
    return scaled, [rendered_size(*style, pixels=pixels) for style in style_sizes]


def _network_bytes(size: Size, options: StyleTransferOptions) -> int:
    """What is held when the gradient is about to flow back through the network."""
    compared = (*options.content_layers, *options.style_layers)
    kept = sum(_kept_bytes(size, layer, layer in compared, options.pooling) for layer in up_to(*compared))
    gradients = sum(_FLOAT * _features(size, layer) for layer in compared)
    # A Gram is a product of the features with themselves: the gradient of either side is a tensor of their size.
    products = 2 * max((_FLOAT * _features(size, layer) for layer in options.style_layers), default=0)
    return kept + gradients + products


def _kept_bytes(size: Size, layer: str, is_compared: bool, pooling: str) -> int:
    """What a layer leaves for the gradient: its output, unless only the next layer's is needed."""
    features = _features(size, layer)
    if layer.endswith("pool") and pooling == "max":
        return features * (_FLOAT + 8)  # int64: which of four was the largest
    return features * _FLOAT if is_compared or "conv" not in layer else 0


def _look_bytes(size: Size, layers: Sequence[str]) -> int:
    """What looking at a picture takes without a gradient: an input, an output, and one that is kept."""
    return 3 * _FLOAT * max((_features(size, layer) for layer in up_to(*layers)), default=0)


def _optimizer_bytes(pixels: int, options: StyleTransferOptions, history: int) -> int:
    """What there is of the canvas's size: gradients, directions, the pairs that L-BFGS remembers, a checkpoint."""
    canvas = pixels * _FLOAT * (1 if options.preserve_color == "luminance" else 3)
    if options.optimizer == "adam":
        return canvas * (5 + _CHECKPOINT[options.optimizer])
    return canvas * (round(_HOLES * 2 * min(options.num_steps, history)) + 6 + _CHECKPOINT[options.optimizer])


def _weights_bytes(options: StyleTransferOptions) -> int:
    """The convolutions as float32, as far as the network is run."""
    inputs, total = 3, 0
    for layer in convolutions(*options.content_layers, *options.style_layers):
        total += _FLOAT * 9 * inputs * channels(layer)
        inputs = channels(layer)
    return total


def _features(size: Size, layer: str) -> int:
    """Numbers that a layer puts out for a picture of this size."""
    halvings = sum(before.endswith("pool") for before in up_to(layer))
    return channels(layer) * (size[0] >> halvings) * (size[1] >> halvings)


def _gb(number: int) -> str:
    return f"{number / 1e9:.1f} GB"
