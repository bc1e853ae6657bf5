"""The command `schedule`: shows the weights that schedules give, without training."""

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import lossframe.training.run_folder.hydra_defaults  # noqa: F401 - registers what conf/ reads
from lossframe import configs
from lossframe.errors import InputError
from lossframe.objectives.schedules import Schedule, schedules
from lossframe.training.checks.user_errors import explained
from lossframe.training.configuration import composition
from lossframe.training.configuration.arguments import normalised

_BARS = 30
"""Number of characters of the longest bar."""


def shown(arguments: Sequence[str], points: int = 13, out: Path | None = None) -> str:
    """Return the weights of each schedule as a table with bars, and draw them into a PNG; `arguments` are of train."""
    found = _schedules(arguments)
    if not found:
        raise InputError("wanted a schedule, found none; add schedule.TERM={kind: linear, start: 0, end: 1, until: 5}")
    if points < 2:
        raise InputError(f"--points={points}: wanted 2 or more")
    texts = [_table(each, _places(each, points)) for each in found.values()]
    return "\n\n".join([*texts, *([] if out is None else [_draw(found, out)])])


def _schedules(arguments: Sequence[str]) -> dict[str, Schedule]:
    with explained(), initialize_config_dir(str(configs.root()), version_base="1.3"):
        config = composition.prepared(compose("train", normalised(arguments)))
        plain = cast(dict[str, Any], OmegaConf.to_container(config.schedule, resolve=True))
    return schedules(plain, list(config.loss))


def _places(schedule: Schedule, points: int) -> list[float]:
    """Return points of progress from 0 to a quarter beyond the last change."""
    end = 1.25 * schedule.horizon or 1.0
    even = [end * k / (points - 1) for k in range(points)]
    return even if schedule.unit == "epochs" else sorted({float(round(x)) for x in even})


def _table(schedule: Schedule, places: Sequence[float]) -> str:
    weights = [schedule.at(x) for x in places]
    largest = max(map(abs, weights)) or 1.0
    described = ", ".join(f"{key} {_text(value)}" for key, value in schedule.parameters.items() if _is_set(value))
    lines = [f"weight/{schedule.term}  {schedule.kind}: {described}", f"{schedule.unit:>12}  {'weight':>12}"]
    for x, weight in zip(places, weights, strict=True):
        bar = "█" * round(_BARS * abs(weight) / largest)
        lines.append(f"{x:>12g}  {weight:>12.6g}  {bar}".rstrip())
    return "\n".join(lines)


def _is_set(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _draw(found: Mapping[str, Schedule], out: Path) -> str:
    """Draw each schedule over its own unit, and return the line that says where."""
    if find_spec("matplotlib") is None:
        raise InputError(f"--out={out}: drawing wants matplotlib: pip install lossframe[report]")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((6.0, 2.5 * len(found)), dpi=100, layout="constrained")
    for axes, schedule in zip(figure.subplots(len(found), squeeze=False)[:, 0], found.values(), strict=True):
        places = _places(schedule, 400)
        axes.plot(places, [schedule.at(x) for x in places])
        axes.set(xlabel=schedule.unit, ylabel=f"weight/{schedule.term}")
    try:
        FigureCanvasAgg(figure).print_png(out)
    except OSError as error:
        raise InputError(f"--out={out}: {error.strerror}; name a file in a folder that is there") from error
    return f"picture          {out}"
