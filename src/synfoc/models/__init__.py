"""Networks: images in, logits out."""
