"""Hooks of mkdocs: add the pages outside docs/, map links between files to pages, and draw formulas as MathML."""

import posixpath
import re
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = ("DESIGN.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""Pages in the repository's root, which the site has in lower case."""
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?://|#)([^)#\s]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def source_of(uri: str) -> str:
    """Return where the repository has the page that the site has at `uri`, as docs/index.md for index.md."""
    for name in OUTSIDE:
        if uri == name.lower():
            return name
    return uri if uri.startswith("experiments/") else f"docs/{uri}"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in docs/."""
    experiments = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "experiments").rglob("README.md"))]
    for source in [*OUTSIDE, *experiments]:
        uri = source if source in experiments else source.lower()
        files.append(File.generated(config, uri, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Map links between files of the repository to links between pages, and formulas from GitHub's form."""
    sources = {source_of(file.src_uri): file.src_uri for file in files}
    here = posixpath.dirname(source_of(page.file.src_uri))

    def mapped(link: re.Match[str]) -> str:
        text, target, anchor = link.groups()
        uri = sources.get(posixpath.normpath(posixpath.join(here, target)))
        if uri is None:  # a file without a page, as of code; a missing one is found by tests/documents
            return text
        return f"[{text}]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{anchor or ''})"

    def outside_of_code(text: str) -> str:
        return re.sub(r"\$`([^`]+)`\$", r"$\1$", _LINK.sub(mapped, text))

    parts = _FENCE.split(markdown), _FENCE.findall(markdown)
    fences = [*parts[1], ""]
    return "".join(outside_of_code(text) + fence for text, fence in zip(parts[0], fences, strict=True))


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Replace each formula by MathML, which browsers draw without a script."""
    for display, opening, closing in (("inline", r"\(", r"\)"), ("block", r"\[", r"\]")):
        tags = rf'<(span|div) class="arithmatex">{re.escape(opening)}(.*?){re.escape(closing)}</\1>'
        html = re.sub(tags, partial(_mathml, display), html, flags=re.DOTALL)
    return html


def _mathml(display: str, formula: re.Match[str]) -> str:
    return convert(unescape(formula[2]), display=display)
