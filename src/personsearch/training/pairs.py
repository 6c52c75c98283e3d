"""Pictures that share identities, for networks that compare (Zhang et al. 2019, section 3)."""

from collections.abc import Sequence

import numpy as np

from personsearch.errors import RecipeError
from personsearch.training import samplers
from personsearch.types import Scene


class PairSampler(samplers.SceneSampler):
    """Groups of pictures, each sharing an identity with another picture of its group.

    Each identity that several pictures show leads one group per epoch, in random order. Pictures of
    an identity are drawn in twos; if the leader has too few for the group, other identities fill
    it. A picture is repeated in a batch only if there are no others. The paper has 2 pictures in a
    group, and also tries 4 and 8 (table 8).
    """

    def __init__(
        self, scenes: Sequence[Scene], batch_size: int, seed: int, pictures_per_group: int = 2
    ) -> None:
        super().__init__(scenes, batch_size, seed)
        if pictures_per_group < 2 or pictures_per_group % 2 or batch_size % pictures_per_group:
            raise RecipeError(
                f"groups of {pictures_per_group} pictures were asked for in batches of "
                f"{batch_size}; pictures_per_identity has to be even and to divide "
                "images_per_iteration"
            )
        self.pictures_per_group = pictures_per_group
        shown = samplers.pictures_by_identity(scenes, "pair")
        self._shown = [pictures for _, pictures in sorted(shown.items())]
        self._leaders = samplers.EpochOrder(len(shown), seed, stream=6)

    def batch(self, iteration: int) -> list[int]:
        """The groups of this iteration, concatenated."""
        rng = samplers.generator(self.seed, 5, iteration)
        groups = self.batch_size // self.pictures_per_group
        chosen: list[int] = []
        for leader in range(iteration * groups, (iteration + 1) * groups):
            chosen += self._group(self._leaders[leader], set(chosen), rng)
        return chosen

    def _group(self, leader: int, taken: set[int], rng: np.random.Generator) -> list[int]:
        group: list[int] = []
        rest = rng.permutation(len(self._shown))
        order = [leader, *rest[rest != leader].tolist()]
        for again in (False, True):  # if nothing else is left, pictures are repeated
            for place in order:
                free = [p for p in self._shown[place] if again or p not in taken]
                count = min(len(free), self.pictures_per_group - len(group)) // 2 * 2
                picked = rng.permutation(free)[:count].tolist()
                group += picked
                taken.update(picked)
                if len(group) == self.pictures_per_group:
                    return group
        # There are only a few pictures of one or two identities: repeat the leader's.
        return (group + self._shown[leader] * self.pictures_per_group)[: self.pictures_per_group]
