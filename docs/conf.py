"""The configuration of the API reference: `python -m sphinx -W -n docs out/docs`."""

from __future__ import annotations

from nblb import __version__

project = "nblb"
author = "the nblb maintainers"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["images"]
html_theme = "furo"
html_title = f"nblb {__version__}"

myst_heading_anchors = 3
autodoc_default_options = {"members": True, "inherited-members": False}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False

# A broken reference fails the build. The documents of other packages are not there without a network, and the inner
# types of nblb that appear in signatures are not public.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!nblb\.).*"),
    (r"py:.*", r"nblb\.(?!([A-Za-z]+)$).*"),
]
suppress_warnings = ["misc.highlighting_failure"]  # mermaid diagrams, which GitHub draws, have no lexer here
