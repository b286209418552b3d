"""Redis clients for Graflow: pooled, checked, retrying, with every TLS option.

Graflow passes a client around by host, port, db and password alone, so TLS and
all other options are lost on the way. Both clients that it needs are therefore
made here, from the environment that the sidecar gives its children.

A connection here marks the errors that mean "Redis is away", so that a failure
of ours can be told from one of a Redis that a task talks to on its own account:
only the former makes the sidecar try the task again.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Tuple

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.connection import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

from ._settings import Login, Settings

# Replies that pass: a failover, a full memory, a cluster in motion.
_PASSING = (
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "OOM",
    "MISCONF",
    "BUSY ",
    "UNBLOCKED",
)


class Outages:
    """The errors of our own connections that say Redis is away."""

    def __init__(self) -> None:
        self._recent: Deque[BaseException] = deque(maxlen=32)
        self.count = 0

    def note(self, exc: BaseException, own: bool = False) -> None:
        """Mark exc if it says that Redis is away.

        own says that the password was the sidecar's. Where Redis refuses that, it is
        being changed, and the worker or the sidecar has not seen the new one yet: no
        failure of the task. (The sidecar itself ends with that, if it stays so.)
        """
        if is_outage(exc) or own and isinstance(exc, AuthenticationError):
            exc.graflow_sidecar_outage = True  # type: ignore[attr-defined]
            self._recent.append(exc)
            self.count += 1

    def clear(self) -> None:
        """Forget; a new task begins."""
        self._recent.clear()

    def last(self) -> Optional[BaseException]:
        """The latest one, if any."""
        return self._recent[-1] if self._recent else None

    def texts(self) -> Tuple[str, ...]:
        """What they say."""
        return tuple(str(exc) for exc in tuple(self._recent))


outages = Outages()


def is_outage(exc: BaseException) -> bool:
    """Whether a redis-py error says that Redis is away, not that we are wrong."""
    if isinstance(exc, (AuthenticationError, AuthorizationError)):
        return False  # ConnectionErrors by class, but waiting does not help
    if isinstance(exc.__cause__ or exc.__context__, ssl.SSLCertVerificationError):
        return False  # nor does it make another server of this one
    if isinstance(exc, (ConnectionError, TimeoutError, ReadOnlyError)):
        return True
    return isinstance(exc, ResponseError) and (
        str(exc).startswith(_PASSING)
        or type(exc).__name__ in ("OutOfMemoryError", "ClusterDownError")
    )


_PIECE = 64 << 10


def _pieces(item: Any) -> List[Any]:
    data = item.encode() if isinstance(item, str) else item
    if len(data) <= _PIECE:
        return [data]
    view = memoryview(data)
    return [view[at : at + _PIECE] for at in range(0, len(data), _PIECE)]


class _Listener:
    """Reads what Redis said on a socket that redis-py has closed after a failed write.

    Not over TLS, where it cannot be read any more.
    """

    def __init__(self, sock: Any) -> None:
        self._copy: Optional[socket.socket] = None
        if isinstance(sock, socket.socket) and not isinstance(sock, ssl.SSLSocket):
            try:
                self._copy = sock.dup()
            except OSError:
                pass

    def refusal(self) -> str:
        """The error reply that says that an argument is too long, or nothing."""
        if self._copy is None:
            return ""
        try:
            self._copy.settimeout(0.05)
            line = self._copy.recv(256).split(b"\r\n")[0].decode("utf-8", "replace")
        except OSError:
            return ""
        return line[1:] if line.startswith("-ERR Protocol error") else ""

    def close(self) -> None:
        if self._copy is not None:
            self._copy.close()


class _Marking:
    """Every way out of a connection, with its errors marked.

    login, if given, has the password for each new connection: it may have been
    changed since the pool was made.
    """

    def __init__(self, login: Optional[Login] = None, **kwargs: Any) -> None:
        self._login = login
        super().__init__(**kwargs)

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        if self._login is not None:
            self.password = self._login.password()
        return self._marked(super().connect, args, kwargs)  # type: ignore[misc]

    def send_packed_command(self, command: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(command, (str, bytes)):
            command = [command]
        command = list(command)
        if sum(map(len, command)) < _PIECE:
            return self._marked(super().send_packed_command, (command, *args), kwargs)  # type: ignore[misc]
        # The timeout of a socket is that of one piece, so that a slow link is slow and
        # not lost.
        command = [piece for item in command for piece in _pieces(item)]
        if getattr(self, "_sock", None) is None:
            self.connect()
        said = _Listener(getattr(self, "_sock", None))
        try:
            return super().send_packed_command(command, *args, **kwargs)  # type: ignore[misc]
        except RedisError as exc:
            reply = said.refusal()
            if reply:
                # Redis refuses an argument that is too long when it sees its length, and
                # closes the connection: that is no outage, and not for a second try.
                raise ResponseError(reply) from exc
            outages.note(exc, self._login is not None)
            raise
        finally:
            said.close()

    def can_read(self, *args: Any, **kwargs: Any) -> Any:
        return self._marked(super().can_read, args, kwargs)  # type: ignore[misc]

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._marked(super().read_response, args, kwargs)  # type: ignore[misc]
        except ReadOnlyError:
            # The master has moved: the next use must look its address up anew.
            self.disconnect()  # type: ignore[attr-defined]
            raise

    def _marked(self, call: Any, args: Any, kwargs: Any) -> Any:
        try:
            return call(*args, **kwargs)
        except RedisError as exc:
            outages.note(exc, self._login is not None)
            raise


class PlainConnection(_Marking, Connection):
    """Over TCP."""


class SocketConnection(_Marking, UnixDomainSocketConnection):
    """Over a Unix socket."""


class TLSConnection(_Marking, SSLConnection):
    """Over TLS; the name to check may differ from the host to connect to."""

    def __init__(self, server_name: Optional[str] = None, **kwargs: Any) -> None:
        self._server_name = server_name
        super().__init__(**kwargs)

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        # redis-py always checks the certificate against self.host.
        host, self.host = self.host, self._server_name or self.host
        try:
            return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        finally:
            self.host = host


class OneRetry(Retry):
    """Retries a command, and not once more the connecting inside it.

    redis-py nests the two, which makes 36 attempts out of 6.
    """

    _inside = threading.local()
    _once = Retry(NoBackoff(), 0)

    def call_with_retry(self, *args: Any, **kwargs: Any) -> Any:
        if getattr(self._inside, "busy", False):
            return self._once.call_with_retry(*args, **kwargs)
        self._inside.busy = True
        try:
            return super().call_with_retry(*args, **kwargs)
        finally:
            self._inside.busy = False


def make_client(
    settings: Settings, login: Optional[Login], *, text: bool, bounded: bool = True
) -> redis.Redis:
    """A client with a pool of its own; nothing is connected before its first use.

    login is that of the sidecar; None where the password is another one.
    """
    options: Dict[str, Any] = {
        "db": settings.db,
        "username": settings.username,
        "password": settings.password,
        "decode_responses": text,
        "socket_timeout": settings.socket_timeout,
        "health_check_interval": settings.health_check_interval,
        "retry": OneRetry(ExponentialBackoff(cap=2.0, base=0.1), settings.retries),
        # RESP2 gives the same replies in every version of redis-py, and no
        # maintenance notifications.
        "protocol": 2,
        "login": login,
    }
    kind: Any = PlainConnection
    if settings.path:
        kind = SocketConnection
        options["path"] = settings.path
    else:
        options.update(host=settings.host, port=settings.port)
        options.update(socket_connect_timeout=settings.connect_timeout)
        options.update(socket_keepalive=True, socket_keepalive_options=_keepalive())
    if settings.tls and not settings.path:
        kind = TLSConnection
        options.update(
            server_name=settings.server_name,
            ssl_ca_certs=settings.ca_file,
            ssl_certfile=settings.cert_file,
            ssl_keyfile=settings.key_file,
            ssl_cert_reqs="none" if settings.insecure else "required",
            ssl_check_hostname=not settings.insecure,
        )
    if bounded:
        # Waits for a free connection, where a plain pool would raise.
        pool: ConnectionPool = BlockingConnectionPool(  # type: ignore[no-untyped-call]
            max_connections=settings.max_connections, timeout=20, connection_class=kind, **options
        )
    else:
        pool = ConnectionPool(max_connections=1 << 31, connection_class=kind, **options)
    return redis.Redis(connection_pool=pool)


def _keepalive() -> Dict[int, int]:
    wanted = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
    return {getattr(socket, name): value for name, value in wanted if hasattr(socket, name)}
