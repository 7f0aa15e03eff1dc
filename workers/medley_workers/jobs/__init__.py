"""A job from its message to its commit."""
