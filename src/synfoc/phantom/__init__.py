"""A multi-scanner data set made from a seed: simulated heart MRI, with labels; no torch."""
