"""Bytes to pictures that people look at, and back."""
