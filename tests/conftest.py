"What the tests share: the checkout, and a way to run Python in it."
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

@pytest.fixture
def root(): return ROOT

@pytest.fixture
def python(tmp_path):
    "Run `python …` in a working folder of its own, with this checkout importable; returns what it said"
    def run(*args, cwd=tmp_path, timeout=300, **env):
        return subprocess.run([sys.executable, *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=timeout,
                              env=os.environ | dict(PYTHONPATH=str(ROOT), MPLBACKEND='agg') | env)
    return run
