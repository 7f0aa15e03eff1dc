"""What a batch ends with, made from what lies in storage: the list of failures, the sheet, the video, the gallery."""

PAGE_CELLS = 60
"""Pairs on one contact sheet: as many as a page shows well."""
