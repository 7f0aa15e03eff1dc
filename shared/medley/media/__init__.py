"""Pictures, sheets, videos and pages, made of what they are given; nothing here knows a batch or its storage."""
