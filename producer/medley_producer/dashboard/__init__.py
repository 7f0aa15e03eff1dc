"""The ops page: what batches, workers and queues are at, for people and, as JSON and as metrics, for programs."""
