"""The settings of the documentation site; `make docs` builds it.

Sphinx reads the repository from its root, so a relative link works on the site as it
does in the repository.
"""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]

from bn_keras import __version__  # noqa: E402

project = "bn_keras"
author = "the bn_keras authors"
copyright = f"2026, {author}"
release = version = __version__

root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "models/**.md",
    "benchmarks/README.md",
    "notebooks/*.ipynb",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [
    "docs/_*",
    ".*",
    "**/.ipynb_checkpoints",
    "build",
    "dist",
    "demo",
    "run",
    "runs",
    "tests",
]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "docstrings",
    "long_names",
    "math_in_html",
    "optional_pages",
    "repository_links",
]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# `make docs NOTEBOOKS=off` shows the notebooks without running them.
nb_execution_mode = "off" if os.environ.get("NOTEBOOKS") == "off" else "cache"
nb_execution_cache_path = str(HERE / "_build" / "executed")
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 1800
nb_merge_streams = True
nb_output_stderr = "remove"  # TensorFlow's logs

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_param = False
napoleon_use_rtype = False  # a colon in prose does not end a type
napoleon_custom_sections = [
    ("Call arguments", "params_style"),
    "Input shape",
    "Output shape",
]

pygments_dark_style = "github-dark"
html_theme = "furo"
html_title = "bn_keras"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_theme_options = {
    "source_repository": "https://github.com/bn-keras/bn_keras/",
    "source_branch": "main",
    "source_directory": "",
    "light_css_variables": {
        "color-brand-primary": "#0b5cad",
        "color-brand-content": "#0b5cad",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7ab8f5",
        "color-brand-content": "#7ab8f5",
    },
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
