"""Approximate search: people by the nearest of some means of embeddings (an inverted file).

A mean is of at least eight people, so that it is nobody's embedding; when someone is erased from
the store, all means are deleted and learned anew.
"""

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from personsearch.engines.index_parts import Part, Snapshot
from personsearch.store import Store, index_files
from personsearch.store.index_files import LISTS, ROWS, locked
from personsearch.types import FloatArray

_MEMBERS = 8  # people whose mean is one, at least
_SAMPLE = 40  # people for each mean to learn from
_ROUNDS = 8
_GROWTH = 4  # means are learned again when there are so many times more people
_BLOCK = 16_384


def write_lists(folder: Path, store: Store, snapshot: Snapshot) -> bool:
    """Writes the inverted file of every part that is in a file and has none; says if all are there.

    Nothing is written from which someone was erased in the meantime, or without the right to.
    """
    parts = [part for part in snapshot.parts if part.span is not None]
    if not parts or any(part.alive is not None for part in parts):
        return False
    total = sum(map(len, parts))
    known = snapshot.lists
    if known is None or known.about["learned_from"] * _GROWTH < total:
        means, learned_from = _learn(parts, total), total
        parts = [replace(part, lists=None) for part in parts]
    else:
        means, learned_from = _means(known.index), known.about["learned_from"]
    digest = zlib.crc32(means.tobytes())
    last = snapshot.last
    for part in parts:
        if part.lists is not None:
            continue
        assert part.span is not None
        index = _sorted(part, means)
        about = {"rows": part.checksum, "means": digest, "learned_from": learned_from}
        with locked(folder, patience=5.0) as mine:
            touched = store.blocks_since(snapshot.changes)
            gone = bool((touched << 10 <= last).any())
            if not mine or gone or not index_files.place(folder, part.span, ROWS).exists():
                return False
            try:
                index_files.write(index_files.place(folder, part.span, LISTS), index, {}, about)
            except OSError:
                return False
    return True


def _learn(parts: list[Part], total: int) -> FloatArray:
    """Means (M, D) of unit length, by k-means over some of everyone."""
    import faiss

    count = 2 ** round(np.log2(2 * np.sqrt(total)))
    share = min(1.0, _SAMPLE * count / total)
    generator = np.random.default_rng(0)
    sample = np.concatenate(
        [_unit(part, np.flatnonzero(generator.random(len(part)) < share)) for part in parts]
    )
    dim = sample.shape[1]
    settings = faiss.ClusteringParameters()
    settings.niter, settings.spherical, settings.seed = _ROUNDS, True, 1
    settings.min_points_per_centroid, settings.max_points_per_centroid = 1, 2**30
    clustering = faiss.Clustering(dim, count, settings)
    nearest = faiss.IndexFlatIP(dim)
    clustering.train(sample, nearest)
    means: FloatArray = faiss.vector_to_array(clustering.centroids).reshape(count, dim)
    # The mean of few people would be nearly one of them.
    _, row = nearest.search(sample, 1)
    members = np.bincount(row.ravel(), minlength=count)
    kept: FloatArray = np.ascontiguousarray(means[members >= _MEMBERS])
    return kept if len(kept) else np.ascontiguousarray(sample.mean(axis=0, keepdims=True))


def _unit(part: Part, rows: NDArray[np.int64]) -> FloatArray:
    vectors: FloatArray = part.rows.vectors[rows].astype(np.float32)
    return vectors


def _means(index: Any) -> FloatArray:
    import faiss

    quantizer = faiss.downcast_index(index.quantizer)
    flat = faiss.rev_swig_ptr(quantizer.get_xb(), quantizer.ntotal * quantizer.d)
    means: FloatArray = np.array(flat, np.float32).reshape(-1, quantizer.d)
    return means


def _sorted(part: Part, means: FloatArray) -> Any:
    """Faiss's inverted file of a part; ids in it are rows of the part."""
    import faiss

    dim = means.shape[1]
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(means)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer,
        dim,
        len(means),
        faiss.ScalarQuantizer.QT_fp16,
        faiss.METRIC_INNER_PRODUCT,
        False,
    )
    index.is_trained = True
    for begin in range(0, len(part), _BLOCK):
        rows = np.arange(begin, min(begin + _BLOCK, len(part)))
        ranked = vectors = _unit(part, rows)
        _, nearest = quantizer.search(vectors, 1)
        if part.weights is not None:
            ranked = np.ascontiguousarray(vectors * part.weights[rows, None])
        arrays = (ranked, rows, np.ascontiguousarray(nearest.ravel()))
        index.add_core(len(rows), *map(faiss.swig_ptr, arrays))
    return index
