"""The command line in this process, which has loaded torch already."""

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest import mock

from personsearch.cli.main import main


def personsearch(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command as the shell would; return its exit status and what it printed."""
    words = ["personsearch", *map(str, arguments)]
    out, errors, status = io.StringIO(), io.StringIO(), 0
    with mock.patch.object(sys, "argv", words), redirect_stdout(out), redirect_stderr(errors):
        try:
            main()
        except SystemExit as ended:
            status = int(ended.code or 0)
    return subprocess.CompletedProcess(words, status, out.getvalue(), errors.getvalue())
