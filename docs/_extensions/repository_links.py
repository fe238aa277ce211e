"""Makes the links of pages that are written for the repository work on the site.

A notebook also runs in Colab, so it links to the repository on GitHub; on the site its
links stay on the site. A page of the repository has its anchors in HTML.
"""

import pathlib
import re

ON_GITHUB = re.compile(
    r"https://github\.com/bn-keras/bn_keras/blob/main/([\w./-]+\.(?:md|ipynb))(?=[)#])"
)
ANCHOR = re.compile(r'^<a id="([\w-]+)"></a>$', re.MULTILINE)


def setup(app):
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True}


def rewrite(app, docname, content):
    text = ON_GITHUB.sub(lambda found: on_site(app, found), content[0])
    content[0] = ANCHOR.sub(r"(\1)=", text)


def on_site(app, found: re.Match) -> str:
    """The path from the root of the repository, of a page that the site has."""
    name = str(pathlib.PurePosixPath(found[1]).with_suffix(""))
    return f"/{found[1]}" if name in app.env.found_docs else found[0]
