"""Approximate search: inverted lists of people by the nearest of some centroids (IVF).

A centroid is the mean of at least eight people, so that it is nobody's embedding; when a person is
erased from the store, all centroids are deleted and learned anew.
"""

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from personsearch.engines.index_parts import Part, Snapshot
from personsearch.store import Store, index_files
from personsearch.store.index_files import LISTS, ROWS, locked
from personsearch.types import FloatArray

_MEMBERS = 8  # fewest people of a centroid
_SAMPLE = 40  # people for each centroid to learn from
_ROUNDS = 8
_GROWTH = 4  # centroids are learned again when there are so many times more people
_BLOCK = 16_384


def write_lists(folder: Path, store: Store, snapshot: Snapshot) -> bool:
    """Write the missing inverted lists of all parts in files; return whether all are there.

    Nothing is written of parts from which people were erased meanwhile, or without the right to.
    """
    parts = [part for part in snapshot.parts if part.span is not None]
    if not parts or any(part.alive is not None for part in parts):
        return False
    total = sum(map(len, parts))
    known = snapshot.inverted_lists
    if known is None or known.about["learned_from"] * _GROWTH < total:
        centroids, learned_from = _learn(parts, total), total
        parts = [replace(part, inverted_lists=None) for part in parts]
    else:
        centroids, learned_from = centroids_of(known.index), known.about["learned_from"]
    digest = zlib.crc32(centroids.tobytes())
    last = snapshot.last
    for part in parts:
        if part.inverted_lists is not None:
            continue
        assert part.span is not None
        index = _inverted_lists(part, centroids)
        about = {"rows": part.checksum, "means": digest, "learned_from": learned_from}
        with locked(folder, patience=5.0) as held:
            touched = store.blocks_since(snapshot.revision)
            gone = bool((touched << 10 <= last).any())
            if not held or gone or not index_files.path_of(folder, part.span, ROWS).exists():
                return False
            try:
                index_files.write(index_files.path_of(folder, part.span, LISTS), index, {}, about)
            except OSError:
                return False
    return True


def _learn(parts: list[Part], total: int) -> FloatArray:
    """Centroids (M, D) of unit length, by k-means over a sample of all people."""
    import faiss

    count = 2 ** round(np.log2(2 * np.sqrt(total)))
    share = min(1.0, _SAMPLE * count / total)
    generator = np.random.default_rng(0)
    sample: FloatArray = np.concatenate(
        [part.rows.vectors[generator.random(len(part)) < share] for part in parts]
    ).astype(np.float32)
    dim = sample.shape[1]
    settings = faiss.ClusteringParameters()
    settings.niter, settings.spherical, settings.seed = _ROUNDS, True, 1
    settings.min_points_per_centroid, settings.max_points_per_centroid = 1, 2**30
    clustering = faiss.Clustering(dim, count, settings)
    nearest = faiss.IndexFlatIP(dim)
    clustering.train(sample, nearest)
    centroids: FloatArray = faiss.vector_to_array(clustering.centroids).reshape(count, dim)
    # The mean of few people would be nearly one of them.
    _, row = nearest.search(sample, 1)
    members = np.bincount(row.ravel(), minlength=count)
    kept: FloatArray = np.ascontiguousarray(centroids[members >= _MEMBERS])
    return kept if len(kept) else np.ascontiguousarray(sample.mean(axis=0, keepdims=True))


def centroids_of(index: Any) -> FloatArray:
    """Return the centroids (M, D) of faiss's inverted lists."""
    import faiss

    quantizer = faiss.downcast_index(index.quantizer)
    flat = faiss.rev_swig_ptr(quantizer.get_xb(), quantizer.ntotal * quantizer.d)
    centroids: FloatArray = np.array(flat, np.float32).reshape(-1, quantizer.d)
    return centroids


def _inverted_lists(part: Part, centroids: FloatArray) -> Any:
    """Faiss's inverted lists of a part, with rows of the part as ids."""
    import faiss

    dim = centroids.shape[1]
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(centroids)
    index = faiss.IndexIVFScalarQuantizer(
        quantizer,
        dim,
        len(centroids),
        faiss.ScalarQuantizer.QT_fp16,
        faiss.METRIC_INNER_PRODUCT,
        False,
    )
    index.is_trained = True
    for begin in range(0, len(part), _BLOCK):
        rows = np.arange(begin, min(begin + _BLOCK, len(part)))
        ranked = vectors = part.rows.vectors[rows].astype(np.float32)
        _, nearest = quantizer.search(vectors, 1)
        if part.weights is not None:
            ranked = np.ascontiguousarray(vectors * part.weights[rows, None])
        arrays = (ranked, rows, np.ascontiguousarray(nearest.ravel()))
        index.add_core(len(rows), *map(faiss.swig_ptr, arrays))
    return index
