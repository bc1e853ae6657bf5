"""Extension of griffe that turns docstrings into the Markdown of the site: doctests become code, notes become lists."""

import re
from typing import Any

from griffe import Extension, Object

_OPTION = re.compile(r"^(?:`\w+`(?:, )?)+: ", re.MULTILINE)


def markdown(docstring: str) -> str:
    """Return a docstring with fences around its doctests, and with a line of its own for each source and origin."""
    blocks = []
    for block in docstring.split("\n\n"):
        if block.lstrip().startswith(">>>"):
            blocks.append(f"```pycon\n{block}\n```")
        elif block.startswith("Coming from"):
            blocks.append(re.sub(r"^(?=Coming from)", "- ", block, flags=re.MULTILINE))
        elif len(_OPTION.findall(block)) > 1:
            blocks.append(_OPTION.sub(r"- \g<0>", block))
        else:
            blocks.append(re.sub(r"\s+(?=Source: )", "\n\n", block))
    return "\n\n".join(blocks)


class Docstrings(Extension):
    """Rewrites the docstring of every object that is collected."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
