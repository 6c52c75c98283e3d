"""The range of the identities that a loss is given."""

from torch import Tensor

from personsearch.errors import TrainingError


def check_ids(ids: Tensor, count: int, holder: str) -> None:
    """Check that each of `ids` (N,) is below `count`, the rows of `holder`; -1 is unlabelled.

    Raises:
        TrainingError: an id is out of range.
    """
    if len(ids) and int(ids.max()) >= count:
        raise TrainingError(
            f"identity {int(ids.max())} is out of range: {holder} holds identities 0 to "
            f"{count - 1}. Renumber the training identities without gaps."
        )
