"""What producers and workers share: storage, the ledger and the queue, opened together."""

from dataclasses import dataclass
from typing import Self

from celery import Celery

from medley.broker.ledger import Ledger
from medley.broker.queue import make_celery
from medley.settings import Settings
from medley.storage import Storage, open_storage


@dataclass(frozen=True)
class Cluster:
    """The services behind the two URLs."""

    settings: Settings
    storage: Storage
    ledger: Ledger
    app: Celery

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open them; nothing is sent to a service yet.

        Raises:
            UsageError: a URL is missing or wrong.
            StorageRefused: the folder cannot be made, or boto3's configuration cannot be used.
        """
        return cls(settings, open_storage(settings.storage, settings), Ledger(settings), make_celery(settings))

    def check(self) -> None:
        """See that both services answer and serve us.

        Raises:
            ServiceUnreachable, ServiceRefused: one does not; the message says which, and what to do.
        """
        self.ledger.check()
        self.storage.check()
