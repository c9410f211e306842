"""The version of nblb and the folder of its package, for modules that must not import the package itself."""

import os.path

__version__ = "0.1.0"

PACKAGE_FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # pathlib is slow to import
