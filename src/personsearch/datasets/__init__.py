"""Labelled data sets: readers, writers, protocols, validation, doctor, statistics."""

from personsearch.datasets.formats import FORMATS, detect_format, open_dataset

__all__ = ["FORMATS", "detect_format", "open_dataset"]
