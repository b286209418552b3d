"""The clients of one process, and which of them a given configuration means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

import redis

from ._redis import make_client
from ._settings import Login, Settings


class Pair:
    """A text and a binary client of the same database.

    Graflow's channel needs text and its graph store needs bytes; both take
    whichever client they are given.
    """

    def __init__(self, settings: Settings, login: Optional[Login]) -> None:
        self.settings = settings
        self.text = make_client(settings, login, text=True)
        self.binary = make_client(settings, login, text=False)


class Clients:
    """Our clients. Safe for any thread: the worst of a race is a spare pool."""

    def __init__(self, settings: Settings) -> None:
        self._login = Login(settings)
        self.main = Pair(settings, self._login)
        # Graflow's feedback leaves a listener behind in each request that
        # timed out, with its connection: in a bounded pool, ten of those would
        # stop everything.
        self.feedback = make_client(settings, self._login, text=True, bounded=False)
        self._pairs: Dict[Tuple[Any, ...], Pair] = {}

    def all_pairs(self) -> List[Pair]:
        """Every pair made so far."""
        return [self.main, *self._pairs.values()]

    def binary_of(self, client: Any) -> Optional[redis.Redis]:
        """The binary client for one of our text clients; None if it is not ours."""
        for pair in self.all_pairs():
            if client is pair.text:
                return pair.binary
        return None

    def for_config(self, config: Mapping[str, Any]) -> Optional[Pair]:
        """Our clients for a Graflow configuration (host, port, db and so on).

        None where it names another server than ours: what the user wrote wins.
        The same server with another database or login gets clients like ours
        in everything else, TLS above all.
        """
        settings = self.main.settings
        # What Graflow makes of a client without host and port (a Unix socket).
        host, port = (settings.host, settings.port) if not settings.path else ("localhost", 6379)
        if config.get("host", "localhost") != host or _number(config.get("port", 6379)) != port:
            return None
        username = config.get("username") or settings.username
        password = config.get("password")
        # One that is ours, or was before it was changed: it follows ours.
        ours = username == settings.username and (not password or self._login.had(password))
        key = (
            _number(config.get("db", 0)),
            username,
            settings.password if ours else password or settings.password,
            settings.tls or bool(config.get("ssl")),
        )
        if key == (settings.db, settings.username, settings.password, settings.tls):
            return self.main
        if key not in self._pairs:
            db, username, password, tls = key
            self._pairs[key] = Pair(
                replace(settings, db=db, username=username, password=password, tls=tls),
                self._login if ours else None,
            )
        return self._pairs[key]


def _number(value: Any) -> Any:
    try:
        return int(value)
    except (TypeError, ValueError):
        return value
