"""Graphs of the tasks that this process runs."""

from __future__ import annotations

import time
from typing import Any, Dict

from graflow.coordination.graph_store import GraphStore

from . import _compat
from ._clients import Pair

# Each process of a pool has a cache of its own; Graflow's default is 100.
_CACHED = 32
# How often the life of a graph that comes from the cache is extended.
_RENEW_SECONDS = 600.0


class Graphs:
    """What ExecutionContextFactory takes for a graph store.

    It reads graph_store.redis to make the channel's client: there it finds the
    text client. (In 0.1.9 it finds the store's binary one, and every value that
    a worker reads from the channel is then None.) The store itself keeps the
    binary one.
    """

    def __init__(self, pair: Pair, key_prefix: str) -> None:
        self.redis = pair.text
        self.key_prefix = key_prefix
        self._binary = pair.binary
        self._store = self._new_store()
        self._renewed: Dict[str, float] = {}

    def load(self, graph_hash: str) -> Any:
        """The graph, from Graflow's cache or from Redis; ValueError if it is gone.

        Reading it from Redis renews its life there (GETEX); one that is in the
        cache is renewed now and then, so that a long workflow keeps it too.
        """
        graph = self._store.load(graph_hash)
        now = time.monotonic()
        renewed = self._renewed.get(graph_hash)
        if renewed is None:
            if len(self._renewed) > 10 * _CACHED:
                self._renewed.clear()
            self._renewed[graph_hash] = now
        elif now - renewed > _RENEW_SECONDS:
            self._binary.expire(f"{self.key_prefix}:graph:{graph_hash}", self._store.ttl)
            self._renewed[graph_hash] = now
        return graph

    def release(self, graph_hash: str, graph: Any, size: int) -> None:
        """A task is done with its graph, which had so many nodes before.

        One that it changed is unpickled anew for the next task. From others
        only the contexts are taken that the run left in its tasks.
        """
        given = _compat.given_context
        for task in given:
            vars(task).pop("_execution_context", None)
        given.clear()
        if graph in _compat.changed_graphs or len(graph.nodes) != size:
            _compat.changed_graphs.discard(graph)
            cache = getattr(self._store, "_local_cache", None)
            if cache is None:
                self._store = self._new_store()
            else:
                cache.pop(graph_hash, None)

    def _new_store(self) -> GraphStore:
        return GraphStore(self._binary, self.key_prefix, cache_size=_CACHED)
