"What the tests share: the checkout, a way to run Python in it, and a browser."
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

@pytest.fixture
def root(): return ROOT

@pytest.fixture
def python(tmp_path):
    "Run `python …` in a working folder of its own, with this checkout importable; returns the finished process"
    def run(*args, cwd=tmp_path, timeout=300, **env):
        env = os.environ | dict(PYTHONPATH=str(ROOT), MPLBACKEND='agg') | env
        return subprocess.run([sys.executable, *map(str, args)], cwd=cwd, env=env, timeout=timeout,
                              capture_output=True, text=True)
    return run

@pytest.fixture
def tiny_cifar10(tmp_path, monkeypatch):
    "Makes 'cifar10' a set of 200 + 100 images, wherever it is loaded in this process; returns the folder it lies in"
    import torchvision
    from cifar_tiny import write_tiny_cifar10
    folder = tmp_path/'cifar'
    monkeypatch.setattr(torchvision.datasets, 'CIFAR10', write_tiny_cifar10(folder))
    monkeypatch.setenv('DDPM_COURSE_DATA', str(folder))
    return folder

# ---- a browser: Debian's chromium, or the one that CHROMIUM names ----------------------------------------------------

installed = map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))
CHROMIUM  = os.environ.get('CHROMIUM') or next(filter(None, installed), None)

def browser_missing():
    "Why nothing can be tested in a browser here, or None"
    if not importlib.util.find_spec('playwright'): return 'no Playwright here (pip install playwright)'
    if not CHROMIUM: return 'no Chromium here (apt install chromium, or name one: CHROMIUM=/path/to/chromium)'

@pytest.fixture(scope='session')
def chromium():
    if why := browser_missing(): pytest.skip(why)
    from playwright.sync_api import sync_playwright
    options = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
               '--disable-sync', '--no-first-run']
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()

def pytest_terminal_summary(terminalreporter):
    "Browser tests that were left out are said in one line that nobody overlooks"
    skipped = terminalreporter.stats.get('skipped', [])
    skipped = [r for r in skipped if 'test_site' in r.nodeid or 'test_lab' in r.nodeid]
    if not skipped: return
    line = f'NOT TESTED IN A BROWSER: {len(skipped)} tests: {skipped[0].longrepr[2]}'
    terminalreporter.write_line(line, red=True, bold=True)
