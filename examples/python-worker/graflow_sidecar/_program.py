"""The sidecar's program: where it is, and starting it in place of this process."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
from typing import List, NoReturn, Optional

# Beside this package, in wheels for a platform.
_BUNDLED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "sidecar")

_SOURCE = "https://github.com/graflow/graflow-sidecar"

# The sidecar's exit status for a setting that is wrong.
_CONFIG = 78


class Missing(Exception):
    """There is no program, and the text says what to do."""


def find(binary: Optional[str] = None) -> str:
    """Give the path of the program.

    It is binary, else SIDECAR_BIN, else the one that this package was installed
    with, else "sidecar" on PATH. Raises Missing.
    """
    name = binary or os.environ.get("SIDECAR_BIN")
    if not name:
        if os.path.isfile(_BUNDLED):
            return _BUNDLED
        name = "sidecar"
    found = shutil.which(name)
    if found is not None:
        return found
    if name != "sidecar":
        raise Missing(f"there is no {name}: pass binary=, set SIDECAR_BIN, or put the sidecar on PATH")
    raise Missing(
        f"graflow-sidecar was installed without its program, which wheels have for Linux and macOS"
        f" (this is {platform.system()} {platform.machine()}): install such a wheel with a newer pip,"
        f" or build it from {_SOURCE} and set SIDECAR_BIN to its path"
    )


def main(arguments: Optional[List[str]] = None) -> NoReturn:
    """Become the program: no process of Python stays.

    Graflow's tasks run with the Python that runs this, unless SIDECAR_PYTHON or
    --python says another. A manifest is for other machines, and has no path of this one.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    try:
        program = find()
    except Missing as problem:
        _fail(str(problem))
    env = dict(os.environ)
    # The program refuses names that it does not know.
    env.pop("SIDECAR_BIN", None)
    here = arguments[:1] != ["manifest"]
    if here and sys.executable and not env.get("SIDECAR_PYTHON"):
        env["SIDECAR_PYTHON"] = sys.executable
    # Python ignores these signals, and what is ignored stays so in the program and
    # in its workers.
    for name in ("SIGPIPE", "SIGXFSZ"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execve(program, [program, *arguments], env)
    except OSError as problem:
        _fail(
            f"{program} cannot be started: {problem.strerror}"
            f" (this is {platform.system()} {platform.machine()})"
        )


def _fail(text: str) -> NoReturn:
    print(f"graflow-sidecar: {text}", file=sys.stderr)
    sys.exit(_CONFIG)
