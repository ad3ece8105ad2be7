"""The one network that a baseline trains, with the batch at its sides.

The baselines know one student and one teacher. Their pages are written for either network; what
differs is only the sides, so this module picks them and the pages do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor

from synfoc.batches.batch import Batch
from synfoc.methods.interface import Dropping, Models, Network, Step, missing_network
from synfoc.methods.maps import nearest


@dataclass(frozen=True)
class OneNetwork:
    """Student f (f_drop: with dropped features), teacher f_hat, and what they see.

    Images are of side s, label maps of side l.

    For the U-Net s = l = P; for the foundation model s = S and l = L.
    """

    name: Literal["UT", "MS"]
    f: Network
    f_hat: Network
    f_drop: Dropping
    X_w: Float[Tensor, "B c s s"]
    Y_w: Int[Tensor, "B l l"]
    U_w: Float[Tensor, "B c s s"]
    U_s: Float[Tensor, "B c s s"]
    M_s: Bool[Tensor, "B s s"]
    M_l: Bool[Tensor, "B l l"]

    def step(self, loss: Tensor, *, L_x: Tensor, L_u: Tensor, trusted: Tensor) -> Step:
        """Return the numbers of a step, logged under this network's name."""
        if self.name == "UT":
            return Step(loss=loss, L_x_UT=L_x, L_u_UT=L_u, trusted=trusted)
        return Step(loss=loss, L_x_MS=L_x, L_u_MS=L_u, trusted=trusted)


def only_network(f: Models, b: Batch) -> OneNetwork:
    """Return the network that is there, with its half of the batch.

    Raises:
        ValueError: both networks are there, or none.
    """
    if (f.UT is missing_network) == (f.MS is missing_network):
        raise ValueError("this method trains exactly one network")
    if f.MS is missing_network:
        unet = f.UT, f.UT_hat, f.UT_drop
        return OneNetwork("UT", *unet, b.X_w_UT, b.Y_w_UT, b.U_w_UT, b.U_s_UT, b.M, b.M)
    medsam = f.MS, f.MS_hat, f.MS_drop
    M_s, M_l = nearest(b.M, b.X_w_MS.shape[-1]), nearest(b.M, b.Y_w_MS.shape[-1])
    return OneNetwork("MS", *medsam, b.X_w_MS, b.Y_w_MS, b.U_w_MS, b.U_s_MS, M_s, M_l)
