"""Which stems come out of which sources of a model, and so which members of a bag must run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from demucs_server_worker.errors import InvalidOption
from demucs_server_worker.options import SeparationOptions

REST = "other"  # the stem that takes what all stems together miss of the mix


@dataclass(frozen=True)
class Recipe:
    """How a stem is made: the sum of some sources, or the mix minus some.

    Attributes:
        name: of the stem.
        plus: sources that are added, as places among the plan's `sources`; empty where `minus` is given.
        minus: sources that are taken from the mix, likewise; None where the mix is not used.
    """

    name: str
    plus: tuple[int, ...]
    minus: tuple[int, ...] | None = None


@dataclass(frozen=True)
class StemPlan:
    """What one separation computes.

    Attributes:
        sources: places of the needed sources in the model's output.
        recipes: the stems to write.
        covers_mix: whether the stems written should add up to the mix.
    """

    sources: tuple[int, ...]
    recipes: tuple[Recipe, ...]
    covers_mix: bool

    @property
    def needs_mix(self) -> bool:
        """Whether a stem is made from the mix."""
        return any(recipe.minus is not None for recipe in self.recipes)

    def members(self, weights: Sequence[Sequence[float]]) -> list[int]:
        """The members of a bag that have a part in any needed source.

        Args:
            weights: one row a member, one column a source of the model.
        """
        return [i for i, row in enumerate(weights) if any(row[source] != 0 for source in self.sources)]


def stem_plan(model_sources: Sequence[str], options: SeparationOptions) -> StemPlan:
    """Decide what to compute for `options`.

    Raises:
        InvalidOption: for a stem that the model does not have.
    """
    if options.two_stems is not None:
        return _two_stems(model_sources, options)
    names = options.stems if options.stems is not None else tuple(model_sources)
    wanted = [_place(model_sources, "stems", name) for name in names]
    everything = tuple(range(len(model_sources)))
    if options.residual == "none":
        places = tuple(sorted(set(wanted)))
        recipes = tuple(Recipe(name, (places.index(place),)) for name, place in zip(names, wanted, strict=True))
        return StemPlan(places, recipes, covers_mix=places == everything)
    rest = _place(model_sources, "residual", REST)
    others = tuple(place for place in everything if place != rest)
    # other + (mix - sum of all) is the mix minus the others: the model's own estimate of it is not needed
    places = others if rest in wanted else tuple(sorted(wanted))
    recipes = tuple(
        Recipe(name, (), minus=tuple(range(len(others)))) if place == rest else Recipe(name, (places.index(place),))
        for name, place in zip(names, wanted, strict=True)
    )
    return StemPlan(places, recipes, covers_mix=len(names) == len(everything))


def _two_stems(model_sources: Sequence[str], options: SeparationOptions) -> StemPlan:
    name = options.two_stems or ""
    place = _place(model_sources, "two_stems", name)
    if options.other_method == "minus" or options.residual == REST:
        recipes = (Recipe(name, (0,)), Recipe(f"no_{name}", (), minus=(0,)))
        return StemPlan((place,), recipes, covers_mix=True)
    others = tuple(i for i in range(len(model_sources)) if i != place)
    recipes = (Recipe(name, (place,)), Recipe(f"no_{name}", others))
    return StemPlan(tuple(range(len(model_sources))), recipes, covers_mix=True)


def _place(model_sources: Sequence[str], option: str, name: str) -> int:
    if name not in model_sources:
        raise InvalidOption(option=option, value=name, allowed="this model has " + ", ".join(model_sources))
    return list(model_sources).index(name)
