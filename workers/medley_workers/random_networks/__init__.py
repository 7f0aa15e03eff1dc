"""Random networks, and walks through their pictures."""
