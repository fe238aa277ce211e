"""Checks that every link of the built site leads to a file and an anchor of the site.

python docs/check_links.py docs/_build/html
"""

import html.parser
import pathlib
import sys
import urllib.parse


class Page(html.parser.HTMLParser):
    """The targets and the anchors of a page."""

    def __init__(self, path: pathlib.Path):
        super().__init__()
        self.targets, self.anchors = set(), {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.targets |= {values[name] for name in ("href", "src") if values.get(name)}


def broken_links(site: pathlib.Path) -> list[str]:
    """A line for each link that leads nowhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    return [
        f"{path.relative_to(site.resolve())}: {target}"
        for path, page in pages.items()
        for target in sorted(page.targets)
        if not leads_somewhere(target, path, pages)
    ]


def leads_somewhere(
    target: str, path: pathlib.Path, pages: dict[pathlib.Path, Page]
) -> bool:
    """Whether a target is outside of the site, or a file and an anchor that exist."""
    parts = urllib.parse.urlsplit(target)
    if parts.scheme or parts.netloc:
        return True
    there = (
        (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
    )
    if there in pages:
        return urllib.parse.unquote(parts.fragment) in pages[there].anchors
    return there.is_file()


if __name__ == "__main__":
    broken = broken_links(pathlib.Path(sys.argv[1]))
    print("\n".join(broken) or "Every link of the site leads somewhere.")
    sys.exit(bool(broken))
