"""Cases become batches: splits, augmented views, a resumable stream."""
