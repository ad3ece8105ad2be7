"""Seconds of one forward, and of forward + backward, per network, side and precision.

    python benchmarks/networks.py                      # all networks, 112, 128 and 256 px, batch 4
    python benchmarks/networks.py --sides 512 --networks vit-b --out results.json

A foundation model is timed as it is trained: LoRA of rank 4 and the mask decoder take gradients.
Weights are random: time does not depend on them. The best of `--repeats` runs counts.
"""

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from synfoc.config import parse_config
from synfoc.models.build import build_networks

NETWORKS = ("unet-16", "unet-64", "litemedsam")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    args = _arguments()
    device = torch.device(args.device)
    torch.set_num_threads(args.threads)
    rows = []
    print(f"{'network':<12}{'side':>6}{'precision':>11}{'forward':>10}{'+ backward':>12}")
    for name in args.networks:
        for side in args.sides:
            network = _network(name, side, device)
            x = torch.rand(args.batch, 3, side, side, device=device)
            for precision in args.precisions:
                row = _time(network, x, PRECISIONS[precision], args.repeats)
                rows.append({"network": name, "side": side, "precision": precision} | row)
                times = f"{row['forward_s']:>10.4f}{row['forward_backward_s']:>12.4f}"
                print(f"{name:<12}{side:>6}{precision:>11}{times}", flush=True)
    report = {"environment": _environment(device), "batch": args.batch, "rows": rows}
    print(json.dumps(report) if args.out is None else f"-> {args.out}")
    if args.out is not None:
        args.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, help="unet-WIDTH or random:NAME")
    parser.add_argument("--sides", nargs="+", type=int, default=(112, 128, 256))
    parser.add_argument("--precisions", nargs="+", default=tuple(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="JSON file; default: print it")
    return parser.parse_args()


def _network(name: str, side: int, device: torch.device) -> nn.Module:
    kind, _, width = name.partition("-")
    only = "unet" if kind == "unet" else "medsam"
    settings = {
        "data": {"path": "."},
        "method": {"branches": only},
        "unet": {"side": side, "width": int(width) if only == "unet" else 16},
        "medsam": {"side": side, "weights": f"random:{name}"},
    }
    networks = build_networks(
        parse_config(settings), classes=3, channels=3, generator=torch.Generator().manual_seed(0)
    )
    network = networks.unet if only == "unet" else networks.medsam
    assert network is not None
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _time(network: nn.Module, x: Tensor, dtype: torch.dtype, repeats: int) -> dict[str, float]:
    def forward() -> Tensor:
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            logits: Tensor = network(x)
        return logits

    def forward_only() -> None:
        with torch.no_grad():
            forward()

    def forward_backward() -> None:
        forward().float().square().mean().backward()  # type: ignore[no-untyped-call]

    return {
        "forward_s": _best(forward_only, x.device, repeats),
        "forward_backward_s": _best(forward_backward, x.device, repeats),
    }


def _best(work: Callable[[], None], device: torch.device, repeats: int) -> float:
    seconds = []
    for _ in range(repeats + 1):  # the first one only warms up
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def _environment(device: torch.device) -> dict[str, str | int]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "commit": commit,
        "device": gpu or platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
