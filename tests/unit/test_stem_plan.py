"""Which sources and members the wanted stems need."""

from __future__ import annotations

import pytest

from demucs_server_worker.errors import InvalidOption
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.stem_plan import Recipe, stem_plan
from tests.model_repo import FINE_TUNED_WEIGHTS

SOURCES = ("drums", "bass", "other", "vocals")


def planned(**options: object) -> tuple[tuple[int, ...], tuple[Recipe, ...], bool, list[int]]:
    """Sources, recipes, whether they cover the mix, and the members of a fine-tuned bag that must run."""
    plan = stem_plan(SOURCES, SeparationOptions(**options))  # type: ignore[arg-type]
    return plan.sources, plan.recipes, plan.covers_mix, plan.members(FINE_TUNED_WEIGHTS)


def test_all_stems_by_default() -> None:
    recipes = tuple(Recipe(name, (place,)) for place, name in enumerate(SOURCES))
    assert planned() == ((0, 1, 2, 3), recipes, True, [0, 1, 2, 3])


def test_some_stems_need_their_sources_only_and_come_in_the_order_asked() -> None:
    assert planned(stems=("vocals", "bass")) == ((1, 3), (Recipe("vocals", (1,)), Recipe("bass", (0,))), False, [1, 3])


def test_two_stems_add_the_others() -> None:
    recipes = (Recipe("vocals", (3,)), Recipe("no_vocals", (0, 1, 2)))
    assert planned(two_stems="vocals") == ((0, 1, 2, 3), recipes, True, [0, 1, 2, 3])


@pytest.mark.parametrize("option", [{"other_method": "minus"}, {"residual": "other"}])
def test_two_stems_from_the_mix_need_one(option: dict[str, str]) -> None:
    recipes = (Recipe("bass", (0,)), Recipe("no_bass", (), minus=(0,)))
    assert planned(two_stems="bass", **option) == ((1,), recipes, True, [1])


def test_the_residual_makes_other_of_the_mix_and_needs_no_estimate_of_it() -> None:
    recipes = (
        Recipe("drums", (0,)),
        Recipe("bass", (1,)),
        Recipe("other", (), minus=(0, 1, 2)),
        Recipe("vocals", (2,)),
    )
    assert planned(residual="other") == ((0, 1, 3), recipes, True, [0, 1, 3])


def test_the_residual_costs_nothing_where_other_is_not_wanted() -> None:
    assert planned(residual="other", stems=("vocals",)) == ((3,), (Recipe("vocals", (0,)),), False, [3])


def test_the_residual_of_two_wanted_stems_still_takes_all_others_from_the_mix() -> None:
    recipes = (Recipe("other", (), minus=(0, 1, 2)), Recipe("drums", (0,)))
    assert planned(residual="other", stems=("other", "drums")) == ((0, 1, 3), recipes, False, [0, 1, 3])


@pytest.mark.parametrize("options", [{"stems": ("vocals", "flute")}, {"two_stems": "flute"}])
def test_a_stem_that_the_model_does_not_have(options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match=r"flute.*this model has drums, bass, other, vocals"):
        planned(**options)


def test_the_residual_needs_a_stem_to_go_to() -> None:
    with pytest.raises(InvalidOption, match="residual=other"):
        stem_plan(("speech", "music"), SeparationOptions(residual="other"))


def test_a_member_runs_for_any_part_in_a_needed_source() -> None:
    plan = stem_plan(SOURCES, SeparationOptions(stems=("bass",)))
    assert plan.members([[1, 0, 1, 1], [0, 0.1, 0, 0], [1, 2, 1, 1]]) == [1, 2]
