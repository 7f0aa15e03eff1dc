"""What a picture is painted with and from: the network, and on its device the inputs and the canvas to begin with."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from medley.costs import HISTORY
from medley.records.jobs import StyleTransfer
from medley.records.options import StyleTransferOptions
from medley.settings import Settings
from medley.storage import Storage
from medley_workers.jobs.inputs import Inputs, gather
from medley_workers.network.vgg import Network
from medley_workers.numbers.colours import Colours, keep_colours
from medley_workers.numbers.devices import require_room
from medley_workers.numbers.fast_network import FastNetwork
from medley_workers.numbers.losses import Objective
from medley_workers.numbers.scale import Subject
from medley_workers.numbers.tensors import size_of
from medley_workers.numbers.transfer import start_image


@dataclass(frozen=True)
class Studio:
    """What a painting process has at hand; ``fast_network`` is made when it is first asked for."""

    settings: Settings
    storage: Storage
    network: Network
    worker: str

    def fast_network(self, options: StyleTransferOptions) -> FastNetwork:
        """This network, prepared for the fast path.

        Raises:
            UsageError: the settings ask for an arithmetic that cannot be had here.
        """
        return self._deterministic_fast_network if options.deterministic else self._fast_network

    @cached_property
    def _fast_network(self) -> FastNetwork:
        settings = self.settings
        return FastNetwork(self.network, settings.arithmetic, settings.target_bytes, graphs=settings.graphs)

    @cached_property
    def _deterministic_fast_network(self) -> FastNetwork:
        settings = self.settings
        return FastNetwork(self.network, settings.arithmetic, settings.target_bytes, graphs=False, deterministic=True)


@dataclass(frozen=True, eq=False)
class Scene:
    """What is painted from, on the device: the inputs, whose colours are kept and how, and the canvas to begin
    with, (1, C, H, W).
    """

    subject: Subject
    options: StyleTransferOptions
    network: Network
    colours: Colours
    canvas: Tensor
    previews: dict[str, bytes]

    @cached_property
    def objective(self) -> Objective:
        """What is minimised, step by step, in plain float32."""
        subject = self.subject
        styles = [self.colours.style(style) for style in subject.styles]
        content = self.colours.seen(subject.content)
        return Objective(self.network, content, styles, subject.weights, self.options)


def set_up(
    job: StyleTransfer,
    options: StyleTransferOptions,
    studio: Studio,
    history: int = HISTORY,
    inputs: Inputs | None = None,
) -> Scene:
    """Take the inputs, gathered here if they are not yet, to the device, if there is room for the painting there.

    ``history`` are the pairs of vectors that L-BFGS is to remember.

    Raises:
        OutOfMemory: there is no room.
        ImageError, StorageUnreachable, StorageRefused, UsageError: as of :func:`gather`.
    """
    inputs = inputs or gather(job, options, studio.settings, studio.storage)
    device = studio.network.device
    require_room(device, size_of(inputs.content), [size_of(style) for style in inputs.styles], options, history)
    content, *styles = (picture.to(device) for picture in (inputs.content, *inputs.styles))
    init = None if inputs.init is None else inputs.init.to(device)
    colours = keep_colours(content, options)
    names, weights = [picture.sha256 for picture in job.pictures], [style.weight for style in job.styles]
    subject = Subject(content, styles, weights, init, names)
    canvas = colours.canvas(start_image(content, options, init))
    return Scene(subject, options, studio.network, colours, canvas, inputs.previews)
