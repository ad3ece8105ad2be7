"""synfoc: a foundation model and a U-Net segment medical images with few labels.

    config = synfoc.load_config(Path("configs/fundus.yaml"))
    run = synfoc.train(config, Path("runs/fundus"))
    scores = synfoc.evaluate(run)
    rows = synfoc.predict(run, [Path("new_images")], out=Path("masks"))
    page = synfoc.write_report(run / "report.html", [run])

The method is one page: `synfoc.methods.synfoc.synfoc_step`. Nothing heavy is imported before it is
asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from synfoc.errors import UserError

if TYPE_CHECKING:
    from synfoc.config import Config as Config
    from synfoc.config import load_config as load_config
    from synfoc.engine.checkpoint import load_run as load_run
    from synfoc.engine.evaluate import evaluate as evaluate
    from synfoc.engine.predict import predict as predict
    from synfoc.engine.train import train as train
    from synfoc.methods.synfoc import synfoc_step as synfoc_step
    from synfoc.report.page import write_report as write_report

_HEAVY = {
    "Config": "synfoc.config",
    "evaluate": "synfoc.engine.evaluate",
    "load_config": "synfoc.config",
    "load_run": "synfoc.engine.checkpoint",
    "predict": "synfoc.engine.predict",
    "synfoc_step": "synfoc.methods.synfoc",
    "train": "synfoc.engine.train",
    "write_report": "synfoc.report.page",
}

__all__ = ["UserError", *_HEAVY]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(import_module(_HEAVY[name]), name)
    raise AttributeError(f"module 'synfoc' has no attribute {name!r}")
