"""Evaluation: protocols, sizes, files written, cases left out; with networks that threshold."""

import csv
import json
import math
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers.fakes import Fake, networks_of
from synfoc import runs
from synfoc.batches.batch import Sides
from synfoc.batches.split import Split, load_split, save_split
from synfoc.config import Data, parse_config
from synfoc.engine import cases_to_score
from synfoc.engine import evaluate as module
from synfoc.engine.estimate import Calibration
from synfoc.engine.evaluate import evaluate
from synfoc.engine.inference import Segmenter
from synfoc.engine.score_cases import evaluate_networks, score_cases
from synfoc.errors import UserError
from synfoc.images.cases import load_cases
from synfoc.runs import RunFolder

UNET, MEDSAM = ("unet", "student"), ("medsam", "student")


class Bright(Fake):
    """Class 1 where the image is brighter than a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        z = 4 * torch.sign(x.mean(1, keepdim=True) - self.threshold)
        return torch.cat([torch.zeros_like(z), z], 1)


def segmenter(side: int = 16) -> Segmenter:
    """A U-Net that sees all above 0.25 and a MedSAM that sees all above 0.75."""
    unet, medsam = Bright(0.25), Bright(0.75)
    networks = networks_of(
        Sides(side, side, side), unet=unet, unet_teacher=unet, medsam=medsam, medsam_teacher=medsam
    )
    return Segmenter(networks, classes=1)


def pair(
    root: Path, domain: str, name: str, image: np.ndarray, label: np.ndarray | None, split: str
) -> None:
    for kind, values in (("image", image), ("mask", label)):
        folder = root / domain / split / kind
        folder.mkdir(parents=True, exist_ok=True)
        if values is not None:
            Image.fromarray(values.astype(np.uint8)).save(folder / f"{name}.png")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two domains. The label is the right half; in B half of it is too dim for MedSAM."""
    root = tmp_path / "data set"
    label = np.zeros((16, 16))
    label[:, 8:] = 1
    dim = label * 255
    dim[:, 8:12] = 128
    for split in ("train", "test"):
        for i in range(3):
            pair(root, "A", f"{split}{i}", label * 255, label, split)
        pair(root, "B", f"{split}b", dim, label, split)
    pair(root, "B", "unlabeled", dim, None, "test")
    return root


