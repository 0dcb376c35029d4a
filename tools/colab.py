"""Keeps the first cell of every chapter: in Colab, and only there, it installs the course where it is missing.

usage: colab.py [notebook …]

Without names: every chapter. A notebook that has the cell as it should be is not touched."""
import json
import sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CELL_ID = 'colab'

# The clone brings data, weights and images. pip is told which torch there is, so it says so instead of replacing it.
SOURCE = '''#| hide
if 'google.colab' in str(get_ipython()):                # in Colab: the course and its data, and torch as it is there
    import importlib.util, os, subprocess, sys
    from importlib.metadata import version
    if importlib.util.find_spec('{lib_name}') is None:
        pins = [f'{{name}}=={{version(name)}}\\n' for name in ('torch', 'torchvision')]
        with open('torch.txt', 'w') as f: f.writelines(pins)
        for command in ('git clone -q --depth 1 -b {branch} {git_url} course',
                        f'{{sys.executable}} -m pip install -q -c torch.txt ./course[colab]'):
            done = subprocess.run(command.split(), capture_output=True, text=True)
            if done.returncode: raise RuntimeError(f'{{command}}: {{done.stderr}}')
        importlib.invalidate_caches()
    if os.path.isdir('course/nbs'): os.chdir('course/nbs')   # where the chapters find data/ and images/'''

def settings():
    config = ConfigParser(delimiters=['='])
    config.read(ROOT/'settings.ini', encoding='utf-8')
    return config['DEFAULT']

def source():
    "The cell's text, with the address that stands in settings.ini"
    c = settings()
    return SOURCE.format(lib_name=c['lib_name'], branch=c['branch'], git_url=c['git_url'])

def keep(path, text):
    """Put the cell at the top of a notebook, or renew it; returns whether the file was written.
    Other cells and outputs stay as they are"""
    before   = path.read_text(encoding='utf-8')
    notebook = json.loads(before)

    cell = dict(cell_type='code', execution_count=None, id=CELL_ID, metadata={}, outputs=[],
                source=text.splitlines(keepends=True))
    notebook['cells'] = [cell, *(c for c in notebook['cells'] if c.get('id') != CELL_ID)]

    after = json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + '\n'
    if after == before: return False
    path.write_text(after, encoding='utf-8')
    return True

if __name__ == '__main__':
    names = [Path(n) for n in sys.argv[1:]] or sorted((ROOT/'nbs').glob('[0-9][0-9]*_*.ipynb'))
    changed = [p.name for p in names if keep(p, source())]
    if changed: print('first cell for Colab written: ' + ', '.join(changed))
