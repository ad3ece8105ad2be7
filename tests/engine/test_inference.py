"""Inference: which networks are asked, what `fused` is, sizes, agreement; with tiny networks."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.fakes import KEYS, Fake, networks_of
from synfoc.batches.batch import Sides
from synfoc.engine import inference as module
from synfoc.engine.inference import Segmenter
from synfoc.errors import UserError
from synfoc.models.build import Networks

SIDES = Sides(medsam=32, logits=8, unet=16)
ALL = [(b, r) for b in ("unet", "medsam", "fused") for r in ("student", "teacher")]


class Bright(Fake):
    """Says class 1 with this probability where the image is brighter than a threshold."""

    def __init__(self, threshold: float, certainty: float = 0.9, answer: int = 0) -> None:
        super().__init__()
        self.threshold, self.answer, self.calls = threshold, answer, 0
        self.logit = float(np.log(certainty / (1 - certainty)))

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        self.calls += 1
        if self.answer:
            x = nn.functional.adaptive_avg_pool2d(x, self.answer)
        z = torch.where(x.mean(1, keepdim=True) > self.threshold, self.logit, -self.logit)
        return torch.cat([torch.zeros_like(z), z], 1)


def fakes_of(**others: Bright | None) -> Networks:
    """Four networks that are right, but for those that are named."""
    fakes: dict[str, Bright | None] = {key: Bright(0.5, answer=8 * ("m" in key)) for key in KEYS}
    return networks_of(SIDES, **fakes | others)


def asked(networks: Networks) -> list[int]:
    """How often each of the four was asked."""
    return [network.calls for network in networks.by_name().values()]  # type: ignore[misc]


def half_bright(n: int = 3, h: int = 32, w: int = 32, c: int = 1) -> np.ndarray:
    images = np.zeros((n, h, w, c), np.float32)
    images[:, :, : w // 2] = 1
    return images


@pytest.mark.parametrize(
    ("wanted", "calls"),
    [
        ([("unet", "student")], [1, 0, 0, 0]),
        ([("medsam", "student")], [0, 0, 1, 0]),
        ([("fused", "teacher")], [1, 1, 0, 1]),
        ([("fused", "student")], [1, 1, 1, 1]),
        (ALL, [1, 1, 1, 1]),
    ],
)
def test_only_needed_networks_run(wanted: list[tuple[str, str]], calls: list[int]) -> None:
    fakes = fakes_of()
    Segmenter(fakes, classes=1).segment(half_bright(), wanted)
    assert asked(fakes) == calls


def test_answers_have_the_size_of_the_image() -> None:
    """The bright left half of 40 x 60 pixels is found at that size by every answer."""
    images = half_bright(2, 40, 60)
    got = Segmenter(fakes_of(), classes=1).segment(images, ALL)
    for answer in ALL:
        assert got.labels[answer].dtype == np.uint8
        assert (got.labels[answer] == images[..., 0]).all()


def test_batches_of_slices_change_nothing() -> None:
    images = np.random.default_rng(0).random((7, 20, 24, 1), np.float32)
    together = Segmenter(fakes_of(), classes=1, batch=7).segment(images, ALL, probabilities=True)
    apart = Segmenter(fakes_of(), classes=1, batch=2).segment(images, ALL, probabilities=True)
    for answer in ALL:
        np.testing.assert_array_equal(together.labels[answer], apart.labels[answer])
        np.testing.assert_allclose(
            together.probabilities[answer], apart.probabilities[answer], atol=1e-6
        )
    assert together.probabilities["fused", "student"].shape == (2, 7, 20, 24)


def test_fused_by_hand() -> None:
    """U-Net student and teacher agree, phi_self = 1; MedSAM finds 32 of the U-Net's 64 pixels.

    At L = 8 the U-Net says everything (64 pixels), MedSAM the left half (32):
    phi_mut = (2 * 32 + 1) / (64 + 32 + 1.001) = .6701 = alpha. On the right, where the U-Net says
    .9 and MedSAM .1: p = .6701 * .9 + .3299 * .1 = .6361, so the fused answer is class 1.
    """
    fakes = fakes_of(unet=Bright(-1.0), unet_teacher=Bright(-1.0))
    segmenter = Segmenter(fakes, classes=1)
    P = segmenter.probabilities(half_bright(1), [("fused", "student")])["fused", "student"]
    assert P.shape == (1, 2, 16, 16)
    assert P[0, 1, 8, 15].item() == pytest.approx(0.6361, abs=1e-4)
    assert P[0, 1, 8, 0].item() == pytest.approx(0.9, abs=1e-4)
    assert P.sum(1).allclose(torch.ones(1, 16, 16))


def test_agreement_is_the_dice_of_the_branches() -> None:
    """The map of 64 pixels against its half, as above: .6701 in each slice and in the whole.

    In the whole stack of 3: (2 * 96 + 1) / (192 + 96 + 1.001) = .6678.
    """
    fakes = fakes_of(unet=Bright(-1.0), unet_teacher=Bright(-1.0))
    got = Segmenter(fakes, classes=1).segment(
        half_bright(3), [("unet", "student")], agreement="student"
    )
    assert got.agreement == pytest.approx([0.6701] * 3, abs=1e-4)
    assert got.agreement_whole == pytest.approx(0.6678, abs=1e-4)
    assert got.certainty["unet", "student"] == pytest.approx([0.9] * 3, abs=1e-4)
    assert asked(fakes) == [1, 0, 1, 0]


def test_one_branch_compares_student_and_teacher() -> None:
    fakes = fakes_of(medsam=None, medsam_teacher=None)
    segmenter = Segmenter(fakes, classes=1)
    got = segmenter.segment(half_bright(), [("unet", "student")], agreement="student")
    assert got.agreement == pytest.approx([1] * 3, abs=1e-4)
    assert segmenter.answers() == (("unet", "student"), ("unet", "teacher"))


def test_one_network_has_no_agreement() -> None:
    fakes = fakes_of(medsam=None, medsam_teacher=None, unet_teacher=None)
    got = Segmenter(fakes, classes=1).segment(
        half_bright(), [("unet", "student")], agreement="student"
    )
    assert got.agreement is None and got.agreement_whole is None


def test_a_missing_branch_is_named() -> None:
    fakes = fakes_of(medsam=None, medsam_teacher=None)
    with pytest.raises(UserError, match="cannot answer as fused student") as error:
        Segmenter(fakes, classes=1).segment(half_bright(), [("fused", "student")])
    assert "unet student, unet teacher" in error.value.found


@pytest.mark.parametrize(
    "answer", [("unet", "pupil"), ("unet_teacher", "student"), ("sides", "student"), ("sam", "x")]
)
def test_a_branch_or_role_that_there_is_not_is_no_answer(answer: tuple[str, str]) -> None:
    """Not that of the teacher, nor that of whatever else the networks have by this name."""
    segmenter = Segmenter(fakes_of(), classes=1)
    with pytest.raises(UserError, match=f"cannot answer as {' '.join(answer)}"):
        segmenter.segment(half_bright(), [answer])
    with pytest.raises(UserError, match="cannot answer as"):
        segmenter.probabilities(half_bright(), [("unet", "student"), answer])
    with pytest.raises(UserError, match="cannot be compared") as error:
        segmenter.segment(half_bright(), [("unet", "student")], agreement=answer[1] + "s")
    assert error.value.expected == "student or teacher"


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (np.zeros((2, 1, 32, 32), np.float32), r"float32 \(2, 1, 32, 32\)"),  # channels first
        (np.zeros((2, 32, 32, 2), np.float32), r"float32 \(2, 32, 32, 2\)"),
        (np.zeros((32, 32), np.float32), r"float32 \(32, 32\)"),
        (np.zeros((0, 32, 32, 1), np.float32), r"float32 \(0, 32, 32, 1\)"),
        (np.zeros((2, 32, 32, 1), np.uint8), "uint8"),
        (np.zeros((2, 32, 32, 1)), "float64"),
    ],
)
def test_images_of_another_form_are_refused(images: np.ndarray, told: str) -> None:
    segmenter, wanted = Segmenter(fakes_of(), classes=1), [("unet", "student")]
    with pytest.raises(ValueError, match=rf"c = 1 or 3, not {told}"):
        segmenter.segment(images, wanted)
    with pytest.raises(ValueError, match="c = 1 or 3"):
        segmenter.probabilities(images, wanted)


def test_an_answer_is_a_pair() -> None:
    with pytest.raises(UserError, match="cannot answer as unet\n"):
        Segmenter(fakes_of(), classes=1).segment(half_bright(), ("unet", "student"))


def test_networks_go_back_to_training() -> None:
    """Also after an error: training goes on in the mode in which it was."""
    fakes = fakes_of(medsam=Bright(0.5, answer=8).eval())
    Segmenter(fakes, classes=1).segment(half_bright(), ALL)
    assert fakes["unet"].student.training and fakes["medsam"].teacher.training
    assert not fakes["medsam"].student.training


def test_color_images_fit_a_gray_run_and_the_other_way_round() -> None:
    for c, channels in ((3, 1), (1, 3)):
        got = Segmenter(fakes_of(), classes=1, channels=channels).segment(
            half_bright(c=c), [("unet", "student")]
        )
        assert (got.labels["unet", "student"] == half_bright()[..., 0]).all()


def test_low_precision_answers_in_float32() -> None:
    segmenter = Segmenter(fakes_of(), classes=1, precision="bf16")
    P = segmenter.probabilities(half_bright(), ALL)
    assert all(p.dtype == torch.float32 for p in P.values())


def test_stacks_of_any_size_share_forwards_and_are_answered_as_alone() -> None:
    """1 + 3 + 2 slices in forwards of 2: a forward holds slices of two stacks."""
    stacks = [half_bright(1, 20, 30), half_bright(3, 40, 16), 1 - half_bright(2, 9, 50)]
    fakes = fakes_of()
    segmenter = Segmenter(fakes, classes=1, batch=2)
    wanted = [("unet", "student"), ("medsam", "student")]
    together = segmenter.segment_all(stacks, wanted, agreement="student", probabilities=True)
    assert asked(fakes) == [3, 0, 3, 0]
    for stack, ours in zip(stacks, together, strict=True):
        alone = Segmenter(fakes_of(), classes=1).segment(
            stack, wanted, agreement="student", probabilities=True
        )
        for answer in wanted:
            assert ours.labels[answer].shape == stack.shape[:3]
            np.testing.assert_array_equal(ours.labels[answer], alone.labels[answer])
            np.testing.assert_allclose(ours.probabilities[answer], alone.probabilities[answer])
            np.testing.assert_allclose(ours.certainty[answer], alone.certainty[answer])
        np.testing.assert_allclose(ours.agreement, alone.agreement)
        assert ours.agreement_whole == pytest.approx(alone.agreement_whole)


def test_slices_at_the_original_size_come_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time where there is room for no more: as all together."""
    images = np.random.default_rng(0).random((3, 20, 24, 1), np.float32)
    together = Segmenter(fakes_of(), classes=1).segment(images, ALL, probabilities=True)
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 1)
    apart = Segmenter(fakes_of(), classes=1).segment(images, ALL, probabilities=True)
    for answer in ALL:
        np.testing.assert_array_equal(apart.labels[answer], together.labels[answer])
        np.testing.assert_allclose(
            apart.probabilities[answer], together.probabilities[answer], atol=1e-6
        )


