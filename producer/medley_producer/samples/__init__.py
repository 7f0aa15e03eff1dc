"""A small dataset painted by medley itself, so that a newcomer needs no download."""
