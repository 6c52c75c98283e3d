"""An archive of plain blocks of colour: an open store, and `Blocks` as its network."""

from pathlib import Path

import pytest
from blocks import Blocks

from personsearch import loading, model_identity
from personsearch.indexing.pipeline import index_media
from personsearch.indexing.writers import StoreWriter
from personsearch.media.files import find_media
from personsearch.store import ModelIdentity, open_store

IDENTITY = ModelIdentity("blocks", "b" * 64, Blocks.embedding_dim)


def use_blocks(patch: pytest.MonkeyPatch, identity: ModelIdentity = IDENTITY) -> None:
    """Whatever model is named, `Blocks` is loaded, of that identity."""
    patch.setattr(loading, "load", lambda path, device="cpu": Blocks())
    patch.setattr(model_identity, "identify", lambda name, model: identity)


def index(store: Path, *sources: Path) -> Path:
    """Everyone in some folders, in a store."""
    media, _ = find_media(sources)
    with open_store(store, model=IDENTITY, write=True) as opened:
        index_media(Blocks(), StoreWriter(opened), media)
    return store
