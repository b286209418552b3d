"""Runs a worker: reads requests, has tasks run, answers each exactly once.

Threads, and what each owns:
  reader   stdin, the protocol's state; hands tasks over in a deque; never writes
  main     runs the tasks when there is one slot: task code may use signals,
           asyncio.run and whatever else wants the main thread
  slots    run the tasks when there are several; started as they are needed
  writer   writes what the other threads have no time to write
Between them there are no locks for a task: a deque's pop and append are atomic.
"""

from __future__ import annotations

import _thread
import queue
import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Optional

from . import _messages
from ._cancel import raise_in_thread
from ._forks import leave
from ._outbox import Outbox
from ._requests import Requests
from ._signals import Signals
from ._task import Task, TaskCancelled, answer, failure

Handler = Callable[[Task], Any]


class Server:
    """State of one worker between its start and its end."""

    def __init__(self, handler: Handler, write_fd: int, concurrency: int) -> None:
        self.outbox = Outbox(write_fd)
        self.requests = Requests(self.outbox)
        self.signals = Signals(self._on_strike)
        self.limit = _messages.DEFAULT_MAX_MESSAGE_BYTES
        self.greeting: "queue.SimpleQueue[Optional[str]]" = queue.SimpleQueue()
        self.told = False  # by shutdown, rather than by the end of stdin
        self.stopping = False
        self.ended = threading.Event()
        self._handler = handler
        self._concurrency = concurrency
        self._queue: Deque[Task] = deque()
        self._active: Dict[str, Task] = {}
        self._idle: List[_thread.LockType] = []
        self._called = False  # a slot is on its way to the queue
        self._slots = concurrency  # none may start before run()
        self._slots_lock = threading.Lock()
        self._running: Optional[Task] = None  # in the main thread
        self._struck: Optional[Task] = None
        self._cancelling = threading.Lock()
        self._done: "queue.SimpleQueue[None]" = queue.SimpleQueue()
        self._forked = False

    def use(self, handler: Handler) -> None:
        """Set the handler; before run()."""
        self._handler = handler

    # For the reader.

    def accept(self, tasks: List[Task]) -> None:
        """Queue tasks that have arrived."""
        for task in tasks:
            self._active[task._key] = task
        self._queue.extend(tasks)
        self._wake_one()

    def cancel(self, key: str) -> None:
        """Give up a task: answered here if unstarted, else raised in its thread."""
        task = self._active.get(key)
        if task is None or task.cancelled:
            return
        try:
            self._queue.remove(task)
        except ValueError:
            self._interrupt(task)
            return
        task.cancelled = True
        self._finish(task, failure(task, TaskCancelled(), self.limit))
        self.outbox.kick()

    def hand_back(self) -> None:
        """Answer every unstarted task with 'not started'."""
        while True:
            try:
                task = self._queue.popleft()
            except IndexError:
                break
            self._finish(task, not_started(task._id))
        self.outbox.kick()

    def stop(self) -> None:
        """Let what runs finish, then end. Unstarted tasks go back."""
        self.stopping = True
        self.hand_back()
        if not self._active:
            self._done.put(None)
        while True:
            try:
                self._idle.pop().release()
            except IndexError:
                return

    def cancel_all(self) -> None:
        """Interrupt every running task."""
        for task in list(self._active.values()):
            self._interrupt(task)

    # For the main thread.

    def run(self) -> None:
        """Run tasks until stop() was called and the last one has ended."""
        if self._concurrency == 1:
            self._work(self._run_in_main)
        else:
            self._slots = 0
            self._wake_one()
            self._done.get()
        self.outbox.flush()
        self.ended.set()

    def after_fork(self) -> None:
        """In a child that a task forked: nothing of the protocol is its own."""
        self._forked = True
        # A thread that the child does not have may hold it.
        self._cancelling = threading.Lock()
        self.outbox.abandon()
        self.requests.end("a process that a task has forked has no sidecar to ask")
        self.signals.abandon()

    # Slots.

    def _wake_one(self) -> bool:
        """Have a slot come for the queue, if there is one; whether one will.

        One is called at a time, and calls the next when it has come. It cannot
        come before the interpreter's lock is free, and finds what is left by
        then: to wake a thread for each of many short tasks was half of their
        time.
        """
        while not self._called:
            self._called = True
            try:
                self._idle.pop().release()
            except IndexError:
                if self._slots < self._concurrency and self._queue and self._start_slot():
                    break
                self._called = False
                # A slot that has come to rest meanwhile, for a task that has come
                # meanwhile: the reader that added it was told that one was on its way.
                if not (self._idle and self._queue):
                    return False
        return True

    def _start_slot(self) -> bool:
        with self._slots_lock:
            if self._slots == self._concurrency:
                return False
            self._slots += 1
            name = f"sidecar-slot-{self._slots}"
        threading.Thread(
            target=self._work, args=(self._run_in_slot,), name=name, daemon=True
        ).start()
        return True

    def _work(self, run: Callable[[Task], str]) -> None:
        tasks, idle, outbox = self._queue, self._idle, self.outbox
        several = self._concurrency > 1
        rest = _thread.allocate_lock()
        rest.acquire()
        called = True
        while True:
            if called:
                # A task that is added after this calls another slot; what was
                # added before is seen below.
                called = self._called = False
                # The calling slot may be long at its task, and have left its answers.
                outbox.flush()
            try:
                task = tasks.popleft()
            except IndexError:
                # Nothing to do, so there is time to write what is answered.
                outbox.flush()
                if self.stopping:
                    return
                idle.append(rest)
                # A task that came before the lock was in the list woke no slot.
                if (tasks or self.stopping) and _removed(idle, rest):
                    continue
                rest.acquire()
                called = True
                continue
            if tasks and not (several and self._wake_one()):
                # This task may take long: have the answers so far written, and
                # the next task begun, by other threads.
                outbox.kick()
            self._finish(task, run(task))

    def _finish(self, task: Task, line: str) -> None:
        self._active.pop(task._key, None)
        self.outbox.post(line)
        if self.stopping and not self._active:
            self._done.put(None)

    def _run_in_main(self, task: Task) -> str:
        try:
            try:
                self._running = task
                if task.cancelled:
                    raise TaskCancelled
                value = self._handler(task)
            finally:
                self._running = None
            line = answer(task, value, self.limit)
        except BaseException as exc:
            if self._forked:
                leave(exc)
            line = failure(task, exc, self.limit)
        if self._forked:
            leave()
        self.signals.reinstall()
        return line

    def _run_in_slot(self, task: Task) -> str:
        try:
            try:
                task._thread = _thread.get_ident()
                if task.cancelled:
                    raise TaskCancelled
                value = self._handler(task)
            finally:
                task._thread = 0
                if task.cancelled:
                    # It may still be on its way to this thread.
                    with self._cancelling:
                        raise_in_thread(_thread.get_ident(), None)
            line = answer(task, value, self.limit)
        except BaseException as exc:
            if self._forked:
                leave(exc)
            line = failure(task, exc, self.limit)
        if self._forked:
            leave()
        return line

    # Cancelling.

    def _interrupt(self, task: Task) -> None:
        stop = task._stop
        if stop is not None:
            task.cancelled = True
            try:
                stop()
            except RuntimeError:
                pass  # its event loop has just ended, and so will the task
            return
        if self._concurrency == 1:
            task.cancelled = True
            self._struck = task
            self.signals.strike()
            return
        with self._cancelling:
            if task.cancelled:
                return
            task.cancelled = True
            if task._thread:
                raise_in_thread(task._thread, TaskCancelled)

    def _on_strike(self) -> None:
        # In the main thread, between two instructions of whatever it does.
        task = self._struck
        if task is not None and task is self._running:
            self._struck = None
            raise TaskCancelled


def not_started(request_id: str) -> str:
    """The answer to a task that a draining worker never began."""
    return _messages.error(request_id, _messages.NOT_STARTED, "not started: the worker is draining")


def _removed(items: List[Any], item: Any) -> bool:
    try:
        items.remove(item)
    except ValueError:
        return False
    return True
