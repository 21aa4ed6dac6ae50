"""Reads the documentation: tables under headings, links, blocks of YAML. Knows nothing of what they say."""

import re
from collections.abc import Iterator
from pathlib import Path

from llmproxy_site.environment import PROJECT

DOCS = PROJECT / "docs"
PAGES = sorted([*PROJECT.glob("*.md"), *DOCS.rglob("*.md")])
_CODE = re.compile(r"`([^`]+)`")

Row = list[str]


def section(page: str, heading: str) -> str:
    """What stands under a heading, up to the next one."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"docs/{page} has no section {heading!r}"
    return found[1]


def table(page: str, heading: str) -> list[Row]:
    """The rows of the one table under a heading, without its head."""
    lines = [line for line in section(page, heading).splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in lines]
    assert len(rows) > 2, f"docs/{page} has no table under {heading!r}"
    return rows[2:]


def named(page: str, heading: str, column: int = 0) -> list[str]:
    """The first code word of each row's column."""
    return [code(row[column]) for row in table(page, heading)]


def code(cell: str) -> str:
    found = _CODE.search(cell)
    assert found, f"no code in the cell {cell!r}"
    return found[1]


def links(page: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", without_blocks(page))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_blocks(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def yaml_blocks() -> Iterator[tuple[str, str]]:
    """Name and text of every block, and of the example file."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for number, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE), 1):
            yield f"{page.name}-{number}", block
    yield "llmproxy.yaml.example", (PROJECT / "llmproxy.yaml.example").read_text(encoding="utf-8")
