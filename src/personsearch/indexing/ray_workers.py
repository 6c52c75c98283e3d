"""Shards looked at by the workers of a Ray cluster.

A worker holds the network and one shard, of which it hands over a piece when it is asked for one,
so that no more than two pieces a worker are on their way. With a store, this process writes what
comes. With a Milvus server every worker writes its own files, and tells how many. A worker that
dies leaves its shard to the next one: it is planned anew by what was written.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from personsearch.engines.uri import scheme_of
from personsearch.errors import ModelError, StoreError
from personsearch.indexing.shards import (
    Ended,
    Item,
    Looked,
    Run,
    Shard,
    Tally,
    Task,
    Writer,
    in_pieces,
    look_at,
)
from personsearch.indexing.writers import open_writer
from personsearch.media.files import Media
from personsearch.store import ModelIdentity
from personsearch.systems.base import PersonSearchModel

DEATHS = 3
"""Workers that may die at one file without getting further; it counts as unreadable then."""


@dataclass(frozen=True)
class Network:
    """Loads the network in a worker.

    Attributes:
        name: what `personsearch.load` is given, there as well as here.
        device: auto, cpu or cuda.
        fingerprint: that it has to have.
    """

    name: str
    device: str
    fingerprint: str

    def __call__(self) -> PersonSearchModel:
        """The network.

        Raises:
            ModelError: it is another one on that machine.
        """
        import torch

        from personsearch.loading import load
        from personsearch.model_identity import identify

        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        network = load(self.name, device).eval()
        found = identify(self.name, network).fingerprint
        if found != self.fingerprint:
            raise ModelError(
                f"{self.name}: is another network on a worker ({found[:12]}) than here "
                f"({self.fingerprint[:12]}); copy the files"
            )
        return network


@dataclass(frozen=True)
class Settings:
    """How pictures are looked at, and where a worker writes.

    Attributes:
        every: seconds between frames of a video; 0 for all of them.
        score_threshold: people found with less are left out.
        tracks: join people in a video to tracks.
        place: where workers write by themselves; empty where the driver does.
        identity: of the network.
    """

    every: float
    score_threshold: float
    tracks: bool
    place: str
    identity: ModelIdentity


class _Worker:
    """The network and one shard; an actor in the cluster."""

    def __init__(self, load: Callable[[], PersonSearchModel], settings: Settings) -> None:
        self._network, self._settings = load(), settings
        self._pieces: Iterator[list[Item]] = iter(())

    def ready(self) -> bool:
        """Whether the network is there."""
        return True

    def start(self, shard: Shard) -> list[Item] | None:
        """The first piece of a shard; None if there is none."""
        given = self._settings
        items: Iterator[Item] = look_at(
            shard, self._network, every=given.every, score_threshold=given.score_threshold
        )
        if given.place:
            items = self._written(items)
        self._pieces = in_pieces(items)
        return self.more()

    def more(self) -> list[Item] | None:
        """The next piece; None after the last."""
        return next(self._pieces, None)

    def _written(self, items: Iterator[Item]) -> Iterator[Item]:
        given = self._settings
        with open_writer(given.place, given.identity, tracks=given.tracks) as writer:
            looked: dict[Media, list[int]] = {}  # people of each picture
            for item in items:
                if isinstance(item, Looked):
                    looked.setdefault(item.media, []).append(len(item.found.boxes))
                yield from map(partial(_told, looked), writer.write(item))
            yield from map(partial(_told, looked), writer.flush())


def _told(looked: dict[Media, list[int]], ended: Ended) -> Ended:
    people = looked.pop(ended.media, [])
    return replace(ended, pictures=len(people), people=sum(people))


def writes_itself(place: str) -> bool:
    """Whether workers can write to a place: to a server, not to files of one machine."""
    return scheme_of(place) in ("milvus", "milvus+https")


def run_on_ray(
    address: str,
    load: Callable[[], PersonSearchModel],
    settings: Settings,
    writer: Writer,
    *,
    workers: int | None = None,
    device: str = "auto",
) -> Run:
    """Does all shards on a Ray cluster.

    Args:
        address: of the cluster, such as ``ray://head:10001`` or ``auto``; ``local`` starts one on
            this machine. One that this process is connected to already is used as it is.
        load: gives the network, in a worker.
        settings: how pictures are looked at.
        writer: takes what workers found, and plans what has to be done again.
        workers: how many; default: as many as the cluster has GPUs, or CPUs.
        device: cpu, cuda for one GPU a worker, or auto: a GPU each if the cluster has any.

    Raises:
        StoreError: Ray is not installed or there is no cluster.
        ModelError: a worker cannot load the network.
    """

    def run(shards: Sequence[Shard], tally: Tally) -> None:
        ray = _ray()
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, address)
        try:
            if shards:
                there = ray.cluster_resources()
                gpu = device == "cuda" or (device == "auto" and there.get("GPU", 0) >= 1)
                count = int(there.get("GPU" if gpu else "CPU", 1))
                wanted = max(1, min(workers or count, len(shards)))
                _Driver(ray, load, settings, writer, tally, gpu).do(shards, wanted)
        finally:
            if ours:
                ray.shutdown()

    return run


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise StoreError(
            "--ray needs Ray; install it with: pip install 'personsearch[ray]'"
        ) from None
    return ray


def _connect(ray: Any, address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    alone = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", **alone)
    except Exception as error:  # it raises many kinds, of a start that took too long a bare one
        raise StoreError(f"{address}: there is no Ray cluster ({error})") from None


class _Driver:
    """Gives shards to workers, and takes what they found."""

    def __init__(
        self,
        ray: Any,
        load: Callable[[], PersonSearchModel],
        settings: Settings,
        writer: Writer,
        tally: Tally,
        gpu: bool,
    ) -> None:
        self._ray, self._settings, self._writer, self._tally = ray, settings, writer, tally
        self._make = (
            ray.remote(_Worker)
            # It is never started again by Ray: its shard has to be planned first.
            .options(num_cpus=1, num_gpus=int(gpu), max_restarts=0, max_task_retries=0)
            .remote
        )
        self._load = load
        self._deaths: dict[Task, int] = {}
        self._ended: set[Media] = set()
        self._left: list[Shard] = []

    def do(self, shards: Sequence[Shard], workers: int) -> None:
        """All shards."""
        ray = self._ray
        self._left = list(shards)[::-1]
        at_work: dict[Any, tuple[Any, Shard]] = {}
        idle = self._workers(workers)
        try:
            while True:
                while idle and self._left:
                    worker, shard = idle.pop(), self._left.pop()
                    at_work[worker.start.remote(shard)] = (worker, shard)
                if not at_work:
                    break
                (answer,), _ = ray.wait(list(at_work), num_returns=1)
                worker, shard = at_work.pop(answer)
                try:
                    piece = ray.get(answer)
                except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):
                    ray.kill(worker)
                    self._plan_again(shard)
                    if self._left:
                        idle += self._workers(1)
                    continue
                except ray.exceptions.RayTaskError as error:
                    idle.append(worker)  # so that it is ended, too
                    raise _cause(error) from None
                if piece is None:
                    idle.append(worker)
                    continue
                # It goes on while this piece is written.
                at_work[worker.more.remote()] = (worker, shard)
                self._take(piece)
            self._count(self._writer.flush())
        finally:
            for worker, _ in [*at_work.values(), *((worker, None) for worker in idle)]:
                ray.kill(worker)

    def _workers(self, count: int) -> list[Any]:
        """So many more, each with its network."""
        ray = self._ray
        workers = [self._make(self._load, self._settings) for _ in range(count)]
        try:
            ray.get([worker.ready.remote() for worker in workers])
        except ray.exceptions.RayActorError as error:
            last = str(error).strip().splitlines()[-1]
            raise ModelError(f"a worker cannot load the network: {last}") from None
        return workers

    def _take(self, piece: Sequence[Item]) -> None:
        for item in piece:
            if self._settings.place:
                self._count([item])
            else:
                written = self._writer.write(item)
                self._count([*([item] if isinstance(item, Looked) else []), *written])

    def _count(self, items: Sequence[Item]) -> None:
        self._ended.update(item.media for item in items if isinstance(item, Ended))
        self._tally.take(items)

    def _plan_again(self, shard: Shard) -> None:
        """What is left of a shard whose worker died."""
        self._count(self._writer.flush())
        media = [task.media for task in shard.tasks]
        tasks = self._writer.plan(media)
        left = {task.media for task in tasks}
        # Written, but the worker did not live to say so.
        self._count([Ended(one) for one in media if one not in left | self._ended])
        if len(shard.tasks) == 1 and tasks:
            # A video of which more was written is not what kills them.
            deaths = self._deaths.get(tasks[0], 0) + 1
            self._deaths[tasks[0]] = deaths
            if deaths >= DEATHS:
                reason = f"{DEATHS} workers died while they looked at it"
                ended = self._writer.write(Ended(tasks[0].media, reason))
                self._count([*ended, *self._writer.flush()])
                return
        # One by one from now on: what kills a worker takes no other file along.
        self._left += [Shard(shard.number, (task,)) for task in reversed(tasks)]


def _cause(error: Any) -> BaseException:
    """What was raised in a worker."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, BaseException) else StoreError(str(error))
