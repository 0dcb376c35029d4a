"""JupyterLab in a real browser: a chapter is opened and run from top to bottom, and its sliders change its picture.

LAB_CHAPTERS="00_core 03_forward" runs others, LAB_CHAPTERS=all every one."""
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from conftest import ROOT

try: from playwright.sync_api import TimeoutError
except ImportError: pass                                               # then everything here is skipped

WHICH = os.environ.get('LAB_CHAPTERS', '03_forward').split()
CHAPTERS = sorted(p.stem for p in (ROOT/'nbs').glob('[0-9]*.ipynb')) if WHICH == ['all'] else WHICH
SECONDS = int(os.environ.get('LAB_SECONDS', 300))                      # for one chapter to run

def copy_course(home):
    "The notebooks and one that fails, under home/work; settings for JupyterLab"
    shutil.copytree(ROOT/'nbs', home/'work'/'nbs', ignore=shutil.ignore_patterns('.*'))
    for name in ('data', 'images'): shutil.copytree(ROOT/name, home/'work'/name)

    cell   = dict(cell_type='code', id='a', metadata={}, source='1/0', execution_count=None, outputs=[])
    kernel = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    broken = dict(cells=[cell], metadata=kernel, nbformat=4, nbformat_minor=5)
    (home/'work'/'nbs'/'broken.ipynb').write_text(json.dumps(broken))

    settings = home/'settings'/'@jupyterlab'/'notebook-extension'/'tracker.jupyterlab-settings'
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps(dict(windowingMode='none')))        # every cell is in the page, seen or not

def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

def start_server(home, port):
    "JupyterLab in a process of its own, which writes below `home` only"
    folders = dict(JUPYTER_CONFIG_DIR='config', JUPYTER_DATA_DIR='data', JUPYTER_RUNTIME_DIR='runtime',
                   IPYTHONDIR='ipython', JUPYTERLAB_SETTINGS_DIR='settings', JUPYTERLAB_WORKSPACES_DIR='workspaces')
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root',
               '--ip=127.0.0.1', f'--port={port}', '--ServerApp.port_retries=0',
               '--IdentityProvider.token=course', f'--ServerApp.root_dir={home}/work',
               '--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate', '--LabApp.news_url=None']

    env = os.environ | {k: str(home/v) for k, v in folders.items()}
    env |= dict(PYTHONPATH=str(ROOT), IN_TEST='1', TQDM_DISABLE='1')
    with open(home/'log', 'w') as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=home/'work')

def wait_for_server(server, base, log):
    "Until it answers; two minutes at most"
    started = time.time()
    while True:
        try:
            urllib.request.urlopen(f'{base}/api/status?token=course', timeout=5)
            return
        except OSError:
            assert server.poll() is None and time.time() - started < 120, log.read_text()[-3000:]
            time.sleep(.3)

@pytest.fixture(scope='session')
def lab(chromium, tmp_path_factory):
    "A JupyterLab on loopback over a copy of the notebooks; the address of a notebook by its name"
    home = tmp_path_factory.mktemp('lab')
    copy_course(home)
    port   = free_port()
    server = start_server(home, port)
    base   = f'http://127.0.0.1:{port}'
    wait_for_server(server, base, home/'log')

    yield lambda name: f'{base}/lab/tree/nbs/{name}.ipynb?reset&token=course'

    server.terminate()
    try: server.wait(20)
    except subprocess.TimeoutExpired: server.kill()

IDLE = "() => document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'"
DONE = """() => [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')]
          .every(c => !c.querySelector('.cm-content')?.innerText.trim()
                      || /\\[\\d+\\]/.test(c.querySelector('.jp-InputPrompt').innerText))"""
STARTED = """() => [...document.querySelectorAll('.jp-Notebook .jp-InputPrompt')]
             .some(e => /\\[(\\*|\\d+)\\]/.test(e.innerText))"""
FAILED = """() => [...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output')].map(e => e.innerText)
            .filter(t => t.includes('Traceback (most recent call last)')).map(t => t.slice(-2000))"""

@pytest.fixture
def notebook(chromium, lab):
    "Open a chapter and run it from top to bottom"
    page = chromium.new_page(viewport=dict(width=1280, height=900))

    def run(name):
        page.goto(lab(name))
        page.locator('.jp-Notebook').wait_for(timeout=60_000)
        page.wait_for_function(IDLE, timeout=60_000)
        page.locator('.jp-Notebook .jp-Cell').first.click()
        page.keyboard.press('Escape')
        for _ in range(4):                                 # on a busy machine the kernel may come later than the menu
            page.get_by_role('menuitem', name='Run', exact=True).click()
            page.locator('[data-command="runmenu:run-all"]').click()
            try:
                page.wait_for_function(STARTED, timeout=20_000)
                break
            except TimeoutError: continue

        page.wait_for_function(f'() => ({FAILED})().length || ({DONE})()', timeout=SECONDS*1000)
        assert page.evaluate(FAILED) == []
        return page

    yield run
    page.close()

def test_an_error_is_seen(notebook):
    with pytest.raises(AssertionError, match='ZeroDivisionError'): notebook('broken')

NEW_PICTURE = """([panel, old]) => panel.querySelector('.jp-OutputArea img')
                                && [...panel.querySelectorAll('.jp-OutputArea img')].at(-1).src !== old"""

@pytest.mark.parametrize('name', CHAPTERS)
def test_chapter_runs_and_its_sliders_move(notebook, name):
    page = notebook(name)
    panel = page.locator('.jp-Cell', has=page.locator('.widget-interact')).first
    if not panel.count(): return                                       # a chapter without sliders
    picture = panel.locator('.jp-OutputArea img').last
    picture.wait_for(timeout=60_000)

    for slider in reversed(panel.locator('.widget-slider .noUi-handle').all()):
        before = picture.get_attribute('src')
        slider.focus()
        for _ in range(3): page.keyboard.press('ArrowRight')
        try:
            page.wait_for_function(NEW_PICTURE, arg=[panel.element_handle(), before], timeout=15_000)
            break
        except TimeoutError: continue                                  # not every slider changes the picture
    else: raise AssertionError(f'{name}: no slider changed its picture')
    assert page.evaluate(FAILED) == []
