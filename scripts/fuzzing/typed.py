"""Command lines of the documents with changed characters, run in this process up to the training itself."""

import contextlib
import io
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from hydra._internal.hydra import Hydra
from hydra.types import RunMode
from omegaconf import omegaconf

import lossframe.__main__ as program
from fuzzing import damage, files
from fuzzing.chance import Chance
from fuzzing.endings import FailureError, limited
from lossframe.training import cli, run

_OTHERS = ("evaluate ", "predict ", "report ", "schedule ", "losses", "init ", "train --resume ")
"""Commands beside `train` that are run, as far as they need no other machine."""

_get_mode = Hydra.get_mode
_PROCESSES = ("&", "RUN trainer=", "hydra/launcher", "hydra/sweeper")
"""Parts of commands that start other processes."""


@cache
def documented() -> tuple[str, ...]:
    """Return the documents' commands without the program's name: those that train one run, and those of one run."""
    import snippets

    shell = [block for page in snippets.documents() for block in snippets.blocks(page) if block.language == "sh"]
    lines = [command for block in shell for command in block.commands() if command.startswith("lossframe ")]
    lines = list(dict.fromkeys(line.removeprefix("lossframe ") for line in lines))
    return tuple(
        line for line in lines if line.startswith(("train ", *_OTHERS)) and not any(word in line for word in _PROCESSES)
    )


def mutated(chance: Chance, lines: tuple[str, ...]) -> list[str]:
    """Return the words of one of some commands, one word of which is changed, or the line as a whole."""
    line = chance.choose(*lines)
    command, _, rest = line.partition(" ")
    if chance.often(0.3):
        try:
            return [command, *(shlex.split(damage.of_text(rest, chance).replace("\0", "")) or [""])]
        except ValueError:  # of quotes that are not closed, about which a shell asks
            pass
    arguments = shlex.split(rest) or [""]
    place = chance.random.randrange(len(arguments))
    arguments[place] = damage.of_text(arguments[place], chance).replace("\0", "")  # which no shell passes on
    return [command, *arguments]


@contextlib.contextmanager
def in_process() -> Iterator[None]:
    """Check trainings instead of running them, and share what Hydra does for each command: yaml files, and its mode.

    Hydra composes a configuration a second time, only to read `hydra.mode`, which experiments alone set.
    """
    load = cache(omegaconf.yaml.load)
    with (
        mock.patch.object(cli, "_run", lambda config, records: run.check(config, load=False)),
        mock.patch.object(omegaconf.yaml, "load", lambda text, *args, **options: load(_text(text), *args, **options)),
        mock.patch.object(cli.launch, "local_ranks", return_value=contextlib.nullcontext()),
        mock.patch.object(Hydra, "get_mode", _mode),
    ):
        yield


def _mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    return _get_mode(hydra, config_name, overrides) if "experiment" in "".join(overrides) else RunMode.RUN


def _text(stream: Any) -> str:
    return stream if isinstance(stream, str) else str(stream.read())


def ended(words: list[str]) -> tuple[Any, str]:
    """Run a command in the present folder; return its status, or its last words, and what it wrote to stderr."""
    here, argv = Path.cwd(), sys.argv
    out, err = io.StringIO(), io.StringIO()
    os.environ["HYDRA_FULL_ERROR"] = "0"  # which the command sets
    sys.argv = ["lossframe"]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                status: Any = program.main(words)
            except SystemExit as caught:
                status = caught.code
    finally:
        os.chdir(here)
        sys.argv = argv
    if isinstance(status, str):  # which Python prints
        return 1, f"{err.getvalue()}{status}"
    shown = [line for line in out.getvalue().splitlines() if "][INFO] - " in line]
    return status or 0, err.getvalue() + "\n".join(shown if status else [])


def check(words: list[str], allowed: Callable[[Path], bool] = lambda _: False) -> str:
    """Run a command; it succeeds, or ends in one line and leaves nothing behind."""
    here = Path.cwd()
    before = {*here.iterdir()}
    try:
        with limited():
            status, written = ended(words)
    except FailureError as failure:
        raise FailureError(f"{shlex.join(words)[:300]}: {failure}") from failure
    except Exception as error:
        raise FailureError(f"{shlex.join(words)[:300]}: {error!r}"[:600]) from error
    left = {*here.iterdir()} - before
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not status:
        return "accepted"
    if not written.startswith("error: ") or "\n" in written.strip():
        raise FailureError(f"{shlex.join(words)[:300]}: wanted one line, found {written[:400]!r}")
    if left:
        raise FailureError(f"{shlex.join(words)[:300]}: left {sorted(path.name for path in left)}")
    return "refused"


def case(chance: Chance, folder: Path) -> str:
    """Run a changed command of the documents in a folder with what the documents take for granted."""
    import snippets

    before = Path.cwd()
    if not (folder / "photos").exists():
        snippets.furnish(folder, snippets.documents(), photos=10)
    shutil.rmtree(folder / "RUN", ignore_errors=True)  # a fresh one, where there is need of it
    words = mutated(chance, documented())
    if words[0] != "train" or "--resume" in " ".join(words):
        files.written(folder / "RUN")
    os.chdir(folder)
    try:
        with in_process():
            return check(words)
    finally:
        os.chdir(before)
