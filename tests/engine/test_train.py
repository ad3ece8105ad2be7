"""The loop: what a run leaves behind, resuming, stopping, bad losses, the single branches."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from synfoc import runs
from synfoc.config import Config, load_config
from synfoc.engine import checkpoint
from synfoc.engine import train as module
from synfoc.engine.checkpoint import load_run, network_state, read_progress
from synfoc.engine.evaluate import evaluate
from synfoc.engine.prepare import stored_config
from synfoc.engine.train import train
from synfoc.errors import Interrupted, UserError
from synfoc.methods.interface import Step
from synfoc.models.build import Networks
from synfoc.runs import RunFolder
from synfoc.storage import read_lines

Settings = Callable[..., Config]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def weights(run: Path, name: str = "last") -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / f"{name}.safetensors")


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def training_images(squares: Path, tmp_path: Path) -> Path:
    """A data set of the training images of one domain, all of them labeled."""
    only = tmp_path / "only"
    (only / "alpha").mkdir(parents=True)
    (only / "alpha/train").symlink_to(squares / "alpha/train")
    return only


def test_a_run_leaves_all_that_it_promises(settings: Settings, tmp_path: Path) -> None:
    folder = RunFolder(train(settings(), tmp_path / "run"))
    for path in (folder.config, folder.environment, folder.split, folder.summary, folder.base):
        assert path.is_file(), path
    assert load_config(folder.config).data.classes == ("class1",)
    lines = read_lines(folder.log)
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6]
    evaluations = [line for line in lines if line.get("kind") == "evaluation"]
    assert [line["step"] for line in evaluations] == [3, 6]
    assert 0 <= evaluations[0]["score"] <= 1
    summary = json.loads(folder.summary.read_text())
    assert summary["steps"] == 6
    assert summary["best_step"] in (3, 6)
    assert summary["recommended"] in ("unet", "medsam", "fused")


def test_every_file_of_a_run_is_in_the_schema(settings: Settings, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = settings("method.branches=unet", "train.steps=2", "train.tensorboard=true")
    run = train(config, tmp_path / "run")
    evaluate(run, device="cpu")
    folders = {path.name + "/" * path.is_dir() for path in run.iterdir()}
    assert {"tensorboard/", ".lock", "metrics.json"} <= folders
    assert [name for name in folders if f"\n    {name}" not in str(runs.__doc__)] == []


def test_two_runs_of_one_seed_are_bit_identical(settings: Settings, tmp_path: Path) -> None:
    one, other = (train(settings(), tmp_path / name) for name in ("one", "other"))
    assert_same(weights(one), weights(other))


def test_another_seed_gives_another_run(settings: Settings, tmp_path: Path) -> None:
    one = train(settings("train.steps=1"), tmp_path / "one")
    other = train(settings("train.steps=1", "train.seed=2"), tmp_path / "other")
    name = "unet.student/inc.double_conv.0.weight"
    assert not torch.equal(weights(one)[name], weights(other)[name])


@pytest.mark.parametrize("when", [1, 3, 5])
def test_a_resumed_run_equals_an_unbroken_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    """The power goes off in the middle of a step; checkpoints are written every 2 steps."""
    whole = train(settings(), tmp_path / "whole")
    learn = module.learn

    def power_cut(loss: Tensor, k: int, **rest: object) -> Tensor:
        if k == when:
            raise RuntimeError("power cut")
        return learn(loss, k, **rest)  # type: ignore[arg-type]

    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(module, "learn", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            train(settings(), broken)
    train(None, broken, resume=True)
    for name in ("last", "best"):
        assert_same(weights(broken, name), weights(whole, name))
    loss = [[line.get("loss") for line in read_lines(RunFolder(r).log)] for r in (whole, broken)]
    assert loss[0] == loss[1]


def test_ctrl_c_saves_and_tells_how_to_go_on(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = module.learn

    def interrupted(loss: Tensor, k: int, **rest: object) -> Tensor:
        finite = learn(loss, k, **rest)  # type: ignore[arg-type]
        if k == 2:
            signal.raise_signal(signal.SIGINT)
        return finite

    with monkeypatch.context() as patch:
        patch.setattr(module, "learn", interrupted)
        with pytest.raises(Interrupted, match="synfoc train --resume"):
            train(settings(), tmp_path / "run")
    train(None, tmp_path / "run", resume=True)
    assert_same(weights(tmp_path / "run"), weights(train(settings(), tmp_path / "whole")))


def test_ctrl_c_stops_the_last_look_at_once(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps are done and saved; what is left to say is said by --resume."""
    # A shell that starts tests in the background lets them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(
                module.Judge,
                "recommend",
                lambda judge, progress: signal.raise_signal(signal.SIGINT),
            )
            with pytest.raises(KeyboardInterrupt):
                train(settings(), tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)
    assert not (tmp_path / "run/summary.json").exists()
    train(None, tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run/summary.json").read_text())["steps"] == 6


def test_what_a_device_still_has_to_do_is_training_time_and_looking_up_is_not(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something is due after steps 2, 3, 4 and 6; the device is 10 s behind each time."""
    clock, evaluate = [0.0], module.Judge.evaluate

    def waiting(skips: module.Skips) -> int:
        clock[0] += 10
        return 0

    def slow(judge: module.Judge) -> tuple[dict[str, object], float]:
        clock[0] += 1000
        return evaluate(judge)

    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(module.Skips, "total", waiting)
    monkeypatch.setattr(module.Judge, "evaluate", slow)
    run = train(settings(), tmp_path / "run")
    spent = [x["seconds"] for x in read_lines(RunFolder(run).log) if "seconds" in x]
    assert spent == [10, 30, 40]
    assert json.loads((run / "summary.json").read_text())["seconds"] == 40


@pytest.mark.parametrize(
    ("config", "resume", "found"),
    [
        (None, False, "none"),
        ("base.yaml", False, "a str: base.yaml"),
        (Path("base.yaml"), True, "Path: base.yaml"),
        ({"data": {"path": "d"}}, False, "a dict: {'data': {'path': 'd'}}"),
    ],
)
def test_what_is_no_config_is_told(
    tmp_path: Path, config: object, resume: bool, found: str
) -> None:
    with pytest.raises(UserError, match="a run needs a config") as told:
        train(config, tmp_path / "run", resume=resume)
    assert told.value.found.endswith(found)
    assert "load_config" in told.value.fix
    assert not (tmp_path / "run").exists()


def test_resume_refuses_other_settings(settings: Settings, tmp_path: Path) -> None:
    run = train(settings("train.steps=2"), tmp_path / "run")
    with pytest.raises(UserError, match=r"train.steps = 9") as told:
        train(settings("train.steps=9"), run, resume=True)
    assert "expected  train.steps = 2" in str(told.value)


def test_a_run_goes_on_with_the_practical_settings_of_today(
    settings: Settings, tmp_path: Path
) -> None:
    """Activations computed again take less memory and change nothing of what is learned."""
    run = train(settings("train.steps=1"), tmp_path / "run")
    again = stored_config(RunFolder(run), settings("train.steps=1", "medsam.recompute=true"))
    assert again.medsam.recompute
    assert again.data.classes == load_config(run / "config.yaml").data.classes
    assert not stored_config(RunFolder(run), None).medsam.recompute


def test_resume_refuses_a_config_that_was_edited(settings: Settings, tmp_path: Path) -> None:
    run = train(settings("train.steps=2"), tmp_path / "run")
    config = run / "config.yaml"
    whole = config.read_text()
    config.write_text(whole.replace("steps: 2", "steps: 4"))
    with pytest.raises(UserError, match="differs from the run's last checkpoint") as told:
        train(None, run, resume=True)
    assert "found     train.steps = 4" in str(told.value)
    # How much of the data is kept in memory changes nothing of what is learned.
    config.write_text(whole.replace("cache_gib: 2.0", "cache_gib: 1.0"))
    train(None, run, resume=True)


def test_a_checkpoint_of_another_architecture_is_refused(
    settings: Settings, tmp_path: Path
) -> None:
    narrow = train(settings("train.steps=2"), tmp_path / "narrow")
    wide = train(settings("train.steps=2", "unet.width=6"), tmp_path / "wide")
    for name in ("best", "last"):
        file = f"checkpoints/{name}.safetensors"
        (narrow / file).write_bytes((wide / file).read_bytes())
    with pytest.raises(UserError, match="do not belong together"):
        load_run(narrow, device="cpu")
    with pytest.raises(UserError, match=r"unet.width = 4"):
        train(None, narrow, resume=True)


def test_a_torn_checkpoint_is_told(settings: Settings, tmp_path: Path) -> None:
    run = train(settings("train.steps=2"), tmp_path / "run")
    path = run / "checkpoints/last.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be gone on with"):
        train(None, run, resume=True)


def bad_losses(config: Config, bad: set[int]) -> Callable[..., Step]:
    """The method of a config, with a loss that is not a number at some steps."""
    honest = module.method_of(config)

    def method(f: object, b: object, k: int) -> Step:
        step = honest(f, b, k)  # type: ignore[arg-type]
        return Step(loss=step.loss * torch.nan, L_x_UT=step.loss * torch.nan) if k in bad else step

    return method


def test_a_bad_loss_is_skipped_and_counted(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = bad_losses(settings(), {1, 3})
    monkeypatch.setattr(module, "method_of", lambda config: method)
    run = train(settings(), tmp_path / "run")
    assert json.loads(RunFolder(run).summary.read_text())["skipped_steps"] == 2
    assert all(torch.isfinite(t).all() for t in weights(run).values() if t.is_floating_point())


def test_a_bad_loss_moves_no_student(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the very first step, where optimizers have no memory yet."""
    config = settings("train.steps=2", "train.evaluate_every=2", "train.checkpoint_every=2")
    method = bad_losses(config, {0, 1})
    begun = {}
    build = module.build_networks

    def remembered(*args: object, **rest: object) -> Networks:
        networks = build(*args, **rest)  # type: ignore[arg-type]
        state = network_state(networks)
        begun.update({k: v.clone() for k, v in state.items() if "student" in k})
        return networks

    monkeypatch.setattr(module, "method_of", lambda config: method)
    monkeypatch.setattr(module, "build_networks", remembered)
    with pytest.raises(UserError, match="not finite 2 times in a row"):
        train(config, tmp_path / "run")
    ended = weights(tmp_path / "run")
    moved = {k for k, v in begun.items() if not torch.equal(v, ended[k])}
    # Batch norms keep count of what they saw.
    assert all("running" in name or "num_batches" in name for name in moved)
    momentum = [v for k, v in ended.items() if k.startswith("optimizer.unet")]
    assert momentum and not any(v.any() for v in momentum)


def test_twenty_bad_losses_in_a_row_end_the_run(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings("train.steps=30", "method.branches=unet")
    method = bad_losses(config, set(range(30)))
    monkeypatch.setattr(module, "method_of", lambda config: method)
    with pytest.raises(UserError, match="20 times in a row, last at step 20") as told:
        train(config, tmp_path / "run")
    assert "L_x_UT = nan" in str(told.value)


@pytest.mark.parametrize("branches", ["unet", "medsam"])
@pytest.mark.parametrize("name", ["synfoc", "supervised"])
def test_each_branch_trains_alone(
    settings: Settings, tmp_path: Path, branches: str, name: str
) -> None:
    changes = (f"method.branches={branches}", f"method.name={name}", "train.steps=2")
    run = train(settings(*changes), tmp_path / "run")
    prefixes = {key.split(".")[0] for key in weights(run) if not key.startswith("optimizer")}
    assert prefixes == {branches}
    assert json.loads(RunFolder(run).summary.read_text())["recommended"] == branches


@pytest.mark.parametrize(
    "change",
    [
        *(f"method.fusion={f}" for f in ("constant", "linear", "self", "mutual", "cps", "own")),
        "method.consistency=mse",
        "method.consistency=none",
        "train.schedule=cosine",
        "train.precision=bf16",
        "train.rule=paper",
        "train.rule=last",
        "train.keep=1",
        "train.tensorboard=true",
    ],
)
def test_every_option_trains(settings: Settings, tmp_path: Path, change: str) -> None:
    run = train(settings("train.steps=2", "train.evaluate_every=2", change), tmp_path / "run")
    assert (run / "checkpoints/best.safetensors").is_file()


def test_no_unlabeled_image_trains_supervised_and_says_so(
    settings: Settings, squares: Path, tmp_path: Path
) -> None:
    only = training_images(squares, tmp_path)
    config = settings(f"data.path={only}", "data.labeled={}", "data.test_fraction=0")
    run = train(config, tmp_path / "run")
    assert load_config(run / "config.yaml").method.name == "supervised"
    notices = json.loads((run / "environment.json").read_text())["notices"]
    assert any("no unlabeled image" in notice for notice in notices)


def test_a_run_that_became_supervised_goes_on_with_the_config_it_was_given(
    settings: Settings, squares: Path, tmp_path: Path
) -> None:
    """As a cell of a suite does that was killed; another method is refused all the same."""
    only = training_images(squares, tmp_path)
    given = settings(f"data.path={only}", "data.labeled={}", "data.test_fraction=0")
    run = train(given, tmp_path / "run")
    assert train(given, run, resume=True) == run
    with pytest.raises(UserError, match="begun with other settings"):
        train(settings(f"data.path={only}", "data.labeled={}"), run, resume=True)


def test_watching_a_test_set_needs_one(settings: Settings, squares: Path, tmp_path: Path) -> None:
    only = training_images(squares, tmp_path)
    for change in ("train.rule=paper", "train.watch_test=true"):
        config = settings(f"data.path={only}", "data.test_fraction=0", change)
        with pytest.raises(UserError, match="no test image with a label"):
            train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_best_step_is_that_of_the_file(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was saved, then the power went off; going on, that step no longer is the best."""
    scores = iter([0.5, 0.9, 0.4])

    def evaluate(judge: module.Judge) -> tuple[dict[str, float], float]:
        return {}, next(scores)

    def cut(journal: module.Journal, name: str, *rest: object) -> None:
        save(journal, name, *rest)
        if name == "best" and rest[0].step == 4:  # type: ignore[attr-defined]
            raise RuntimeError("power cut")

    save = module.Journal.save
    monkeypatch.setattr(module.Judge, "evaluate", evaluate)
    monkeypatch.setattr(module.Journal, "save", cut)
    config = settings("train.evaluate_every=2", "train.checkpoint_every=3", "train.steps=4")
    with pytest.raises(RuntimeError, match="power cut"):
        train(config, tmp_path / "run")
    monkeypatch.setattr(module.Journal, "save", save)
    train(None, tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run/summary.json").read_text())["best_step"] == 4


def test_the_newest_checkpoints_are_kept_by_number(tmp_path: Path) -> None:
    """step_1000000 is newer than step_999500, though it sorts before it."""
    folder = RunFolder.create(tmp_path / "run")
    for step in (999_000, 999_500, 1_000_000):
        (folder.checkpoints / f"step_{step:06d}.safetensors").touch()
    module.Journal.forget(SimpleNamespace(writes=True, folder=folder), 2)  # type: ignore[arg-type]
    kept = sorted(path.stem for path in folder.checkpoints.iterdir())
    assert kept == ["step_1000000", "step_999500"]


@pytest.mark.parametrize("keep", [1, 2, 3, 5])
def test_as_many_checkpoints_are_kept_as_asked(tmp_path: Path, keep: int) -> None:
    """Also while there are fewer of them."""
    folder = RunFolder.create(tmp_path / "run")
    for step in range(1, 8):
        (folder.checkpoints / f"step_{step:06d}.safetensors").touch()
        module.Journal.forget(SimpleNamespace(writes=True, folder=folder), keep)  # type: ignore[arg-type]
        assert len(list(folder.checkpoints.iterdir())) == min(step, keep)


def test_only_the_last_checkpoint_holds_optimizers(settings: Settings, tmp_path: Path) -> None:
    run = train(settings("train.keep=1"), tmp_path / "run")
    kept = {p.stem: any(k.startswith("optimizer") for k in load_file(p)) for p in
            (run / "checkpoints").iterdir()}  # fmt: skip
    assert kept == {"last": True, "best": False, "step_000006": False}


def test_activations_are_computed_again_where_memory_would_not_do_unseen(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    cost = module.estimate_step

    def costly(networks: Networks, *rest: object) -> object:
        seen.append(networks)
        return replace(cost(networks, *rest), memory_gib=1e6)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "estimate_step", costly)
    train(settings("train.steps=1"), tmp_path / "unseen")
    assert seen[-1]["medsam"].student is not None and seen[-1]["medsam"].student.recompute
    seen.clear()
    train(settings("train.steps=1", "medsam.recompute=false"), tmp_path / "decided")
    assert seen == []


def test_a_run_that_ends_in_bad_losses_has_not_succeeded(
    settings: Settings, tmp_path: Path
) -> None:
    """Six steps are fewer than the twenty that stop a run; all is saved, nothing recommended."""
    config = settings("method.branches=unet", "unet.lr=1e99")
    with pytest.raises(UserError, match=r"the loss was not finite .* last at step 6"):
        train(config, tmp_path / "run")
    assert (tmp_path / "run/checkpoints/last.safetensors").is_file()
    assert not (tmp_path / "run/summary.json").exists()


def test_patients_on_both_sides_and_classes_in_no_label_are_told(
    settings: Settings, squares: Path, tmp_path: Path
) -> None:
    folder = squares / "alpha/train"
    rows = [
        f"{folder}/image/{p.name},{folder}/mask/{p.name},p{k // 2},{'test' if k == 1 else 'train'}"
        for k, p in enumerate(sorted((folder / "image").iterdir())[:6])
    ]
    table = tmp_path / "set.csv"
    table.write_text("image,label,patient,split\n" + "\n".join(rows))
    change = (f"data.path={table}", "data.labeled={count: 2}", "data.classes=[square, moon]")
    run = train(settings(*change, "train.steps=1"), tmp_path / "run")
    notices = json.loads((run / "environment.json").read_text())["notices"]
    assert any("1 patients are in training and in test, e.g. p0" in note for note in notices)
    assert any("moon: in no label" in note for note in notices)


def test_test_images_that_were_trained_on_are_told(
    settings: Settings, squares: Path, tmp_path: Path
) -> None:
    shutil.copytree(squares, tmp_path / "set")
    source = sorted((tmp_path / "set/alpha/train/image").iterdir())[0]
    target = sorted((tmp_path / "set/beta/test/image").iterdir())[0]
    shutil.copy(source, target)
    run = train(settings(f"data.path={tmp_path / 'set'}", "train.steps=1"), tmp_path / "run")
    notices = json.loads((run / "environment.json").read_text())["notices"]
    told = f"1 test images are equal to training images, e.g. beta/test/{target.stem}"
    assert any(told in notice for notice in notices), notices


def test_a_run_follows_its_data(settings: Settings, squares: Path, tmp_path: Path) -> None:
    """The folder of the data is stored whole; moved data are found by an edited config.yaml."""
    shutil.copytree(squares, tmp_path / "here")
    config = settings("data.path=here")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        run = train(config, tmp_path / "run")
    finally:
        os.chdir(before)
    assert load_config(run / "config.yaml").data.path == tmp_path / "here"
    (tmp_path / "here").rename(tmp_path / "there")
    with pytest.raises(UserError, match=r"data.path in its config.yaml"):
        train(None, run, resume=True)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace(f"{tmp_path}/here", f"{tmp_path}/there"))
    assert train(None, run, resume=True) == run
    assert evaluate(run, device="cpu")["cases"] > 0


def test_a_run_without_its_last_checkpoint_says_what_is_left_to_do(
    settings: Settings, tmp_path: Path
) -> None:
    run = train(settings("train.steps=1"), tmp_path / "run")
    last = run / "checkpoints/last.safetensors"
    last.write_bytes(last.read_bytes()[:100])
    with pytest.raises(UserError, match="no other one holds the optimizers"):
        train(None, run, resume=True)


def test_images_of_one_scanner_alone_are_trained_on_and_told(
    settings: Settings, squares: Path, tmp_path: Path
) -> None:
    only = tmp_path / "only"
    only.mkdir()
    (only / "alpha").symlink_to(squares / "alpha")
    run = train(settings(f"data.path={only}", "train.steps=2"), tmp_path / "run")
    notices = json.loads((run / "environment.json").read_text())["notices"]
    assert any("of one domain (alpha)" in notice for notice in notices)


def test_monitored_pseudo_labels_are_scored(settings: Settings, tmp_path: Path) -> None:
    run = train(settings("data.monitor=true", "train.steps=3"), tmp_path / "run")
    line = next(x for x in read_lines(RunFolder(run).log) if x.get("kind") == "evaluation")
    assert set(line["pseudo_dice"]) == {"unet", "medsam", "fused"}


def test_a_folder_in_use_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        train(settings(), tmp_path / "run")
    assert (tmp_path / "run/thesis.tex").read_text() == "precious"


ALONE = ("method.name=supervised", "method.branches=unet", "train.steps=4")


def broken_at(
    when: int, config: Config, out: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Train until something happens in the middle of step `when`, counted from 0."""
    learn = module.learn

    def cut(loss: Tensor, k: int, **rest: object) -> Tensor:
        if k == when:
            raise error
        return learn(loss, k, **rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "learn", cut)
        with pytest.raises(type(error)):
            train(config, out)


def test_steps_that_were_skipped_are_counted_over_a_power_cut(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first loss is no number; the power goes off in step 4, and all goes well from there."""
    config = settings(*ALONE)
    with monkeypatch.context() as patch:
        method = bad_losses(config, {0})
        patch.setattr(module, "method_of", lambda config: method)
        broken_at(3, config, tmp_path / "run", monkeypatch, RuntimeError("power cut"))
    train(None, tmp_path / "run", resume=True)
    assert json.loads(RunFolder(tmp_path / "run").summary.read_text())["skipped_steps"] == 1


def test_ctrl_c_saves_the_very_step_that_it_names(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved would be every 100 steps; nothing of the two that were done is lost."""
    learn = module.learn

    def interrupted(loss: Tensor, k: int, **rest: object) -> Tensor:
        if k == 1:
            signal.raise_signal(signal.SIGINT)
        return learn(loss, k, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "learn", interrupted)
    with pytest.raises(Interrupted, match="stopped at step 2"):
        train(settings(*ALONE, "train.checkpoint_every=100"), tmp_path / "run")
    assert read_progress(tmp_path / "run/checkpoints/last.safetensors").step == 2


def test_the_networks_of_the_best_step_are_the_ones_that_are_recommended(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 1 was the best of four, so that calibration and advice are of its weights."""
    scores, seen = iter([0.9, 0.4, 0.3, 0.2]), []
    recommend = module.Judge.recommend

    def remember(judge: module.Judge, progress: object) -> object:
        unet = judge.segmenter.networks["unet"].student
        assert unet is not None
        seen.append({f"unet.student/{k}": v.clone() for k, v in unet.state_dict().items()})
        return recommend(judge, progress)

    monkeypatch.setattr(module.Judge, "evaluate", lambda judge: ({}, next(scores)))
    monkeypatch.setattr(module.Judge, "recommend", remember)
    run = train(settings(*ALONE, "train.evaluate_every=1"), tmp_path / "run")
    assert json.loads((run / "summary.json").read_text())["best_step"] == 1
    assert_same(seen[0], weights(run, "best"))
    name = "unet.student/inc.double_conv.0.weight"
    assert not torch.equal(seen[0][name], weights(run, "last")[name])


def test_a_full_disk_leaves_the_checkpoint_before(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of that of step 4 is written: that of step 2 is whole, and the run goes on from it."""
    write, written = checkpoint.save_file, []

    def full(tensors: object, path: Path, **rest: object) -> None:
        written.extend(["last"] * ("last" in path.name))
        if len(written) == 3:  # after those of the steps 0 and 2
            path.write_bytes(b"half")
            raise RuntimeError("I/O error: No space left on device (os error 28)")
        write(tensors, path, **rest)  # type: ignore[arg-type]

    config = settings(*ALONE, "train.evaluate_every=4")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(UserError, match="no space left"):
            train(config, tmp_path / "run")
    last = tmp_path / "run/checkpoints/last.safetensors"
    assert read_progress(last).step == 2
    kept = sorted(path.name for path in last.parent.iterdir())
    assert kept == ["best.safetensors", "last.safetensors"]
    train(None, tmp_path / "run", resume=True)
    assert read_progress(last).step == 4


@pytest.mark.parametrize("wanted", [True, False])
def test_activations_are_computed_again_where_that_is_set(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    built: list[Networks] = []
    build = module.build_networks
    monkeypatch.setattr(
        module, "build_networks", lambda *a, **k: built.append(build(*a, **k)) or built[0]
    )
    changes = ("method.name=supervised", "method.branches=medsam", "train.steps=1")
    train(settings(*changes, f"medsam.recompute={str(wanted).lower()}"), tmp_path / "run")
    assert built[0]["medsam"].student is not None
    assert built[0]["medsam"].student.recompute is wanted
