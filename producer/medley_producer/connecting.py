"""The services of a cluster, as commands reach them: at once, or not at all."""

from dataclasses import replace

from medley.cluster import Cluster
from medley.settings import Settings
from medley.storage import Storage, open_storage
from medley.storage.patient import PatientStorage

PATIENCE_S = 10.0
"""A storage that answered is asked again for so long: of the hundreds of requests of a large batch, one may fail."""


def connect(settings: Settings) -> Cluster:
    """The cluster, both of whose services answer.

    Raises:
        UsageError, ServiceUnreachable, ServiceRefused: one cannot be used; the message says which, and what to do.
    """
    cluster = Cluster.open(settings)
    cluster.check()
    return replace(cluster, storage=PatientStorage(cluster.storage, PATIENCE_S))


def connect_storage(settings: Settings) -> Storage:
    """The storage alone, which answers; raises what :func:`connect` does."""
    storage = open_storage(settings.storage, settings)
    storage.check()
    return PatientStorage(storage, PATIENCE_S)
