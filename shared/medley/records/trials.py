"""A few steps that a machine tries, to say how long a painting will take it: what is asked, and what it found out."""

from pydantic import NonNegativeFloat, PositiveInt

from medley.records.base import Record, Size
from medley.records.options import StyleTransferOptions
from medley.records.weights import DEFAULT_WEIGHTS, Weights


class TrialRequest(Record):
    """What a trial is asked to paint: the sizes at which a picture and its styles are rendered, how, and how many.

    ``weights_file`` is where the weights lie on this machine, unless they are of those that workers have themselves.
    """

    size: Size
    style_sizes: tuple[Size, ...]
    options: StyleTransferOptions
    jobs: PositiveInt = 1
    weights: Weights = DEFAULT_WEIGHTS
    weights_file: str | None = None


class Trial(Record):
    """What a trial found out on the machine that is to paint."""

    device: str
    painters: PositiveInt
    """How many processes of this machine will be painting at once."""
    load_s: NonNegativeFloat
    """For reading the weights and choosing the device; importing torch is not counted."""
    step_s: NonNegativeFloat | None = None
    """One step at the size that was asked for; None if there is no room for it."""
    problem: str | None = None
    """Why the picture does not fit the memory that a process will have, and the size that does."""
