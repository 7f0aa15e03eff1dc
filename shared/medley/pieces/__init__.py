"""What a batch ends with, made from what lies in storage: the list of failures, the sheet, the video, the gallery."""
