"""Redis between producers and workers: the queue, its messages, and the ledger of what is under way."""
