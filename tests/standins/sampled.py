"""The batches of a sampler, one after the other."""

from personsearch.training.samplers import SceneSampler


def batches(sampler: SceneSampler, start: int, stop: int) -> list[list[int]]:
    """The batches of iterations `start`..`stop` - 1."""
    return [sampler.batch(iteration) for iteration in range(start, stop)]
