"""nbdev_test with a time limit for each cell, that also fails when nothing was tested.

usage: test_notebooks.py [notebook]"""
import functools
import os
import sys

os.environ.setdefault('MPLBACKEND', 'agg')
os.environ.setdefault('OMP_NUM_THREADS', '1')    # two workers, one thread each: two threads each fight over two cores

import nbdev.test as nbdev_test                  # noqa: E402  (reads the environment set above)

CELL_SECONDS = int(os.environ.get('CELL_SECONDS', 240))

def main(path=None):
    "Test one notebook, or all; exits with 1 when one fails"
    nbdev_test.CaptureShell = functools.partial(nbdev_test.CaptureShell, timeout=CELL_SECONDS)
    if not nbdev_test.nbglob(path): sys.exit(f'no notebook matches {path or "nbs/"}')
    nbdev_test.nbdev_test.__wrapped__(path=path, n_workers=2, timing=True, do_print=True)

if __name__ == '__main__': main(*sys.argv[1:2])
