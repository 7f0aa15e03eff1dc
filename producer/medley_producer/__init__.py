"""Samples content/style pairs from a dataset, enqueues them and follows them; runs without a GPU and without torch."""
