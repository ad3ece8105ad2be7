"""The one network of a baseline: its sides, its regions, and what is refused."""

import pytest
import torch

from helpers.small import OTHER, make_case, numbers, tensors
from synfoc.methods.interface import Models
from synfoc.methods.one_network import only_network


def test_each_network_gets_its_own_sides() -> None:
    """S = 32, L = 8, P = 16: regions by nearest sampling, every fourth or every second pixel."""
    nets, batch = make_case(1, 2, OTHER)
    b = tensors(batch)
    unet = only_network(Models(UT=nets["UT"], UT_hat=nets["UT_hat"]), b)
    assert (unet.f, unet.f_hat) == (nets["UT"], nets["UT_hat"])
    assert unet.X_w is b.X_w_UT
    assert unet.Y_w is b.Y_w_UT
    assert unet.M_s is b.M
    assert unet.M_l is b.M

    medsam = only_network(Models(MS=nets["MS"], MS_hat=nets["MS_hat"]), b)
    assert (medsam.f, medsam.f_hat) == (nets["MS"], nets["MS_hat"])
    assert medsam.U_w is b.U_w_MS
    assert medsam.U_s is b.U_s_MS
    assert medsam.Y_w is b.Y_w_MS
    assert torch.equal(medsam.M_s[:, ::2, ::2], b.M)
    assert torch.equal(medsam.M_l, b.M[:, ::2, ::2])


def test_numbers_are_logged_under_the_network_s_name() -> None:
    nets, batch = make_case(1, 2, OTHER)
    one, two, three, four = (torch.tensor(float(i)) for i in range(1, 5))
    step = only_network(Models(UT=nets["UT"]), tensors(batch)).step(
        one, L_x=two, L_u=three, trusted=four
    )
    assert numbers(step) == {"loss": 1, "L_x_UT": 2, "L_u_UT": 3, "trusted": 4}
    step = only_network(Models(MS=nets["MS"]), tensors(batch)).step(
        one, L_x=two, L_u=three, trusted=four
    )
    assert numbers(step) == {"loss": 1, "L_x_MS": 2, "L_u_MS": 3, "trusted": 4}


def test_two_networks_or_none_are_refused() -> None:
    nets, batch = make_case(1, 2, OTHER)
    for f in (Models(), Models(UT=nets["UT"], MS=nets["MS"])):
        with pytest.raises(ValueError, match="exactly one network"):
            only_network(f, tensors(batch))
