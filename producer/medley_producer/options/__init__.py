"""The command line's options; what can be derived from the records is."""
