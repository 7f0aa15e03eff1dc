"""A batch's life in storage: what it was asked for, what it lacks, what is decided about it, its end."""