class Says(Fake):
    """The same class everywhere, with a probability of .9, the two others .05."""

    def __init__(self, chosen: int, answer: int) -> None:
        super().__init__()
        self.chosen, self.answer = chosen, answer

    def forward(self, x: Tensor) -> Tensor:
        z = torch.zeros(len(x), 3, self.answer, self.answer)
        z[:, self.chosen] = float(np.log(0.9 / 0.05))
        return z


def test_fused_nested_classes_by_hand() -> None:
    """The U-Net calls all of it cup, MedSAM all of it rim: at L = 8 of 64 pixels.

    Cup 1 / (64 + 1.001), disc 129 / 129.001: phi_mut = alpha = .5077, and 1 / 65.001 as rim and cup
    apart. Cup: .05 + .85 alpha.
    """
    cup, rim = Says(1, 16), Says(2, 8)
    fakes = fakes_of(unet=cup, unet_teacher=cup, medsam=rim, medsam_teacher=rim)
    for nested, alpha in ((True, (1 / 65.001 + 129 / 129.001) / 2), (False, 1 / 65.001)):
        segmenter = Segmenter(fakes, classes=2, nested=nested)
        P = segmenter.probabilities(half_bright(1), [("fused", "student")])["fused", "student"]
        assert P[0, 1].flatten().tolist() == pytest.approx([0.05 + 0.85 * alpha] * 256, abs=1e-5)


@pytest.mark.parametrize(("precision", "low"), [("fp32", False), ("bf16", True)])
def test_networks_are_asked_in_the_precision_of_the_run(precision: str, low: bool) -> None:
    seen = []

    class Curious(Bright):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x)

    segmenter = Segmenter(fakes_of(unet=Curious(0.5)), classes=1, precision=precision)
    segmenter.probabilities(half_bright(1), [("unet", "student")])
    assert seen == [low]


def test_a_teacher_that_its_student_does_not_follow_is_believed_less() -> None:
    """The U-Net's teacher and MedSAM find the left half, 128 of 256 and 32 of 64 pixels.

    Its student calls all of it class 1: phi_self = 257 / 385.001, phi_mut = 65 / 65.001. MedSAM is
    sure by .7: on the left .7 + .2 alpha.
    """
    fakes = fakes_of(unet=Bright(-1.0), medsam_teacher=Bright(0.5, 0.7, answer=8))
    P = Segmenter(fakes, classes=1).probabilities(half_bright(1), [("fused", "teacher")])
    alpha = 257 / 385.001 * 65 / 65.001
    assert P["fused", "teacher"][0, 1, 8, 0].item() == pytest.approx(0.7 + 0.2 * alpha, abs=1e-5)
