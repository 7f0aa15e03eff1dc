"""The numbers: losses, optimisers and convolutions; they know no queue and no storage."""
