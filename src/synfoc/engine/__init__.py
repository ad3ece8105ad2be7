"""Training, evaluation and prediction: the only place with devices, clocks and checkpoints."""
