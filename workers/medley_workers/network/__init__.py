"""VGG-19: its convolutions, its weights as files, and where those lie."""
