"""The offline tool that makes the network's weights small: from where, how, and by which measure."""
