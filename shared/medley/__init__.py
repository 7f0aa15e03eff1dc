"""What producers and workers of medley agree on; it knows neither torch nor who imports it."""