@pytest.fixture
def run(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder with a config and a summary; loading gives the thresholding networks."""
    config = parse_config({"data": {"path": str(data), "classes": ["organ"], "channels": 1}})
    folder = RunFolder.create(tmp_path / "run")
    folder.config.write_text(config.to_yaml())
    folder.summary.write_text('{"recommended": "unet"}')
    table = load_cases(config.data)
    split = Split(
        labeled=tuple(c for c in table.cases if c.split == "train" and c.domain == "A"),
        unlabeled=(),
        test=tuple(c for c in table.cases if c.split == "test"),
    )
    save_split(folder.split, split, table)
    loaded = SimpleNamespace(
        networks=segmenter().networks, config=config, classes=("organ",), channels=1, step=7,
        device=torch.device("cpu"), precision="fp32",
    )  # fmt: skip
    monkeypatch.setattr(module, "load_run", lambda run, **_: loaded)
    return folder.path


def test_metrics_json_by_hand(run: Path) -> None:
    """U-Net is right everywhere. MedSAM finds half of B: Dice 2 * 64 / (64 + 128) = 2/3.

    Its mean over domains is (1 + 2/3) / 2. One test case has no label and is counted.
    """
    found = evaluate(run)
    unet = found["branches"]["unet"]["student"]
    medsam = found["branches"]["medsam"]["teacher"]
    assert unet["mean_over_domains"]["dice"] == 1 and unet["mean_over_domains"]["hd95"] == 0
    assert medsam["domains"]["A"]["dice"] == 1
    assert medsam["domains"]["B"]["dice"] == pytest.approx(2 / 3)
    assert medsam["domains"]["B"]["classes"]["organ"]["jaccard"] == pytest.approx(1 / 2)
    assert medsam["mean_over_domains"]["dice"] == pytest.approx(5 / 6)
    assert list(found["branches"]) == ["unet", "medsam", "fused"]
    told = {k: found[k] for k in ("protocol", "rule", "step", "unit", "cases", "recommended")}
    assert told == {
        "protocol": "honest", "rule": "honest", "step": 7, "unit": "px", "cases": 4,
        "recommended": "unet",
    }  # fmt: skip
    assert found["skipped_without_label"] == 1
    assert (
        json.loads((run / "metrics.json").read_text())["branches"]["unet"]["student"]["domains"][
            "A"
        ]["cases"]
        == 3
    )


def test_every_key_of_metrics_json_is_in_the_schema(run: Path) -> None:
    schema = str(runs.__doc__).partition("metrics.json")[2]
    assert [key for key in evaluate(run) if not re.search(rf"\b{key}\b", schema)] == []


def test_cases_csv_has_a_row_per_case_class_branch_and_role(run: Path) -> None:
    evaluate(run)
    with (run / "evaluation" / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 1 * 3 * 2
    (one,) = [r for r in rows if r["domain"] == "B" and (r["branch"], r["role"]) == MEDSAM]
    assert list(one) == [
        "case", "patient", "domain", "class", "branch", "role", "dice", "jaccard", "hd95", "asd",
        "unit", "empty",
    ]  # fmt: skip
    assert (one["class"], float(one["dice"]), one["unit"]) == ("organ", 0.666667, "px")


def test_examples_are_the_best_median_and_worst_of_each_domain(run: Path) -> None:
    evaluate(run)
    examples, _ = RunFolder(run).read_examples()
    assert [(e.domain, e.kind) for e in examples] == [
        ("A", "best"), ("A", "median"), ("A", "worst"), ("B", "median"),
    ]  # fmt: skip
    b = examples[-1]
    assert b.image.shape == (16, 16) and b.image.max() == 255
    assert {branch: int(mask.sum()) for branch, mask in b.masks.items()} == {
        "unet": 128, "medsam": 64, "fused": int(b.masks["fused"].sum()),
    }  # fmt: skip
    assert b.dice["medsam"] == pytest.approx(2 / 3)


def test_branches_can_be_chosen_and_must_exist(run: Path) -> None:
    assert list(evaluate(run, branches=["medsam"])["branches"]) == ["medsam"]
    loaded = module.load_run(run)
    loaded.networks = replace(loaded.networks, branches=(loaded.networks["medsam"],))
    with pytest.raises(UserError, match="cannot answer as fused"):
        evaluate(run, branches=["fused"])


@pytest.mark.parametrize(
    ("branches", "found"),
    [([], "an empty list"), (["unet_teacher"], "unet_teacher"), ("best", "best"), ([1], "1")],
)
def test_branches_that_there_are_not_lose_nothing(run: Path, branches: object, found: str) -> None:
    """They are refused before anything is read, and what was written stays."""
    evaluate(run)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match="no such branch") as told:
        evaluate(run, branches=branches)
    assert told.value.found == found
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert list(evaluate(run, branches="unet")["branches"]) == ["unet"]


def test_a_protocol_that_there_is_not_is_told_before_anything_is_read(run: Path) -> None:
    with pytest.raises(UserError, match="no such protocol") as told:
        evaluate(run / "nowhere", protocol="Honest")
    assert (told.value.found, told.value.expected) == ("'Honest'", "honest, paper")


def test_an_evaluation_that_fails_late_loses_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is scored, and the networks fail at the last example of the report."""
    evaluate(run)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    asked: list[object] = []
    segment = Segmenter.segment

    def failing(self: Segmenter, *given: object, **named: object) -> object:
        asked.append(given)
        if len(asked) == 4:
            raise RuntimeError("out of memory")
        return segment(self, *given, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "segment", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            evaluate(run, branches=["medsam"])
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_examples_of_an_earlier_evaluation_are_replaced(run: Path, data: Path) -> None:
    """Domain B by itself has one labeled test image."""
    evaluate(run)
    evaluate(run, data=data / "B")
    shown = [(e.domain, e.kind) for e in RunFolder(run).read_examples()[0]]
    assert shown == [(None, "median")]


def test_a_case_that_cannot_be_read_is_listed_and_the_others_are_scored(
    run: Path, data: Path
) -> None:
    """Its label is cut in half; 3 of the 4 labeled test cases are left."""
    label = data / "A" / "test" / "mask" / "test1.png"
    label.write_bytes(label.read_bytes()[:45])
    found = evaluate(run)
    assert found["cases"] == 3
    (lost,) = found["unreadable"]
    assert lost["case"] == "A/test/test1"
    assert lost["why"].startswith(f"cannot read mask {label}: damaged or cut short")
    assert json.loads((run / "metrics.json").read_text())["unreadable"] == [lost]


def test_other_data_never_scores_what_was_learned(run: Path, data: Path, tmp_path: Path) -> None:
    """A CSV without split holds the labeled images of A too: only the rest is scored."""
    table = tmp_path / "other.csv"
    lines = ["image,label,domain"]
    for image in sorted(data.rglob("train/image/*.png")):
        mask = image.parent.parent / "mask" / image.name
        lines.append(f"{image},{mask},here")
    table.write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="3 images are not scored: they, or other images of"):
        found = evaluate(run, data=table)
    assert found["cases"] == 1
    assert found["data"] == str(table)


def test_labeled_images_are_known_at_another_place(run: Path, data: Path, tmp_path: Path) -> None:
    """Copied and named anew they are still what the run was trained with."""
    copy = tmp_path / "elsewhere"
    for number, image in enumerate(sorted(data.glob("A/train/image/*.png"))):
        for kind in ("image", "mask"):
            (copy / kind).mkdir(parents=True, exist_ok=True)
            source = image.parent.parent / kind / image.name
            shutil.copyfile(source, copy / kind / f"{number}.png")
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(copy / "image" / "0.png")
    with pytest.warns(UserWarning, match="labeled in training"):
        found = evaluate(run, data=copy)
    assert found["cases"] == 1, "the one that is another image now"


@pytest.mark.parametrize(
    ("domain", "told"),
    [
        ("A", "of A sub-01 only the names are known: if these are other patients, name another"),
        (None, r"names of labeled ones \(sub-01\), since no image shows them to be the same"),
    ],
)
def test_patients_known_by_name_alone_are_named_with_the_remedy(
    run: Path, tmp_path: Path, domain: str | None, told: str
) -> None:
    """The labeled patient and a new one are both sub-01: with a domain the same, else another."""
    split = RunFolder(run).split
    known = json.loads(split.read_text())
    for entry in known["labeled"]:
        entry |= {"domain": domain, "patient": "sub-01"}
    split.write_text(json.dumps(known))
    for number in (1, 2):
        folder = tmp_path / "hospital"
        for kind, name in (("image", "T1.png"), ("mask", "T1_seg.png")):
            pixels = np.full((16, 16), number if kind == "image" else 1, np.uint8)
            (folder / f"sub-0{number}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"sub-0{number}" / name)
    if domain:
        lines = [f"sub-0{k}/T1.png,sub-0{k}/T1_seg.png,{domain},sub-0{k}" for k in (1, 2)]
        (folder / "cases.csv").write_text("\n".join(["image,label,domain,patient", *lines]))
    with pytest.warns(UserWarning, match=told):
        found = evaluate(run, data=folder)
    assert found["cases"] == (1 if domain else 2)


def test_images_that_trained_without_label_are_told(run: Path, tmp_path: Path) -> None:
    """They are scored, but the networks know them."""
    split = RunFolder(run).split
    known = json.loads(split.read_text())
    moved = known["labeled"][0]
    known["unlabeled"] += known["labeled"]
    split.write_text(json.dumps(known | {"labeled": []}))
    (tmp_path / "new" / "image").mkdir(parents=True)
    (tmp_path / "new" / "mask").mkdir()
    image = Path(known["root"]) / moved["image"]
    shutil.copyfile(image, tmp_path / "new/image/7.png")
    shutil.copyfile(image.parent.parent / "mask" / image.name, tmp_path / "new/mask/7.png")
    with pytest.warns(UserWarning, match="1 of 1 images were in training without their label"):
        found = evaluate(run, data=tmp_path / "new")
    assert found["seen_in_training"] == 1


def recoded(root: Path, code: int) -> Path:
    """One new image in a folder of its own, whose organ has this code."""
    image, label = np.zeros((16, 16)), np.zeros((16, 16))
    image[:, 8:], label[:, 8:] = 250, code
    pair(root, "C", "new", image, label, "test")
    return root


def test_other_data_may_have_other_codes(run: Path, tmp_path: Path) -> None:
    """The organ is 1 in the run and 7 in the other data; the advice is what then scores it."""
    other = recoded(tmp_path / "other", 7)
    before = RunFolder(run).config.read_text()
    with pytest.raises(UserError, match="does not fit the classes") as caught:
        evaluate(run, data=other)
    assert caught.value.fix.startswith("add --set 'data.remap={7: 1}'")
    found = evaluate(run, data=other, changes=["data.remap={7: 1}"])
    assert found["branches"]["unet"]["student"]["mean_over_domains"]["dice"] == 1
    assert RunFolder(run).config.read_text() == before


def test_other_data_may_be_class_indices_where_the_run_has_codes(run: Path, tmp_path: Path) -> None:
    """A run whose 1 is background finds the organ 1 of other data only without that rule."""
    config = module.load_run(run).config
    told = config.data.model_copy(update={"remap": {1: 0, 2: 1}})
    module.load_run(run).config = config.model_copy(update={"data": told})
    other = recoded(tmp_path / "other", 1)
    found = evaluate(run, data=other, changes=["data.remap=null"])
    assert found["changes"] == ["data.remap=null"]
    assert found["branches"]["unet"]["student"]["mean_over_domains"]["dice"] == 1


def test_other_data_may_have_labels_in_colors(run: Path, tmp_path: Path) -> None:
    """The organ is red there; the advice is what then scores it, and the run stays as it is."""
    other = recoded(tmp_path / "other", 1)
    before = RunFolder(run).config.read_text()
    mask = next(other.rglob("mask/*.png"))
    organ = np.asarray(Image.open(mask)) * np.uint8(255)
    Image.fromarray(np.dstack([organ, organ * 0, organ * 0])).save(mask)
    with pytest.raises(UserError, match="the label map is in colors") as caught:
        evaluate(run, data=other)
    change = 'data.colors={"#ff0000": 1}'
    assert caught.value.fix.startswith(f"add --set '{change}'")
    found = evaluate(run, data=other, changes=[change])
    assert found["branches"]["unet"]["student"]["mean_over_domains"]["dice"] == 1
    assert RunFolder(run).config.read_text() == before


def test_only_the_codes_of_other_data_can_be_set(run: Path, data: Path) -> None:
    for other, change, found in (
        (None, "data.remap={7: 1}", "no other data"),
        (data, "data.nested=true", "a setting of the run"),
    ):
        with pytest.raises(UserError, match="cannot evaluate with --set") as caught:
            evaluate(run, data=other, changes=[change])
        assert caught.value.found == found


@pytest.mark.filterwarnings("ignore:.*in training")  # images here are equal
def test_other_data_keep_the_codes_of_a_published_set(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prostate run: 0 is the organ, 255 is not, also in a folder of another layout."""
    for mask in data.rglob("test/mask/*.png"):
        Image.fromarray(255 - 255 * np.array(Image.open(mask))).save(mask)
    config = module.load_run(run).config
    told = config.data.model_copy(update={"set": "prostate"})
    module.load_run(run).config = config.model_copy(update={"data": told})
    found = evaluate(run, data=data)
    assert found["branches"]["unet"]["student"]["mean_over_domains"]["dice"] == 1


@pytest.mark.filterwarnings("ignore:.*in training")  # images here are equal
@pytest.mark.parametrize("listed", [False, True])
def test_other_data_of_class_indices_are_not_taken_for_published_ones(
    run: Path, data: Path, listed: bool
) -> None:
    """A run of the prostate set, published or imported; 1 is the organ, in folders and a CSV."""
    config = module.load_run(run).config
    told = config.data.model_copy(update={"set": "prostate"})
    module.load_run(run).config = config.model_copy(update={"data": told})
    if listed:
        images = sorted(data.rglob("test/image/*[0-9b].png"))
        lines = [f"{path},{path.parent.parent / 'mask' / path.name},test" for path in images]
        (data / "cases.csv").write_text("\n".join(["image,label,split", *lines]))
    found = evaluate(run, data=data)
    assert found["branches"]["unet"]["student"]["mean_over_domains"]["dice"] == 1


def test_no_labeled_test_case_is_an_error(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tuple(replace(case, labels=()) for case in load_split(RunFolder(run).split).test)
    monkeypatch.setattr(cases_to_score, "load_split", lambda path, **_: Split((), (), bare))
    with pytest.raises(UserError, match="no test case has a label"):
        evaluate(run)
    monkeypatch.setattr(cases_to_score, "load_split", lambda path, **_: Split((), (), ()))
    with pytest.raises(UserError, match="no test case"):
        evaluate(run)


def calibrated(run: Path, *, step: int = 7) -> None:
    """The U-Net's expected Dice is believed; of MedSAM's every loss counts twice."""
    answers = {"student": asdict(Calibration(0, 1, 0))}
    twice = {"student": asdict(Calibration(-1, 2, 0))}
    summary = {"recommended": "unet", "best_step": step}
    summary["calibration"] = {"unet": answers, "medsam": twice}
    RunFolder(run).summary.write_text(json.dumps(summary))


def test_dice_is_estimated_for_every_test_case(run: Path) -> None:
    """p = 1 / (1 + e^-4). The U-Net's masks are half the image: expected Dice p, believed.

    MedSAM finds 64 of 256 pixels in B: 2 * 64 p / (64 + 64 p + 192 (1 - p)), and the loss counts
    twice. B has 2 test cases, one without a label; teachers were not calibrated.
    """
    calibrated(run)
    found = evaluate(run)
    p = 1 / (1 + math.exp(-4))
    branches = found["estimate"]["branches"]
    assert list(branches) == ["unet", "medsam"] and list(branches["unet"]) == ["student"]
    assert branches["unet"]["student"]["mean_over_domains"]["dice"] == pytest.approx(p, abs=1e-6)
    in_b = branches["medsam"]["student"]["domains"]["B"]
    small = 128 * p / (64 + 64 * p + 192 * (1 - p))
    assert in_b["cases"] == 2
    assert in_b["dice"] == pytest.approx(1 - 2 * (1 - small), abs=1e-6)
    assert found["estimate"]["cases"] == 5 and found["cases"] == 4
    with RunFolder(run).estimates.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 2 and rows[0]["estimated_dice"] == "0.9820"


def test_images_without_any_label_are_still_estimated(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibrated(run)
    bare = tuple(replace(case, labels=()) for case in load_split(RunFolder(run).split).test)
    monkeypatch.setattr(cases_to_score, "load_split", lambda path, **_: Split((), (), bare))
    found = evaluate(run)
    assert found["branches"] == {} and found["cases"] == 0
    assert found["estimate"]["cases"] == 5
    assert RunFolder(run).read_examples() == ([], [])


def test_another_step_has_no_estimate(run: Path) -> None:
    calibrated(run, step=6)
    assert evaluate(run)["estimate"] is None


def test_a_volume_is_scored_in_mm_as_one_case(tmp_path: Path) -> None:
    """MedSAM misses one of two slices of 8 mm: Dice 2 * 64 / (64 + 128), HD95 in mm."""
    root = tmp_path / "set"
    voxels = np.zeros((16, 16, 4), np.float32)
    voxels[4:12, 4:12, 1] = 1
    voxels[4:12, 4:12, 2] = 0.5
    affine = np.diag([1.0, 1.0, 8.0, 1.0])
    for kind, values in (("image", voxels), ("mask", (voxels > 0).astype(np.uint8))):
        folder = root / "A" / "test" / kind
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(values, affine), folder / "v.nii.gz")
    table = load_cases(Data(path=root, classes=("organ",)))
    sure = {MEDSAM: Calibration(0, 1, 0)}
    found, estimates = score_cases(
        segmenter(), table, table.cases, [UNET, MEDSAM], classes=["organ"], calibration=sure
    )
    assert [(r.case, r.unit) for r in found] == [(table.cases[0].id, "mm")] * 2
    assert found[0].scores.dice == 1
    assert found[1].scores.dice == pytest.approx(2 / 3)
    assert found[1].scores.hd95 == 8
    # Of 4 * 256 pixels 64 are in the mask; the slices' sums make one Dice.
    p = 1 / (1 + math.exp(-4))
    expected = 128 * p / (64 + 64 * p + 960 * (1 - p))
    assert [e.case for e in estimates] == [found[0].case]
    assert estimates[0].dice == pytest.approx(expected, abs=1e-6)
    paper, estimates = score_cases(
        segmenter(), table, table.cases, [MEDSAM], classes=["organ"], protocol="paper",
        calibration=sure,
    )  # fmt: skip
    assert [e.dice > 0 for e in estimates] == [False, True, False, False]
    assert [r.case[-2:] for r in paper] == [":0", ":1", ":2", ":3"]
    assert [r.scores.dice for r in paper] == [1, 1, 0, 1]
    assert paper[2].scores.hd95 == 100 and paper[0].unit == "px"


def test_a_class_that_no_label_shows_is_not_scored(tmp_path: Path) -> None:
    """Two classes, of which the labels show one; not drawing the other would score 1 everywhere."""
    image, label = np.zeros((16, 16)), np.zeros((16, 16))
    image[:, 8:], label[:, 8:12] = 255, 1
    pair(tmp_path / "set", "A", "x", image, label, "test")
    table = load_cases(Data(path=tmp_path / "set", classes=("organ", "tumor")))
    two = replace(segmenter(), classes=2)
    with pytest.warns(UserWarning, match="tumor: in none of the labels"):
        found = evaluate_networks(two, table, table.cases, [UNET])
    assert found["classes"] == ["organ"]
    scores = found["branches"]["unet"]["student"]["mean_over_domains"]
    assert scores["dice"] == pytest.approx(2 * 64 / (128 + 64))
    # Its estimate is of the same class: 1/2 of the organ that is drawn, and nothing of the tumor.
    trusting = {UNET: Calibration(0.5, 0, 0, empty=0.1)}
    with pytest.warns(UserWarning, match="tumor: in none of the labels"):
        _, [estimate] = score_cases(
            two, table, table.cases, [UNET], classes=("organ", "tumor"), calibration=trusting
        )
    assert (estimate.parts, estimate.dice) == ((0.5,), 0.5)


def test_the_paper_protocol_scores_at_the_side_of_the_unet(tmp_path: Path) -> None:
    """A 32 x 16 image at P = 16: of a label 8 rows longer than the prediction 4 px remain."""
    image = np.zeros((32, 16))
    image[:16] = 255
    label = np.zeros((32, 16))
    label[:24] = 1
    pair(tmp_path / "set", "A", "x", image, label, "test")
    table = load_cases(Data(path=tmp_path / "set", classes=("organ",)))

    def distance(protocol: str) -> float:
        (row,), _ = score_cases(
            segmenter(), table, table.cases, [UNET], classes=["organ"], protocol=protocol
        )
        return row.scores.hd95

    assert 7 <= distance("honest") <= 8
    assert 3 <= distance("paper") <= 4


def test_networks_in_memory_pass_over_cases_without_label(data: Path) -> None:
    table = load_cases(Data(path=data, classes=("organ",)))
    found = evaluate_networks(segmenter(), table, table.cases, [UNET])
    assert found["cases"] == 8
    assert list(found["branches"]) == ["unet"]


def test_a_run_of_the_papers_rule_is_scored_by_the_papers_protocol(run: Path) -> None:
    config = module.load_run(run).config
    train = config.train.model_copy(update={"rule": "paper"})
    module.load_run(run).config = config.model_copy(update={"train": train})
    assert evaluate(run)["protocol"] == "paper"
    assert evaluate(run, protocol="honest")["protocol"] == "honest"


def test_a_checkpoint_that_is_named_is_of_no_rule(run: Path) -> None:
    """Which one is the best was not asked."""
    RunFolder(run).summary.write_text('{"recommended": "medsam", "recommended_role": "teacher"}')
    told = evaluate(run, checkpoint="last")
    assert (told["checkpoint"], told["rule"]) == ("last", "last")
    assert (told["recommended"], told["recommended_role"]) == ("medsam", "teacher")
    RunFolder(run).summary.write_text("{}")
    told = evaluate(run)
    assert (told["recommended"], told["recommended_role"]) == (None, None)


def test_slices_of_one_patient_stand_under_its_name(tmp_path: Path) -> None:
    """Two images of patient7; one whose patient nobody knows stands for itself."""
    half = np.zeros((16, 16))
    half[:, 8:] = 1
    for name in ("patient7_s1", "patient7_s2", "x"):
        pair(tmp_path / "set", "A", name, half * 255, half, "test")
    table = load_cases(Data(path=tmp_path / "set", classes=("organ",)))
    rows, _ = score_cases(segmenter(), table, table.cases, [UNET], classes=["organ"])
    assert [row.patient for row in rows] == ["patient7", "patient7", "A/test/x"]
