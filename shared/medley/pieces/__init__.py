"""What a batch ends with: its failures, sheet, video and gallery. They are gathered from storage here, and made by the
modules of the same names in :mod:`medley.media`.
"""

PAGE_CELLS = 60
"""Pairs on one contact sheet: as many as a page shows well."""
