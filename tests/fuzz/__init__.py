"""Mutated input of every kind, fed to the real command line: see run.py."""
