"""Where Redis is and how to talk to it, from the environment.

The sidecar gives its Graflow children REDIS_URL and the parts; the names are
those that Graflow's own worker reads, and more for what it has no setting for.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional
from urllib.parse import parse_qs, unquote, urlsplit

_YES = frozenset(("1", "true", "yes", "on"))


@dataclass(frozen=True)
class Settings:
    """How to reach Redis; times in seconds."""

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    path: str = ""  # of a Unix socket; host and port do not count then
    username: Optional[str] = None
    password: Optional[str] = None
    password_file: Optional[str] = None  # see Login
    tls: bool = False
    ca_file: Optional[str] = None
    cert_file: Optional[str] = None
    key_file: Optional[str] = None
    server_name: Optional[str] = None
    insecure: bool = False
    max_connections: int = 10
    socket_timeout: float = 5.0
    connect_timeout: float = 5.0
    health_check_interval: float = 30.0
    retries: int = 5

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Read REDIS_URL, else REDIS_HOST and so on. An empty value is none.

        Raises ValueError, naming the variable.
        """
        read = _Env(env)
        found: Dict[str, Any] = {
            "username": read.text("REDIS_USERNAME"),
            "password": read.text("REDIS_PASSWORD"),
            "password_file": read.text("REDIS_PASSWORD_FILE"),
            "tls": read.yes("REDIS_TLS"),
            "ca_file": read.text("REDIS_TLS_CA_FILE"),
            "cert_file": read.text("REDIS_TLS_CERT_FILE"),
            "key_file": read.text("REDIS_TLS_KEY_FILE"),
            "server_name": read.text("REDIS_TLS_SERVER_NAME"),
            "insecure": read.yes("REDIS_TLS_INSECURE"),
            "max_connections": read.number("REDIS_MAX_CONNECTIONS", int, 10),
            "socket_timeout": read.number("REDIS_SOCKET_TIMEOUT", float, 5.0),
            "connect_timeout": read.number("REDIS_SOCKET_CONNECT_TIMEOUT", float, 5.0),
            "health_check_interval": read.number("REDIS_HEALTH_CHECK_INTERVAL", float, 30.0),
            "retries": read.number("REDIS_RETRIES", int, 5),
        }
        url = read.text("REDIS_URL")
        if url:
            found.update(_from_url(url))
        else:
            host = read.text("REDIS_HOST") or "localhost"
            if host.startswith("/"):
                found["path"] = host
            elif host.startswith("[") and host.endswith("]"):  # as in a URL
                host = host[1:-1]
            found["host"] = host
            found["port"] = read.port()
            found["db"] = read.number("REDIS_DB", int, 0)
        return cls(**found)


class Login:
    """The password that the sidecar itself has, which may change. Safe for any thread."""

    def __init__(self, settings: Settings) -> None:
        self._file = settings.password_file
        self._last = settings.password
        self._seen = {settings.password}

    def password(self) -> Optional[str]:
        """Return the password as of now: that of the file, if there is one.

        A file that is empty or cannot be read, as while it is replaced, leaves the
        last one.
        """
        if self._file:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                with open(self._file, encoding="utf-8", newline="") as file:
                    self._last = file.read().rstrip("\r\n") or self._last
            self._seen.add(self._last)
        return self._last

    def had(self, password: Optional[str]) -> bool:
        """Whether the password is this one, or was."""
        return password == self.password() or password in self._seen


class _Env:
    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def text(self, name: str) -> Optional[str]:
        return self._env.get(name) or None

    def yes(self, name: str) -> bool:
        return self._env.get(name, "").strip().lower() in _YES

    def number(self, name: str, kind: Any, default: Any) -> Any:
        value = self.text(name)
        try:
            return default if value is None else kind(value)
        except ValueError:
            raise ValueError(f"{name}={value} is not a number") from None

    def port(self) -> int:
        # Kubernetes sets REDIS_PORT=tcp://10.0.0.1:6379 for a service "redis".
        value = self.text("REDIS_PORT") or "6379"
        try:
            return int(value.rpartition(":")[2])
        except ValueError:
            raise ValueError(f"REDIS_PORT={value} is not a port") from None


def _from_url(url: str) -> Dict[str, Any]:
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    found: Dict[str, Any] = {}
    if parts.username:
        found["username"] = unquote(parts.username)
    if parts.password:
        found["password"] = unquote(parts.password)
    db = options.get("db", [""])[0]
    if parts.scheme in ("redis", "rediss"):
        found["host"] = unquote(parts.hostname or "localhost")
        found["port"] = parts.port or 6379
        db = db or parts.path.strip("/")
        if parts.scheme == "rediss":
            found["tls"] = True
    elif parts.scheme == "unix":
        found["path"] = unquote(parts.path)
    else:
        # The text may hold a password.
        raise ValueError("REDIS_URL must begin with redis://, rediss:// or unix://")
    try:
        found["db"] = int(db or 0)
    except ValueError:
        raise ValueError(f"REDIS_URL: {db} is not a database number") from None
    return found
