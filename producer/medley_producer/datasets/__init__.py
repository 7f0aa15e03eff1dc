"""Files, folders, globs, CSVs and buckets, as pools of pictures."""
