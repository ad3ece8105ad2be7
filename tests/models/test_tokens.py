"""Class tokens that start from the one token which MedSAM's training used."""

import torch

from synfoc.models.tokens import SCALE, from_object_token

TOKENS = "mask_decoder.mask_tokens.weight"
LAST = "mask_decoder.output_hypernetworks_mlps.{}.layers.2.weight"


def decoder(classes: int) -> dict[str, torch.Tensor]:
    """Token 0 is all ones and halves, MLP 0 has weight 10 in its last layer; the rest is zero."""
    tensors = {TOKENS: torch.zeros(classes, 4)}
    tensors[TOKENS][0] = torch.tensor([1.0, 0.5, 1.0, 0.5])
    for k in range(classes):
        tensors[LAST.format(k)] = torch.full((2, 4), 10.0 if k == 0 else 0.0)
    return tensors


def test_the_background_is_the_opposite_of_every_class() -> None:
    """A last layer of 10 becomes 10 / 20 = 0.5 for classes 1 and 2, and -0.5 for the background."""
    found = from_object_token(decoder(3), decoder(4), torch.Generator().manual_seed(0))
    assert SCALE == 1 / 20
    assert [found[LAST.format(k)][0, 0].item() for k in range(3)] == [-0.5, 0.5, 0.5]


def test_classes_start_near_the_trained_token_but_not_alike() -> None:
    tokens = from_object_token(decoder(3), decoder(4), torch.Generator().manual_seed(0))[TOKENS]
    trained = decoder(4)[TOKENS][0]
    assert tokens.shape == (3, 4)
    assert (tokens - trained).abs().max() < 0.2
    assert not torch.equal(tokens[1], tokens[2])


def test_random_weights_have_no_trained_token() -> None:
    random = decoder(3)
    found = from_object_token(random, {}, torch.Generator().manual_seed(0))
    assert all(torch.equal(found[name], random[name]) for name in random)
