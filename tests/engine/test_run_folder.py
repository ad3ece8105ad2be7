"""A run folder with real (random) networks: evaluate and predict read what training wrote."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from synfoc.batches.split import make_split, save_split
from synfoc.config import parse_config
from synfoc.engine import machine
from synfoc.engine.checkpoint import Progress, load_run, save_checkpoint
from synfoc.engine.evaluate import evaluate
from synfoc.engine.predict import predict
from synfoc.images.cases import load_cases
from synfoc.models.build import build_networks, save_base
from synfoc.runs import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, a color image among gray ones, a U-Net of width 4 and a tiny SAM."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for i in range(2):
            for kind in ("image", "mask"):
                (root / "A" / split / kind).mkdir(parents=True, exist_ok=True)
            shape = (40, 36, 3) if i else (40, 36)
            image = random.integers(0, 256, shape, np.uint8)
            label = random.integers(0, 3, (40, 36), np.uint8)
            Image.fromarray(image).save(root / "A" / split / "image" / f"{i}.png")
            Image.fromarray(label).save(root / "A" / split / "mask" / f"{i}.png")
    config = parse_config(
        {
            "data": {"path": str(root), "classes": ["cup", "disc"], "nested": True, "channels": 3},
            "unet": {"side": 32, "width": 4},
            "medsam": {"weights": "random:vit-tiny", "side": 32},
        }
    )
    folder = RunFolder.create(tmp_path_factory.mktemp("runs") / "run")
    folder.config.write_text(config.to_yaml())
    table = load_cases(config.data)
    save_split(folder.split, make_split(table, config.data), table)
    generator = torch.Generator().manual_seed(0)
    networks = build_networks(config, classes=2, channels=3, generator=generator)
    save_base(networks, folder.base)
    save_checkpoint(folder.checkpoints / "best.safetensors", networks, {}, Progress(3), config)
    return folder.path


def test_a_run_is_evaluated_from_its_folder_alone(run: Path) -> None:
    found = evaluate(run, device="cpu")
    assert (found["step"], found["cases"], found["recommended"]) == (3, 2, None)
    for branch in ("unet", "medsam", "fused"):
        # Before the first step teachers are copies of their students.
        roles = found["branches"][branch]
        assert roles["student"] == roles["teacher"]
        assert 0 <= roles["student"]["domains"]["A"]["classes"]["disc"]["dice"] <= 1
    assert len(RunFolder(run).read_cases()) == 2 * 2 * 3 * 2
    assert len(RunFolder(run).read_examples()[0]) == 2


def test_its_masks_score_as_evaluate_says(run: Path, tmp_path: Path) -> None:
    """The Dice of the disc, counted from the files that predict writes."""
    found = evaluate(run, branches=["fused"], device="cpu")
    told = found["branches"]["fused"]["student"]["domains"]["A"]["classes"]["disc"]["dice"]
    data = Path(found["data"]) / "A" / "test"
    rows = predict(run, [data / "image"], out=tmp_path / "out", branch="fused", device="cpu")
    dice = []
    for row in rows:
        mask = np.array(Image.open(tmp_path / "out" / row.mask)) > 0
        label = np.array(Image.open(data / "mask" / row.mask)) > 0
        dice.append(2 * (mask & label).sum() / (mask.sum() + label.sum()))
        assert mask.shape == (40, 36)
        assert row.confidence is not None and 0 <= row.confidence <= 1
    assert np.mean(dice) == pytest.approx(told)


def test_python_may_name_a_checkpoint_and_a_role(run: Path, tmp_path: Path) -> None:
    """At step 5 the student calls everything disc, its teacher everything cup."""
    here = tmp_path / "run"
    shutil.copytree(run, here)
    loaded = load_run(here, device="cpu")
    for unet, certain in (
        (loaded.networks["unet"].student, 2),
        (loaded.networks["unet"].teacher, 1),
    ):
        assert unet is not None
        torch.nn.init.zeros_(unet.outc.conv.weight)
        unet.outc.conv.bias.data = 9.0 * torch.eye(3)[certain]
    later = RunFolder(here).checkpoints / "step_000005.safetensors"
    save_checkpoint(later, loaded.networks, {}, Progress(5), loaded.config)
    image = sorted(Path(loaded.config.data.path).rglob("test/image/*.png"))[0]
    drawn = {}
    for role in ("student", "teacher"):
        out = tmp_path / role
        predict(
            here, image, out=out, branch="unet", role=role, checkpoint="step_000005", device="cpu"
        )
        drawn[role] = set(np.unique(np.array(Image.open(out / image.name))))
    assert drawn == {"student": {2}, "teacher": {1}}
    predict(here, image, out=tmp_path / "best", branch="unet", device="cpu")
    assert set(np.unique(np.array(Image.open(tmp_path / "best" / image.name)))) != {2}


def test_a_checkpoint_of_an_earlier_version_still_loads(run: Path, tmp_path: Path) -> None:
    """It wrote one score on the test set where there is one per network now."""
    here = tmp_path / "run"
    shutil.copytree(run, here)
    loaded = load_run(here, device="cpu")
    progress = Progress(4)
    vars(progress)["test_score"] = 0.5
    best = RunFolder(here).checkpoints / "best.safetensors"
    save_checkpoint(best, loaded.networks, {}, progress, loaded.config)
    assert load_run(here, device="cpu").step == 4


@pytest.mark.parametrize(("trained", "loaded"), [("fp32", "fp32"), ("fp16", "fp32")])
def test_a_run_answers_in_the_precision_it_was_trained_in(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: str, loaded: str
) -> None:
    """Unless the device has none: a CPU multiplies no fp16, nor this one bf16."""
    shutil.copytree(run, tmp_path / "run")
    config = RunFolder(tmp_path / "run").config
    config.write_text(config.read_text().replace("precision: auto", f"precision: {trained}"))
    monkeypatch.setattr(machine, "_native_bf16", lambda device: trained == "fp32")
    assert load_run(tmp_path / "run", device="cpu").precision == loaded
