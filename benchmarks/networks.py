"""Seconds of one forward, and of forward + backward, per network, side and precision.

    python benchmarks/networks.py                      # U-Nets and LiteMedSAM, 112, 128 and 256 px
    python benchmarks/networks.py --sides 512 --networks vit-b
    python benchmarks/networks.py --compile            # each beside itself under torch.compile

A foundation model is timed as it is trained: LoRA of rank 4 and the mask decoder take gradients.
Weights are random: time does not depend on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from measure import parser, product_seconds, seconds_of, write
from synfoc.config import parse_config
from synfoc.engine.machine import Precision, autocast, choose_device, keep_freed_memory
from synfoc.models.build import build_networks


def main() -> None:
    arguments = parser(__doc__)
    names = ("unet-16", "unet-64", "litemedsam")
    arguments.add_argument("--networks", nargs="+", default=names, help="unet-WIDTH, vit-b, ...")
    arguments.add_argument("--sides", nargs="+", type=int, default=(112, 128, 256))
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--compile", action="store_true", help="also under torch.compile")
    given = arguments.parse_args()
    device = choose_device(given.device)
    keep_freed_memory(device)
    precisions = ("fp32", "bf16") if given.precision == "auto" else (given.precision,)
    rows = []
    print(f"{'network':<12}{'side':>6}{'precision':>11}{'forward':>10}{'+ backward':>12}")
    for name in given.networks:
        for side in given.sides:
            network = build(name, side).to(device)
            x = torch.rand(given.batch, 3, side, side, device=device)
            for precision in precisions:
                forward, both = measure(network, x, precision, given.repeats)
                row = {"network": name, "side": side, "precision": precision}
                row |= {"forward_s": forward, "forward_backward_s": both}
                line = f"{name:<12}{side:>6}{precision:>11}{forward:>10.4f}{both:>12.4f}"
                if given.compile:
                    row |= compiled(network, x, precision, given.repeats)
                    gain = both / row["compiled_forward_backward_s"]
                    line += f"   compiled x{gain:.2f}, {row['compile_s']:.0f} s to compile"
                rows.append(row)
                print(line)
    product = product_seconds("fp32", device)
    found = {"batch": given.batch, "device": device.type, "product_s": product, "rows": rows}
    write(found, given.out, f"networks-{device.type}", device)


def build(name: str, side: int) -> nn.Module:
    """One student; `unet-WIDTH` or the name of a foundation model."""
    kind, _, width = name.partition("-")
    only = "unet" if kind == "unet" else "medsam"
    settings = {
        "data": {"path": "."},
        "method": {"branches": only},
        "unet": {"side": side, "width": int(width) if only == "unet" else 16},
        "medsam": {"side": side, "weights": f"random:{name}"},
    }
    networks = build_networks(
        parse_config(settings), classes=2, channels=3, generator=torch.Generator().manual_seed(0)
    )
    network = networks["unet"].student if only == "unet" else networks["medsam"].student
    assert network is not None
    return network


def measure(
    network: Callable[[Tensor], Tensor], x: Tensor, precision: Precision, repeats: int
) -> tuple[float, float]:
    """Seconds of a forward without a graph, and of forward and backward."""

    def forward() -> Tensor:
        with autocast(x.device, precision):
            return network(x)

    def without_graph() -> None:
        with torch.no_grad():
            forward()

    def with_backward() -> None:
        forward().float().square().mean().backward()  # type: ignore[no-untyped-call]

    device = x.device
    return seconds_of(without_graph, device, repeats), seconds_of(with_backward, device, repeats)


def compiled(network: nn.Module, x: Tensor, precision: Precision, repeats: int) -> dict[str, float]:
    """The same network under torch.compile: seconds, and what compiling took before the first."""
    torch.compiler.reset()
    begin = time.perf_counter()
    faster: Callable[[Tensor], Tensor] = torch.compile(network)
    measure(faster, x, precision, 1)
    compiling = time.perf_counter() - begin
    forward, both = measure(faster, x, precision, repeats)
    return {
        "compiled_forward_s": forward,
        "compiled_forward_backward_s": both,
        "compile_s": compiling,
    }


if __name__ == "__main__":
    main()
