"""Raises an exception in another thread."""

from __future__ import annotations

from typing import Optional, Type


def raise_in_thread(ident: int, kind: Optional[Type[BaseException]]) -> None:
    """Raise kind in that thread at its next bytecode; None takes it back.

    Code that waits inside C (a sleep, a read) does not see it before that
    returns. Without ctypes, which small builds of Python lack, nothing happens:
    a cancel is a request, and the sidecar ends the process if it must.
    """
    try:
        import ctypes

        raiser = ctypes.pythonapi.PyThreadState_SetAsyncExc
    except (ImportError, AttributeError):
        return
    raised = ctypes.py_object(kind) if kind is not None else None
    raiser(ctypes.c_ulong(ident), raised)
