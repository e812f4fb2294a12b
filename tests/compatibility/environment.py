"""The virtual environment, outside of the tree's own, in which other people's packages run, and their sources."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from suites import Suite

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
REQUIREMENTS = ROOT / "ci" / "compatibility.txt"


class Environment:
    """An interpreter with what `REQUIREMENTS` lists, and manyhands as a user installs it: from a wheel."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"

    def set_up(self) -> None:
        """Make it, or bring it up to date."""
        if not self.python.exists():
            self._run(sys.executable, "-m", "venv", "--clear", self.folder / "venv")
        self._pip("install", "-r", REQUIREMENTS)
        wheels = self.folder / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        maturin = Path(sys.executable).with_name("maturin")
        self._run(
            maturin, "build", "--release", "--quiet", "--interpreter", self.python, "--out", wheels, cwd=ROOT
        )
        (wheel,) = wheels.glob("*.whl")
        self._pip("install", "--force-reinstall", "--no-deps", wheel)

    def check(self) -> None:
        """Make sure that the two runs of a suite would not be the same: by the start-up hook manyhands is installed."""
        asks = "import multiprocessing as m; print(type(m.Queue()).__module__)"
        for value, expected in (("0", "multiprocessing.queues"), ("1", "manyhands.queues")):
            command = [str(self.python), "-c", asks]
            variables = {**os.environ, "MANYHANDS_INSTALL": value}
            found = subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True)
            if found.stdout.strip() != expected:
                sys.exit(f"MANYHANDS_INSTALL={value}: a queue is of {found.stdout.strip()}, not {expected}")

    def version(self, package: str) -> str:
        """The version that is installed."""
        return self._versions()[package.lower()]

    def key(self, suite: Suite) -> str:
        """What a run of the suite on the standard library depends on."""
        versions = {name: version for name, version in self._versions().items() if name != "manyhands"}
        programs = [path.read_text() for path in sorted((HERE / "programs").rglob("*.py"))]
        about = [repr(suite), sorted(versions.items()), programs if suite.origin == "programs" else []]
        python = self._output(self.python, "-VV")
        return hashlib.sha256(json.dumps([about, python]).encode()).hexdigest()[:16]

    def tests_of(self, suite: Suite) -> tuple[Path, list[str]]:
        """The folder in which the suite's pytest runs, and the paths that it is given."""
        if suite.origin == "programs":
            return HERE / "programs", list(suite.paths)
        if suite.origin == "source":
            return self._source(suite.package), list(suite.paths)
        (site,) = (self.folder / "venv" / "lib").glob("python*/site-packages")
        return site, list(suite.paths)

    def _source(self, package: str) -> Path:
        """The source distribution of the version that is installed."""
        name = f"{package}-{self.version(package)}"
        folder = self.folder / "sources"
        if not (folder / name).is_dir():
            folder.mkdir(exist_ok=True)
            wanted = f"{package}=={self.version(package)}"
            self._pip("download", "--no-deps", "--no-binary", package, "--dest", folder, wanted)
            with tarfile.open(folder / f"{name}.tar.gz") as archive:
                archive.extractall(folder, filter="data")
        return folder / name

    def _versions(self) -> dict[str, str]:
        listed = json.loads(self._output(self.python, "-m", "pip", "list", "--format=json", *_QUIET))
        return {package["name"].lower(): package["version"] for package in listed}

    def _pip(self, *arguments: str | Path) -> None:
        self._run(self.python, "-m", "pip", arguments[0], "--quiet", *_QUIET, *arguments[1:])

    def _run(self, *command: str | Path, cwd: Path | None = None) -> None:
        subprocess.run([str(part) for part in command], check=True, cwd=cwd)

    def _output(self, *command: str | Path) -> str:
        run = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True)
        return run.stdout


_QUIET = ("--disable-pip-version-check", "--no-input")
