"""Hooks: code that runs in place of a layer's own while a context is entered.

The layer only asks whether there is a hook for it. It isn't changed, so nothing is left behind,
and two threads never see each other's hooks.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Generic, TypeVar

Hook = TypeVar("Hook")


class Hooks(Generic[Hook]):
    """One kind of hook; at most one of it for each layer."""

    def __init__(self, name: str) -> None:
        self._active: ContextVar[Mapping[int, Hook]] = ContextVar(
            name, default=MappingProxyType({})
        )

    def of(self, layer: object) -> Hook | None:
        """The layer's hook, if it has one now."""
        return self._active.get().get(id(layer))

    @contextmanager
    def attach(self, hooks: Iterable[tuple[object, Hook]]) -> Iterator[None]:
        """Gives layers these hooks within its `with` block."""
        added = {id(layer): hook for layer, hook in hooks}
        token = self._active.set({**self._active.get(), **added})
        try:
            yield
        finally:
            self._active.reset(token)
