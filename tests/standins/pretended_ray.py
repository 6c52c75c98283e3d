"""Stands where Ray would: its actors are objects of this process, and die when told to."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any


class Died(BaseException):
    """Raised in an actor: its process is gone."""


class ActorError(Exception):
    """What is told of an actor that died."""


class TaskError(Exception):
    """What is told of a call that raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Actor:
    def __init__(self, make: Callable[[], Any]) -> None:
        self.dead: Exception | None = None
        try:
            self.inner = make()
        except Exception as error:
            self.dead = ActorError(f"The actor died\n{type(error).__name__}: {error}")

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: _Call(self, name, given))


class _Call:
    """A call; it runs when it is asked for."""

    def __init__(self, actor: _Actor, name: str, given: tuple[Any, ...]) -> None:
        self.actor, self.name, self.given = actor, name, given

    def run(self) -> Any:
        if self.actor.dead is not None:
            raise self.actor.dead
        try:
            return getattr(self.actor.inner, self.name)(*self.given)
        except Died:
            self.actor.dead = ActorError("The actor died")
            raise self.actor.dead from None
        except Exception as error:
            raise TaskError(error) from None


class PretendedRay:
    """A cluster of two CPUs.

    Attributes:
        made: actors that were made.
        killed: actors that were ended.
    """

    exceptions = SimpleNamespace(
        RayActorError=ActorError, RayTaskError=TaskError, ObjectLostError=ActorError
    )

    def __init__(self) -> None:
        self.made: list[_Actor] = []
        self.killed: list[_Actor] = []

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, kind: type) -> Any:
        def make(*given: Any) -> _Actor:
            self.made.append(_Actor(lambda: kind(*given)))
            return self.made[-1]

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=make))

    def wait(self, calls: Sequence[_Call], num_returns: int) -> tuple[list[_Call], list[_Call]]:
        # The youngest first, so that workers are not asked in turn.
        return [calls[-1]], list(calls[:-1])

    def get(self, call: Any) -> Any:
        return [one.run() for one in call] if isinstance(call, list) else call.run()

    def kill(self, actor: _Actor) -> None:
        actor.dead = actor.dead or ActorError("killed")
        self.killed.append(actor)
