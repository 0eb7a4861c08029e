"""Python runs this at its start where this folder is in PYTHONPATH, before anything else is loaded."""

import os

import as_on_windows

if as_on_windows.MARK in os.environ:  # the folder alone may be in some test's path
    as_on_windows.begin()
