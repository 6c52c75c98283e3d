"""The benchmark that compares with the published programs, as a module."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parents[2] / "benchmarks" / "published_code.py"
_spec = importlib.util.spec_from_file_location("published_code", _FILE)
assert _spec is not None
assert _spec.loader is not None
published_code: Any = importlib.util.module_from_spec(_spec)
sys.modules["published_code"] = published_code
_spec.loader.exec_module(published_code)
