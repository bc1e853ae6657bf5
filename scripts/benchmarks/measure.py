"""What runs in the process of a measurement: the time and the peak memory of steps."""

import itertools
import os
import resource
import time
from pathlib import Path

import torch

from benchmarks.cases import Make, Setting, Step

CAP = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 2 // 3
"""How many bytes a process on a CPU may allocate before an allocation fails: two thirds of the machine's."""
_SAMPLE = 0.02
"""Seconds that one sample of the time takes at least; shorter steps are repeated."""
_SMALL = 32
"""The size of the step that loads what is loaded at the first call."""


def rounds(setting: Setting, size: int, makes: list[Make], seconds: float) -> list[tuple[float, ...]]:
    """Return the seconds of each contestant's step in rounds in which everyone has a turn."""
    device = _prepare(setting)
    timers = [_Timer(_step(make, size, device), device) for make in makes]
    samples: list[list[float]] = [[] for _ in timers]
    started = time.perf_counter()
    for done in itertools.count(1):
        for timer, taken in zip(timers, samples, strict=True):
            taken.append(timer.sample())
        passed = time.perf_counter() - started
        if (done >= setting.repeats and passed > seconds) or (done >= 3 and passed > 6 * seconds):
            break
    return [tuple(taken) for taken in samples]


class _Timer:
    def __init__(self, step: Step, device: torch.device) -> None:
        self.step, self.device, self.calls = step, device, 1
        self.sample()  # what is not warm yet
        self.calls = max(1, round(_SAMPLE / self.sample()))

    def sample(self) -> float:
        """Return the seconds of one call."""
        _wait(self.device)
        started = time.perf_counter()
        for _ in range(self.calls):
            self.step()
        _wait(self.device)
        return (time.perf_counter() - started) / self.calls


def peak(setting: Setting, size: int, make: Make) -> int:
    """Return the bytes that the first step takes beyond its inputs, at their peak."""
    device = _prepare(setting)
    _step(make, min(_SMALL, size), device)()
    step = _step(make, size, device)
    _wait(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _memory("VmRSS")
    step()
    return _memory("VmHWM") - before


def _prepare(setting: Setting) -> torch.device:
    torch.set_num_threads(setting.threads)
    if setting.device == "cpu":
        limit = _memory("VmData") + CAP
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return torch.device(setting.device)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _step(make: Make, size: int, device: torch.device) -> Step:
    torch.manual_seed(0)
    return make(size, device)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
