"The tools that guard the course must themselves fail when they should."
import json
import shutil
import subprocess

import pytest

@pytest.fixture
def checkout(root, tmp_path):
    "A small copy of the repository: two notebooks, and what is made from them"
    copy = tmp_path/'copy'
    for name in ('tools', 'ddpm_course'):
        shutil.copytree(root/name, copy/name, ignore=shutil.ignore_patterns('__pycache__'))
    (copy/'nbs').mkdir()
    for path in root.glob('nbs/*.ipynb'):       shutil.copy(path, copy/'nbs')
    for name in ('settings.ini', 'README.md'): shutil.copy(root/name, copy)
    return copy

def test_in_step(python, checkout):
    done = python('tools/check_sync.py', cwd=checkout)
    assert done.returncode == 0, done.stderr

@pytest.mark.parametrize('name', ['ddpm_course/core.py', 'README.md', 'nbs/00_core.ipynb', 'ddpm_course/stray.py'])
def test_out_of_step_is_named(python, checkout, name):
    file = checkout/name
    if name.endswith('ipynb'):
        notebook = json.loads(file.read_text())
        notebook['cells'][0]['execution_count'] = 7                # what saving by hand leaves
        file.write_text(json.dumps(notebook))
    else:
        before = file.read_text() if file.exists() else ''
        file.write_text(before + '\n')

    done = python('tools/check_sync.py', cwd=checkout)
    assert done.returncode == 1 and name in done.stderr

def write_notebook(folder, source):
    "nbs/case.ipynb with one cell"
    cell   = dict(cell_type='code', id='a', metadata={}, source=source, execution_count=None, outputs=[])
    kernel = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    text   = json.dumps(dict(cells=[cell], metadata=kernel, nbformat=4, nbformat_minor=5))
    (folder/'nbs'/'case.ipynb').write_text(text)

@pytest.mark.parametrize('source, code, says', [
    ('1 + 1', 0, 'Success'), ('assert 1 == 2, "it differs"', 1, 'it differs'), ('while True: pass', 1, 'case.ipynb')])
def test_notebook_tests_fail_when_they_should(python, checkout, source, code, says):
    write_notebook(checkout, source)
    done = python('tools/test_notebooks.py', 'nbs/case.ipynb', cwd=checkout, timeout=60, CELL_SECONDS='3')
    assert done.returncode == code and says in done.stdout + done.stderr

def test_no_notebook_is_a_failure(python, checkout):
    done = python('tools/test_notebooks.py', 'nbs/absent*', cwd=checkout)
    assert done.returncode == 1 and 'no notebook matches' in done.stderr

def test_a_failing_notebook_is_not_stored(python, checkout):
    write_notebook(checkout, '1/0')
    before = (checkout/'nbs'/'case.ipynb').read_bytes()
    assert python('tools/run_notebooks.py', 'nbs/case.ipynb', cwd=checkout).returncode == 1
    assert (checkout/'nbs'/'case.ipynb').read_bytes() == before

def test_readme_keeps_results_and_leaves_out_code_that_is_not_echoed(python, root, tmp_path):
    output = dict(data={'text/markdown': '| [a](../data/a.md) |'})
    cells  = [dict(cell_type='code', source=source, outputs=[output])
              for source in ('#| echo: false\nsecret()', 'shown()')]
    (tmp_path/'nbs').mkdir()
    (tmp_path/'nbs'/'index.ipynb').write_text(json.dumps(dict(cells=cells)))

    assert python(root/'tools/readme.py', tmp_path).returncode == 0
    readme = (tmp_path/'README.md').read_text(encoding='utf-8')
    assert readme.count('| [a](data/a.md) |') == 2 and 'shown()' in readme and 'secret' not in readme

def test_make_lists_its_commands_and_installs_once(root):
    def make(*words):
        return subprocess.run(['make', *words], cwd=root, capture_output=True, text=True, check=True).stdout

    listed = make('help')
    assert all(f'make {name}' in listed for name in ('run', 'lab', 'test', 'notebooks', 'clean'))

    if (root/'.venv'/'ok-dev').exists():                   # set up, as in CI: nothing is installed a second time
        planned = make('-n', 'run')
        assert 'pip install' not in planned and 'ddpm_course.cli train quickstart' in planned

def test_exported_code_needs_no_notebook_tools(root):
    for file in root.glob('ddpm_course/*.py'):
        text = file.read_text()
        assert 'import nbdev' not in text and 'fastcore' not in text, file
