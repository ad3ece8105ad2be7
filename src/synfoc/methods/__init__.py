"""One paper, one page; tensors in, tensors out."""
