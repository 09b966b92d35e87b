"""The clients for asyncio: the same methods as coroutines, and iterators as asynchronous iterators.

Each call runs in a thread, since boto3 has no other way. They are made from the other clients here, and `aio.pyi` tells
type checkers what is made (`tools/stubs.py`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator
from typing import Any, Callable

from .client import IdentityClient
from .gateway import GatewayClient


class _Async:
    """Holds the client that does the work. Making one reads files: a server makes it at its start."""

    _of: type

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        shared = kwargs.get("identity")
        if isinstance(shared, _Async):
            kwargs["identity"] = shared._client
        self._client = self._of(*args, **kwargs)


def _asynchronous(of: type) -> Any:
    """A class with the public methods of another, for asyncio."""
    methods = {
        name: (_iterator if _gives_items(method) else _coroutine)(method)
        for name, method in inspect.getmembers(of, inspect.isfunction)
        if not name.startswith("_")
    }
    members = {"__doc__": f"`{of.__name__}` for asyncio.", "__module__": __name__, "_of": of, **methods}
    return type(f"Async{of.__name__}", (_Async,), members)


def _gives_items(method: Callable[..., Any]) -> bool:
    # Some are generators, and some return one.
    return str(method.__annotations__["return"]).startswith("Iterator[")


def _coroutine(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def call(self: _Async, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(method, self._client, *args, **kwargs)

    return call


def _iterator(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    async def iterate(self: _Async, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        items, end = method(self._client, *args, **kwargs), object()
        # A StopIteration cannot leave a thread.
        while (item := await asyncio.to_thread(next, items, end)) is not end:
            yield item

    return iterate


AsyncIdentityClient = _asynchronous(IdentityClient)
AsyncGatewayClient = _asynchronous(GatewayClient)
