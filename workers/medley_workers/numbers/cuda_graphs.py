"""A step handed to a GPU as one CUDA graph: its hundreds of small calls cost more than what some of them do."""

import logging

import torch
from torch import Tensor

from medley_workers.numbers.losses import Losses
from medley_workers.numbers.surrogate import Evaluate, Evaluation, Surrogate

log = logging.getLogger(__name__)

_WARM_UPS = 3
"""Calls before the capture, in which libraries choose what they do; as torch's manual asks for."""


def graphed(surrogate: Surrogate, images: Tensor) -> Evaluate:
    """The surrogate as a graph for pictures like these, (N, 3, H, W) on a GPU, as it is now; itself, if that fails."""
    try:
        return _Graph(surrogate, images)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # some call of some version cannot be captured, for which torch has no other error
        torch.cuda.synchronize(images.device)
        log.warning("Steps are made call by call, as they cannot be captured as a CUDA graph: %s", error)
        return surrogate


class _Graph:
    def __init__(self, surrogate: Surrogate, images: Tensor) -> None:
        self._images = images.clone()
        beside: torch.cuda.Stream = torch.cuda.Stream(images.device)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(images.device))
        with torch.cuda.stream(beside):
            for _ in range(_WARM_UPS):
                surrogate(self._images)
        torch.cuda.current_stream(images.device).wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        # Threads of the worker (frames, inputs) may copy meanwhile, which concerns no one here.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._evaluation = surrogate(self._images)
        self._surrogate = surrogate  # whose tensors the graph reads

    def __call__(self, images: Tensor) -> Evaluation:
        """See :class:`Surrogate`."""
        self._images.copy_(images)
        self._graph.replay()
        losses, by_layer, _ = self._evaluation
        return Evaluation(
            Losses(*(loss.clone() for loss in losses)),
            {layer: loss.clone() for layer, loss in by_layer.items()},
            self._evaluation.slope().clone(),
        )
