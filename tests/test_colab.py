"The first cell of a chapter, as Colab runs it: from a repository, with pip, where torch is installed already."
import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT/'tools'))
import colab  # noqa: E402

COLAB = 'class Shell:\n    def __str__(self): return "<google.colab._shell.Shell object>"\nget_ipython = Shell\n'
HERE = 'get_ipython = lambda: None\n'
TELL = 'import os; print(os.getcwd()); import ddpm_course; print(ddpm_course.__file__)\n'

@pytest.fixture(scope='module')
def repository(tmp_path_factory):
    "What would lie on GitHub, small: the package, its set-up and a place for chapters and data"
    made = tmp_path_factory.mktemp('github')/'course.git'
    shutil.copytree(ROOT/'ddpm_course', made/'ddpm_course', ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'MANIFEST.in'):
        shutil.copy(ROOT/name, made)
    for name in ('nbs', 'data'):
        (made/name).mkdir()
        (made/name/'here').touch()

    git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@b', '-C', str(made)]
    for command in (['init', '-q', '-b', 'main'], ['add', '-A'], ['commit', '-qm', 'all']):
        subprocess.run([*git, *command], check=True)
    return made

def test_cell_installs_what_is_missing_and_finds_the_data(python, repository, tmp_path):
    address = colab.settings()['git_url']
    cell = colab.source().replace(address, repository.as_uri())
    assert repository.as_uri() in cell
    site = tmp_path/'site'
    site.mkdir()
    before = COLAB + f'import sys; sys.path.append({str(site)!r})\n' + without_checkout(ROOT)
    cell = cell.replace('pip install', f'pip install --no-deps --target {site}')

    done = python('-I', '-c', before + cell + '\n' + TELL)
    assert done.returncode == 0, done.stderr
    where, package = done.stdout.split()
    assert where == str(tmp_path/'course'/'nbs') and package.startswith(str(site))
    assert 'torch==' in (tmp_path/'torch.txt').read_text()

    # After a restart nothing is fetched again.
    again = python('-I', '-c', before + cell.replace('git clone', 'git fail') + '\n' + TELL)
    assert again.stdout.split() == [where, package]

def without_checkout(root):
    "This environment without the checkout that may be installed in it: a Colab that has torch and not the course"
    return ('sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f)]\n'
            f'sys.path = [p for p in sys.path if p != {str(root)!r}]\n')

def test_elsewhere_it_does_nothing(python, tmp_path):
    done = python('-c', HERE + colab.source() + '\n' + TELL)
    assert done.stdout.split()[0] == str(tmp_path), done.stderr
    assert not list(tmp_path.iterdir())

def test_cell_says_what_went_wrong(python):
    cell = colab.source().replace(colab.settings()['git_url'], 'file:///nowhere')
    done = python('-I', '-c', COLAB + 'import sys\n' + without_checkout(ROOT) + cell, PYTHONPATH='')
    assert done.returncode == 1 and 'nowhere' in done.stderr.splitlines()[-1] + done.stderr

def test_tool_keeps_one_cell_and_nothing_else(tmp_path):
    path = tmp_path/'03_forward.ipynb'
    shutil.copy(ROOT/'nbs'/path.name, path)
    cells = [c for c in json.loads(path.read_text(encoding='utf-8'))['cells'] if c['id'] != colab.CELL_ID]
    colab.keep(path, 'old text')
    assert colab.keep(path, colab.source())
    assert not colab.keep(path, colab.source())
    first, *rest = json.loads(path.read_text(encoding='utf-8'))['cells']
    assert ''.join(first['source']) == colab.source() and rest == cells

def test_it_never_asks_for_torch():
    assert 'torch' not in colab.settings()['colab_requirements']
