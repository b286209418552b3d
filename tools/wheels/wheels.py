"""Makes the wheels of graflow-sidecar; scripts/wheels runs it.

setuptools makes the one without a binary from examples/python-worker. The others are that
one with the binary, the command that starts it, and the licences of what is linked into it.

Usage: wheels.py REPOSITORY BUILD_DIR OUT VERSION
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.version import InvalidVersion, Version
from wheel.wheelfile import WheelFile

# A static binary needs no C library, and so has the tags of the oldest ones that pip
# knows. Go's oldest macOS is 12.
TAGS = {
    "linux-amd64": ["manylinux2014_x86_64", "manylinux_2_17_x86_64", "musllinux_1_1_x86_64"],
    "linux-arm64": ["manylinux2014_aarch64", "manylinux_2_17_aarch64", "musllinux_1_1_aarch64"],
    "darwin-amd64": ["macosx_12_0_x86_64"],
    "darwin-arm64": ["macosx_12_0_arm64"],
}
SOURCE = "https://github.com/graflow/graflow-sidecar/blob/main/"


def main() -> None:
    top, build, out = (Path(path).resolve() for path in sys.argv[1:4])
    try:
        version = Version(sys.argv[4])
    except InvalidVersion:
        sys.exit(f"wheels: {sys.argv[4]} is no version that Python packages can have")
    if version.local:
        sys.exit(f"wheels: {sys.argv[4]}: a package index takes no version with a +")
    os.umask(0o022)
    with tempfile.TemporaryDirectory() as name:
        stage = Path(name)
        pure = pure_wheel(top, stage, str(version))
        for platform in os.environ.get("DIST_PLATFORMS", "").split() or TAGS:
            with_binary(top, build, out, stage / platform, pure, platform, TAGS[platform])
        unpacked = stage / "pure"
        unpack(pure, unpacked)
        pack(unpacked, out / pure.name)


def pure_wheel(top: Path, stage: Path, version: str) -> Path:
    """Build the wheel that setuptools makes of the sources, with the version put in."""
    source = stage / "source"
    package = top / "examples/python-worker"
    source.mkdir()
    (source / "graflow_sidecar").mkdir()
    for path in sorted((package / "graflow_sidecar").iterdir()):
        if path.suffix == ".py" or path.name == "py.typed":
            shutil.copyfile(path, source / "graflow_sidecar" / path.name)
    shutil.copyfile(top / "LICENSE", source / "LICENSE")
    replace(package / "pyproject.toml", source / "pyproject.toml", r'^version = ".*"$', f'version = "{version}"')
    init = "graflow_sidecar/__init__.py"
    replace(package / init, source / init, r'^__version__ = ".*"$', f'__version__ = "{version}"')
    # The page of a package index is not in the repository.
    replace(package / "README.md", source / "README.md", r"\]\(\.\./\.\./", f"]({SOURCE}")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--disable-pip-version-check", "--wheel-dir", str(stage / "built"), str(source)),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )
    if done.returncode != 0:
        sys.exit(f"wheels: setuptools could not build the package:\n{done.stdout}")
    (wheel,) = (stage / "built").iterdir()
    return wheel


def replace(source: Path, target: Path, pattern: str, text: str) -> None:
    changed, times = re.subn(pattern, text, source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if times == 0:
        sys.exit(f"wheels: {source} has no line of the form {pattern}")
    target.write_text(changed, encoding="utf-8")


def with_binary(
    top: Path, build: Path, out: Path, stage: Path, pure: Path, platform: str, tags: "list[str]"
) -> None:
    unpack(pure, stage)
    (info,) = stage.glob("*.dist-info")
    data = stage / info.name.replace(".dist-info", ".data")
    place(build / f"sidecar-{platform}", stage / "graflow_sidecar/bin/sidecar", 0o755)
    place(top / "examples/python-worker/wheel/graflow-sidecar", data / "scripts/graflow-sidecar", 0o755)
    place(build / "THIRD_PARTY_NOTICES", info / "licenses/THIRD_PARTY_NOTICES")
    place(build / f"sidecar-{platform}.cdx.json", info / "sboms/graflow-sidecar.cdx.json")
    # The command is the file of .data; an installer writes its Python into this one.
    replace(info / "entry_points.txt", info / "entry_points.txt", r"^graflow-sidecar =", "graflow-sidecar-python =")
    replace(
        info / "METADATA", info / "METADATA",
        r"^License-File: LICENSE$", "License-File: LICENSE\nLicense-File: THIRD_PARTY_NOTICES",
    )
    lines = "\n".join(f"Tag: py3-none-{tag}" for tag in tags)
    replace(info / "WHEEL", info / "WHEEL", r"^Tag: py3-none-any$", lines)
    replace(info / "WHEEL", info / "WHEEL", r"^Root-Is-Purelib: true$", "Root-Is-Purelib: false")
    pack(stage, out / pure.name.replace("-any.whl", f"-{'.'.join(tags)}.whl"))


def place(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def unpack(wheel: Path, folder: Path) -> None:
    with WheelFile(wheel) as archive:
        archive.extractall(folder)


def pack(folder: Path, wheel: Path) -> None:
    """Write a wheel; WheelFile sorts, takes times from SOURCE_DATE_EPOCH and writes RECORD."""
    with WheelFile(wheel, "w") as archive:
        archive.write_files(str(folder))


if __name__ == "__main__":
    main()
