"""Runs cases: the memory of each contestant in a process of its own, then the time of all of them in one."""

import multiprocessing as mp
import sys
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import measure
from benchmarks.cases import Case, Figure, Setting

PATIENCE = 300.0
"""Seconds after which a process is given up."""
_PRELOADED = ["torch", "lossframe.losses", "pytorch_metric_learning.losses"]
"""What every process finds imported, where it is installed."""


def run(cases: Iterable[Case], setting: Setting) -> Iterator[list[Figure]]:
    """Yield the figures of the contestants of each case; who fails is recorded, and the others go on."""
    for case in cases:
        print(f"{case.name}, {case.size:,}", file=sys.stderr, flush=True)
        peaks = {c: _in_process(measure.peak, setting, case.size, c.make) for c in case.contestants}
        able = sorted((c for c, peak in peaks.items() if not isinstance(peak, str)), key=lambda c: peaks[c])
        times: Any = ()
        while able and isinstance(
            times := _in_process(measure.rounds, setting, case.size, [c.make for c in able], case.seconds), str
        ):
            peaks[able.pop()] = times  # the largest is to blame
        rounds = dict(zip(able, times, strict=True)) if able else {}
        yield [_figure(case, c.name, peak, rounds.get(c, ())) for c, peak in peaks.items()]


def _figure(case: Case, contestant: str, peak: int | str, rounds: tuple[float, ...]) -> Figure:
    if isinstance(peak, str):
        return Figure(case.name, case.size, contestant, (), None, peak)
    return Figure(case.name, case.size, contestant, rounds, peak / 1e6, None)


def _in_process(task: Callable[..., Any], setting: Setting, *args: Any) -> Any:
    """Return what `task` returns in a process of its own, or a string that says why it did not."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    answers, answer = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(answer, task, setting, args))
    process.start()
    answer.close()
    try:
        return answers.recv() if answers.poll(PATIENCE) else f"no answer in {PATIENCE:.0f} s"
    except EOFError:
        return "killed"
    finally:
        process.kill()
        process.join()


def _work(answer: Connection, task: Callable[..., Any], setting: Setting, args: tuple[Any, ...]) -> None:
    try:
        answer.send(task(setting, *args))
    except ModuleNotFoundError as error:
        answer.send(f"no {error.name}: pip install -c constraints.txt -e '.[bench]'")
    except (MemoryError, RuntimeError) as error:
        starved = isinstance(error, MemoryError) or any(hint in str(error) for hint in ("alloc", "out of memory"))
        answer.send("out of memory" if starved else str(error).splitlines()[0])
