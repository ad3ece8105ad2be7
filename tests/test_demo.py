"""The demo says in one file what it does; its run itself is `make demo`."""

from pathlib import Path

import pytest
from rich.console import Console

from synfoc.config import load_config, parse_config
from synfoc.demo import run_demo, settings_of, steps_within
from synfoc.errors import UserError

CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"


def test_the_config_of_the_demo_is_what_the_demo_trains() -> None:
    ours = parse_config(settings_of(Path("data/phantom"), device="auto", seed=1)["synfoc"])
    assert load_config(CONFIG) == ours


def test_both_runs_see_the_same_labels() -> None:
    first, second = settings_of(Path("d"), device="auto", seed=1).values()
    assert first["data"] == second["data"]
    assert first["train"] == second["train"]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    for out in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(UserError, match="in the way"):
            run_demo(out, console=Console(quiet=True))
    assert (tmp_path / "thesis.tex").read_text() == "precious"


@pytest.mark.parametrize(
    ("seconds", "steps"), [(0.9, 200), (1.3, 200), (1.31, 190), (2.5, 100), (30.0, 50)]
)
def test_a_slow_machine_takes_fewer_steps(seconds: float, steps: int) -> None:
    """260 s hold 200 steps of 1.3 s, 104 of 2.5 s; below 50 steps nothing would be learned."""
    assert steps_within(260, seconds) == steps


def test_a_slow_machine_shortens_synfoc_alone() -> None:
    """The U-Net beside it must not look worse than it is."""
    ours, alone = settings_of(Path("d"), device="cpu", seed=1, steps=60).values()
    assert (ours["train"]["steps"], alone["train"]["steps"]) == (60, 200)
