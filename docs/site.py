"""What the site needs beside its pages: the README as its home, links into the repository, the list
of commands; and a check that no page loads anything from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from benchmarks.cli import COMMANDS, summary

ROOT = Path(__file__).resolve().parents[1]
TAKEN_IN = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Pages of the repository's top folder, and what they are called on the site."""
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
EXTERNAL = re.compile(r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=\"?(https?://[^\"\s>]+)")
LINKS_ONLY = ("canonical", "next", "prev", "alternate")


def linked(text: str, folder: Path, repository: str) -> str:
    """A page of ``folder`` with its links to files outside docs/ as links into the repository.

    Raises PluginError for a link to a file that there is not.
    """

    def target(match: re.Match[str]) -> str:
        opening, path, anchor, closing = match[1], match[2], match[3] or "", match[4]
        if re.match(r"\w+:", path):
            return match[0]
        file = (folder / path).resolve()
        if file.is_relative_to(ROOT) and file.relative_to(ROOT).as_posix() in TAKEN_IN:
            name = TAKEN_IN[file.relative_to(ROOT).as_posix()]
            up = len(folder.relative_to(ROOT / "docs").parts) if folder != ROOT else 0
            return f"{opening}{'../' * up}{name}{anchor}{closing}"
        if file.is_relative_to(ROOT / "docs") and not file.is_dir():
            if folder == ROOT:
                path = path.removeprefix("docs/")
            return f"{opening}{path}{anchor}{closing}"
        if not file.exists():
            raise PluginError(f"{folder}: there is no {path} to link to.")
        return f"{opening}{repository}/{file.relative_to(ROOT)}{anchor}{closing}"

    return LINK.sub(target, text)


def commands_table() -> str:
    """All commands, what they do, and the modules that they run."""
    rows = [
        f"| `cola {name}` | {summary(module)} | `{module}` |" for name, module in COMMANDS.items()
    ]
    return "\n".join(["| command | | module |", "|---|---|---|", *rows])


def on_files(files: Files, *, config: Any) -> Files:
    """Adds the pages of the top folder."""
    for source, name in TAKEN_IN.items():
        text = linked((ROOT / source).read_text("utf-8"), ROOT, config.extra["repository"])
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Links into the repository, and the commands where a page asks for them."""
    if page.file.generated_by is None:
        folder = (ROOT / "docs" / page.file.src_uri).parent
        markdown = linked(markdown, folder, config.extra["repository"])
    return markdown.replace("<!-- commands -->", commands_table())


def on_post_page(output: str, *, page: Any, config: Any) -> str:
    """Raises PluginError for a page that a browser could not show offline."""
    for match in EXTERNAL.finditer(output):
        if not any(f"rel={word}" in match[0].replace('"', "") for word in LINKS_ONLY):
            raise PluginError(
                f"{page.file.src_uri} loads {match[1]}: the site has to work offline."
            )
    return output
