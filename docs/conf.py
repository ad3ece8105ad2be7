"""The documentation site: Sphinx with furo, pages in Markdown, the tutorial executed when built."""

from importlib.metadata import version as installed_version

project = "synfoc"
author = "The synfoc developers"
version = release = installed_version("synfoc")
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
html_theme = "furo"
html_title = "synfoc"
html_static_path: list[str] = []
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Files of the project that pages link to are no pages of the site.
suppress_warnings = ["myst.xref_missing"]

nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
