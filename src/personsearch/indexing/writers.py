"""Opens the writer that a URI names: a folder's store, or a Milvus collection."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from personsearch.engines.uri import check_scheme, scheme_of
from personsearch.indexing.shards import StoreWriter, Writer
from personsearch.store import ModelIdentity, open_store


@contextmanager
def open_writer(
    place: Path | str, model: ModelIdentity, *, tracks: bool = True
) -> Iterator[Writer]:
    """Open the writer of a store or a Milvus collection, which is created if there is none.

    Args:
        place: URI or folder, as for `open_engine`.
        model: makes the embeddings.
        tracks: link the detections in a video to tracks, of which the best views are kept.

    Raises:
        StoreError: another model made the store, or another process is writing to the folder.
    """
    if not scheme_of(place):
        with open_store(place, model=model, write=True) as store:
            yield StoreWriter(store, tracks=tracks)
        return
    check_scheme(place)
    from personsearch.engines.milvus import MilvusEngine
    from personsearch.indexing.milvus_writer import MilvusWriter

    with (
        MilvusEngine(str(place), model, create=True) as engine,
        closing(MilvusWriter(engine, tracks=tracks)) as writer,
    ):
        yield writer
