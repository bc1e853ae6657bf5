"""The folder of a run: one command takes it, writes there what it was given, and gives that to those that go on."""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from lossframe.errors import InputError
from lossframe.training import launch

RESOLVED = "resolved.yaml"
"""The whole configuration of a run."""
OVERRIDES = "overrides.yaml"
"""The arguments of a run, as typed: `ckpt=` gives them again."""

_OTHER = {"--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"}
"""The flags that choose another configuration."""
_MADE = ("train/*", "val/*", "test/*", "csv/metrics.csv", "checkpoints/*", "metrics.json")
"""What training and testing make in the folder."""
_PATIENCE = 10.0
"""Seconds for which the workers of a process that was killed may outlive it."""


@contextmanager
def taken(folder: Path, records: Mapping[str, str], goes_on: bool) -> Iterator[None]:
    """Write records, `RESOLVED` among them, into a run's folder, and hold it: nobody else trains there meanwhile.

    A folder in which something was trained is taken only by who goes on. What ends before it trains leaves what was
    there before. An `InputError` where the folder is not to be had.
    """
    if not launch.is_first():
        yield
        return
    with _held(folder, _PATIENCE if goes_on else 0.0):
        left = _made(folder)
        if left and not goes_on and (folder / RESOLVED).exists():
            raise InputError(
                f"{folder} holds a run already; choose another hydra.run.dir, or go on with ckpt=CHECKPOINT"
            )
        paths = {folder / name: text.encode() for name, text in records.items()}
        before = {path: path.read_bytes() for path in paths if path.is_file()}
        try:
            for path, content in paths.items():
                _write(path, content)
            yield
        except BaseException:
            if not _made(folder) - left:
                for path in paths:
                    if path in before:
                        _write(path, before[path])
                    elif path.is_file():
                        path.unlink()
            raise


def going_on(arguments: list[str]) -> list[str]:
    """Return what the run of `ckpt=RUN/checkpoints/FILE` was given, if there is one, and then what is given now.

    With another configuration, as in `--config-path`, only what is given now. An `InputError` if the checkpoint is not
    there, or what the run was given is damaged.
    """
    now = {_key(each): each for each in arguments if each.startswith("~") or ("=" in each and not each.startswith("-"))}
    if "ckpt" not in now or (checkpoint := now["ckpt"].partition("=")[2].strip("'\"")) in ("", "null"):
        return arguments
    if not Path(checkpoint).is_file():
        raise InputError(f"ckpt={checkpoint}: there is no such file; wanted a run's checkpoints/last.ckpt")
    if _OTHER & {each.partition("=")[0] for each in arguments}:
        return arguments
    folder = Path(checkpoint).absolute().parent.parent
    before = _given(folder / OVERRIDES)
    flags = [each for each in before if each.startswith("-")]
    if flags:  # another configuration, which says nothing of folders
        quoted = str(folder).replace("'", r"\'")
        before.append(f"hydra.run.dir='{quoted}'")
    known = [each for each in before if each not in flags and _key(each) not in now]
    place = arguments.index(now["ckpt"])  # Hydra takes overrides in one piece only
    return [*flags, *arguments[:place], *known, *arguments[place:]]


def _given(path: Path) -> list[str]:
    if not path.exists():
        return []
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = error
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return found
    raise InputError(
        f"{path} is damaged: wanted the run's overrides, as `- KEY=VALUE` each, found {found!r}; mend it, or delete it "
        "and give them again"
    )


@contextmanager
def _held(folder: Path, patience: float) -> Iterator[None]:
    """Hold a folder as long as this process lives, where the file system can; an `InputError` if another has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    until = time.monotonic() + patience
    try:
        while not _locked(descriptor):
            if time.monotonic() > until:
                raise InputError(f"{folder}: another process trains there; wait for its end, or choose another folder")
            time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _made(folder: Path) -> set[tuple[Path, int]]:
    """Return the files in a run's folder that training or testing made, and when they were written."""
    return {(path, path.stat().st_mtime_ns) for part in _MADE for path in folder.glob(part)}


def _write(path: Path, content: bytes) -> None:
    """Write a file at once: another rank may just be reading it."""
    path.parent.mkdir(exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_bytes(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
