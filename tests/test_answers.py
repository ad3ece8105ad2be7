"""Who answers for a run, from words in its files."""

import pytest

from synfoc.answers import (
    ANSWERS,
    answer_name,
    answer_title,
    as_answer,
    deployed_by_paper,
    recommended_answer,
)
from synfoc.errors import UserError


def test_three_branches_in_two_roles() -> None:
    assert len(ANSWERS) == 6
    assert as_answer("medsam", "teacher") == ("medsam", "teacher")
    with pytest.raises(ValueError, match="no answer medsam, pupil"):
        as_answer("medsam", "pupil")


def test_a_student_is_named_by_its_branch_alone() -> None:
    assert [answer_name(("unet", "student")), answer_name(("unet", "teacher"))] == [
        "unet",
        "unet teacher",
    ]
    assert answer_title(("medsam", "student")) == "MedSAM"
    assert answer_title(("fused", "teacher")) == "Fused (teacher)"


def test_the_paper_deploys_medsam_or_the_only_network() -> None:
    assert deployed_by_paper(["unet", "medsam", "fused"]) == "medsam"
    assert deployed_by_paper({"unet": "U-Net alone"}) == "unet"


def test_a_record_recommends_an_answer_or_nothing() -> None:
    assert recommended_answer({}) is None
    assert recommended_answer({"recommended": None, "recommended_role": None}) is None
    # Runs of the first versions name no role.
    assert recommended_answer({"recommended": "unet"}) == ("unet", "student")
    damaged = {"recommended": "unet", "recommended_role": 3}
    with pytest.raises(UserError, match="recommends no branch"):
        recommended_answer(damaged)
