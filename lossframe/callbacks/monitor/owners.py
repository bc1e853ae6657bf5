"""Makes sure that every curve of a run has a tag of its own."""

from collections.abc import Callable, Iterable

from lossframe.errors import InputError
from lossframe.loggers import tags
from lossframe.statistics import series
from lossframe.statistics.recorder import Recorder


class Owners:
    """Remembers what owns each tag, and raises an `InputError` if a tag would have two owners."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def claim(self, tag: str, owner: str) -> None:
        """Give a tag to an owner, described in words such as "term 'b'"."""
        other = self._owners.setdefault(tag, owner)
        if tags.names_dataloader(tag):
            other = "one of several dataloaders"
        if other != owner:
            raise InputError(f"{other} and {owner} would share the curve {tag!r}: rename one of them")

    def has(self, tag: str) -> bool:
        """Return whether a tag has an owner."""
        return tag in self._owners


class Claims:
    """Returns the tags of one recorder's names, and claims them for it when a name is first seen.

    The names that a loss logs are known only once it has logged them; `known` are claimed at once.
    """

    def __init__(
        self, recorder: Recorder, owner: str, tag: Callable[[str], str], owners: Owners, known: Iterable[str]
    ) -> None:
        self._recorder = recorder
        self._owner = owner
        self._tag = tag
        self._owners = owners
        self._tags: dict[str, str] = {}
        for name in known:
            self(name)

    def __call__(self, name: str) -> str:
        """Return the tag of a name's mean."""
        tag = self._tags.get(name)
        if tag is None:
            tag = self._tags[name] = self._tag(name)
            own = name in ("loss", tags.TOTAL)
            for each in statistics(self._recorder, name):
                what = [f"the {each.suffix}"] if each.suffix else []
                what += [] if own else [repr(name)]
                self._owners.claim(each.tag(tag), " of ".join([*what, self._owner]))
        return tag


def statistics(recorder: Recorder, name: str = "loss") -> list[series.Statistic]:
    """Return the statistics that a recorder shows of a name."""
    return [each for each in series.SERIES if recorder.shows(each, name)]
