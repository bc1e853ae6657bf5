"""The folder of a run: one command takes it, writes there what it was given, and gives that to those that go on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from lossframe import ranks
from lossframe.errors import InputError

RESOLVED = "resolved.yaml"
"""The whole configuration of a run: a folder that has one is taken."""
OVERRIDES = "overrides.yaml"
"""The arguments of a run, as typed: `ckpt=` gives them again."""


@contextmanager
def taken(folder: Path, records: Mapping[str, str], goes_on: bool) -> Iterator[None]:
    """Write records, `RESOLVED` among them, into a run's folder: never a second run over a first, or beside one.

    What fails before it trains leaves the folder as it was: free, or with the records of the run that it goes on with.
    """
    if not ranks.is_first():
        yield
        return
    paths = {folder / name: text for name, text in records.items()}
    before = {path: path.read_bytes() for path in paths if path.is_file()}
    left = _made(folder)
    try:
        (folder / RESOLVED).open("a" if goes_on else "x").close()
    except FileExistsError:
        raise InputError(
            f"{folder} holds a run already; choose another hydra.run.dir, or go on with ckpt=CHECKPOINT"
        ) from None
    try:
        for path, text in paths.items():
            path.parent.mkdir(exist_ok=True)
            new = path.with_suffix(".new")
            new.write_text(text, encoding="utf-8")
            new.replace(path)  # at once: another rank may just be reading it
        yield
    except Exception:
        if _made(folder) == left:
            for path in filter(Path.is_file, paths):
                if path in before:
                    path.write_bytes(before[path])
                else:
                    path.unlink()
        raise


def going_on(arguments: list[str]) -> list[str]:
    """Return what the run of `ckpt=RUN/checkpoints/FILE` was given, if there is one, and then what is given now.

    With another configuration, as in `--config-path`, only what is given now.
    """
    now = {_key(each): each for each in arguments if each.startswith("~") or ("=" in each and not each.startswith("-"))}
    if "ckpt" not in now or (checkpoint := now["ckpt"].partition("=")[2].strip("'\"")) in ("", "null"):
        return arguments
    if not Path(checkpoint).is_file():
        raise InputError(f"ckpt={checkpoint}: there is no such file; wanted a run's checkpoints/last.ckpt")
    if {"--config-path", "-cp", "--config-name", "-cn"} & {each.partition("=")[0] for each in arguments}:
        return arguments
    folder = Path(checkpoint).absolute().parent.parent
    given = folder / OVERRIDES
    before: list[str] = yaml.safe_load(given.read_text(encoding="utf-8")) if given.exists() else []
    flags = [each for each in before if each.startswith("-")]
    if flags:  # another configuration, which says nothing of folders
        before.append(f"hydra.run.dir='{folder}'")
    known = [each for each in before if each not in flags and _key(each) not in now]
    place = arguments.index(now["ckpt"])  # Hydra takes overrides in one piece only
    return [*flags, *arguments[:place], *known, *arguments[place:]]


def _made(folder: Path) -> set[Path]:
    """Return the files in a run's folder that training made."""
    return {path for part in ("train/*", "val/*", "csv/metrics.csv", "checkpoints/*") for path in folder.glob(part)}


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]
