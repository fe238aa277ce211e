"""Keeps links of notebooks on the site.

A notebook also runs in Colab, so it links to the repository on GitHub.
"""

import pathlib
import re

ON_GITHUB = re.compile(
    r"https://github\.com/bn-keras/bn_keras/blob/main/([\w./-]+\.(?:md|ipynb))(?=[)#])"
)


def setup(app):
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True}


def rewrite(app, docname, content):
    content[0] = ON_GITHUB.sub(lambda found: on_site(app, found), content[0])


def on_site(app, found: re.Match) -> str:
    """The path from the root of the repository, of a page that the site has."""
    known = app.env.found_docs
    return (
        f"/{found[1]}"
        if str(pathlib.PurePosixPath(found[1]).with_suffix("")) in known
        else found[0]
    )
