"""Runs notebooks top to bottom, each in a fresh kernel, and stores their outputs; a failing one is left as it was.

usage: run_notebooks.py [--print] [notebook …]

Without names: every chapter, in order. --print shows what was printed."""
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbdev.clean import nbdev_clean

root = Path(__file__).resolve().parent.parent

def run(path):
    "Run one notebook and store its outputs"
    started  = time.time()
    notebook = nbformat.read(path, as_version=4)
    where = {'metadata': {'path': path.parent}}
    NotebookClient(notebook, timeout=1800, kernel_name='python3', resources=where).execute()

    # A widget lives in its kernel: what is stored would show an error.
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
    for output in outputs: output.get('data', {}).pop('application/vnd.jupyter.widget-view+json', None)
    notebook.metadata = {'kernelspec': {'display_name': 'python3', 'language': 'python', 'name': 'python3'}}

    temporary = path.with_suffix('.tmp')
    nbformat.write(notebook, temporary)
    os.replace(temporary, path)
    nbdev_clean.__wrapped__(str(path))

    if '--print' in sys.argv:
        print(*(output.get('text', '') for output in outputs if output.get('name') == 'stdout'), sep='\n')
    print(f'{path.name}: {time.time() - started:.0f} s, {path.stat().st_size/1e6:.2f} MB', flush=True)

if __name__ == '__main__':
    os.environ['TQDM_DISABLE'] = '1'             # a progress bar is not an output worth keeping
    os.environ['PATH'] = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'   # as if .venv were activated
    names = [a for a in sys.argv[1:] if not a.startswith('-')]
    for path in [Path(n).resolve() for n in names] or sorted(root.glob('nbs/*.ipynb')): run(path)
