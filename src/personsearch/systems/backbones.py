"""Deprecated location of `personsearch.detectors.backbones`."""

import warnings

from personsearch.detectors.backbones import *  # noqa: F403

warnings.warn(
    "personsearch.systems.backbones has moved to personsearch.detectors.backbones",
    DeprecationWarning,
    stacklevel=2,
)
