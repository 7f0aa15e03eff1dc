"""Paints the pairs: the only place with torch."""
