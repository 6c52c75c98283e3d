"""Index shards by the workers of a Ray cluster.

A worker holds the network and one shard, of which it hands over one piece at a time, so that at
most two pieces of each worker are in transit. This process writes the pieces, or every worker its
own, if the store is a Milvus server. What is left of a worker's shard when it dies is planned
again, by what was written, and given to the next worker.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from personsearch.engines.uri import scheme_of
from personsearch.errors import ModelError, StoreError
from personsearch.indexing.report import Tally
from personsearch.indexing.shards import FILES, Shard, in_pieces, make_shards, process_shard
from personsearch.indexing.writer import Ended, Item, Picture, Task, Writer
from personsearch.indexing.writers import open_writer
from personsearch.media.files import Media
from personsearch.store import ModelIdentity
from personsearch.systems.base import PersonSearchModel

# Workers that may die at one file without getting further; then it counts as unreadable.
MAX_DEATHS = 3


@dataclass(frozen=True)
class Network:
    """Loads the network in a worker: a name for `personsearch.load`, there as well as here."""

    name: str
    device: str
    fingerprint: str

    def __call__(self) -> PersonSearchModel:
        from personsearch.loading import load
        from personsearch.model_identity import identify

        network = load(self.name, self.device)
        found = identify(self.name, network).fingerprint
        if found != self.fingerprint:
            raise ModelError(
                f"{self.name}: a worker has another network ({found[:12]}) than this machine "
                f"({self.fingerprint[:12]}); copy the files of this machine to the workers"
            )
        return network.for_inference()


@dataclass(frozen=True)
class Settings:
    """How workers index, and the store that they write to; an empty URI if the driver writes."""

    every: float
    score_threshold: float
    tracks: bool
    uri: str
    identity: ModelIdentity


class _Worker:
    """The network and one shard; an actor in the cluster."""

    def __init__(self, load: Callable[[], PersonSearchModel], settings: Settings) -> None:
        self._network, self._settings = load(), settings
        self._pieces: Iterator[list[Item]] = iter(())

    def start(self, shard: Shard) -> list[Item] | None:
        """Start a shard and return its first piece."""
        given = self._settings
        items = process_shard(shard, self._network, given.every, given.score_threshold)
        self._pieces = in_pieces(self._written(items) if given.uri else items)
        return self.more()

    def more(self) -> list[Item] | None:
        """Return the next piece; None after the last, and before the first shard."""
        return next(self._pieces, None)

    def _written(self, items: Iterator[Item]) -> Iterator[Item]:
        given = self._settings
        people: dict[Media, list[int]] = {}  # in each picture

        def counted(ended: Ended) -> Ended:
            counts = people.pop(ended.media, [])
            return replace(ended, pictures=len(counts), people=sum(counts))

        with open_writer(given.uri, given.identity, tracks=given.tracks) as writer:
            for item in items:
                if isinstance(item, Picture):
                    people.setdefault(item.media, []).append(len(item.found.boxes))
                ended = [one for one in writer.write(item) if isinstance(one, Ended)]
                yield from map(counted, ended)
            yield from map(counted, writer.flush())


def writes_itself(uri: str) -> bool:
    """Whether workers can write to a store: one on a server, not files of one machine."""
    return scheme_of(uri) in ("milvus", "milvus+https")


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """Connect to a cluster, unless this process is connected; yield Ray."""
    try:
        ray: Any = import_module("ray")
    except ModuleNotFoundError:
        install = "pip install 'personsearch[ray]'"
        raise StoreError(f"--ray needs Ray; install it with: {install}") from None
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to its makers
    alone = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", **alone)
    except Exception as error:  # of many types; a start that takes too long raises a bare one
        raise StoreError(
            f"{address}: there is no Ray cluster ({error}); start one, or name another address"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


@dataclass
class RayProcess:
    """Indexes files on a Ray cluster; a `Process` for `pipeline.index_with`.

    A cluster that this process is connected to already is used as it is.

    Raises, when called:
        StoreError: Ray is not installed or there is no cluster.
        ModelError: a worker cannot load the network.
    """

    address: str  # such as ray://head:10001 or auto; local starts a cluster on this machine
    load: Callable[[], PersonSearchModel]
    settings: Settings
    writer: Writer
    workers: int | None = None  # None for as many as the cluster has GPUs, or CPUs
    device: str = "auto"  # cpu, cuda for one GPU a worker, or auto: a GPU each if there are any
    shard_files: int = FILES

    def __call__(self, tasks: Sequence[Task], tally: Tally) -> None:
        self._tally = tally
        self._deaths: Counter[Task] = Counter()
        self._ended: set[Media] = set()
        self._left = make_shards(tasks, self.shard_files)[::-1]
        with _cluster(self.address) as self._ray:
            resources = self._ray.cluster_resources()
            some = self.device == "auto" and resources.get("GPU", 0) >= 1
            self._gpu = self.device == "cuda" or some
            count = self.workers or int(resources.get("GPU" if self._gpu else "CPU", 1))
            self._process(max(1, min(count, len(self._left))))

    def _process(self, workers: int) -> None:
        ray = self._ray
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
                    idle.append(worker)  # killed below, too
                    cause = getattr(error, "cause", None)
                    if isinstance(cause, BaseException):
                        raise cause from None
                    raise StoreError(str(error)) from None
                if piece is None:
                    idle.append(worker)
                    continue
                # It goes on while this piece is written.
                at_work[worker.more.remote()] = (worker, shard)
                for item in piece:
                    self._count([item] if self.settings.uri else self.writer.write(item))
            self._count(self.writer.flush())
        finally:
            for worker in [*(worker for worker, _ in at_work.values()), *idle]:
                ray.kill(worker)

    def _workers(self, count: int) -> list[Any]:
        ray = self._ray
        # Ray must not restart a worker: its shard has to be planned again first.
        options = {"num_cpus": 1, "num_gpus": int(self._gpu), "max_restarts": 0}
        make = ray.remote(_Worker).options(max_task_retries=0, **options).remote
        workers = [make(self.load, self.settings) for _ in range(count)]
        try:
            ray.get([worker.more.remote() for worker in workers])  # once networks are loaded
        except ray.exceptions.RayActorError as error:
            last = str(error).strip().splitlines()[-1]
            raise ModelError(f"a worker cannot load the network: {last}") from None
        return workers

    def _count(self, items: Sequence[Item]) -> None:
        self._ended.update(item.media for item in items if isinstance(item, Ended))
        self._tally.count(items)

    def _plan_again(self, shard: Shard) -> None:
        """Plan what is left of a shard whose worker died."""
        self._count(self.writer.flush())
        media = [task.media for task in shard]
        tasks = self.writer.plan(media)
        left = {task.media for task in tasks}
        # Written, but the worker died before it could send their counts.
        self._count([Ended(one) for one in media if one not in left | self._ended])
        if len(shard) == 1 and tasks:
            # A video of which more was written since is another task, and not what kills them.
            self._deaths[tasks[0]] += 1
            if self._deaths[tasks[0]] >= MAX_DEATHS:
                reason = f"{MAX_DEATHS} workers died while they indexed it"
                ended = self.writer.write(Ended(tasks[0].media, reason))
                self._count([*ended, *self.writer.flush()])
                return
        # One by one from now on, so that what kills a worker takes no other file along.
        self._left += [(task,) for task in reversed(tasks)]
