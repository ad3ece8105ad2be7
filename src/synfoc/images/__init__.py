"""Pixels and files: numpy only, no torch."""
