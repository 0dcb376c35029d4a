"Fails when ddpm_course/, the notebooks or README.md are not what `make export` would write."
import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import colab
from readme import write_readme

root = Path(__file__).resolve().parent.parent

def differences(made):
    "Relative paths that differ between the checkout and `made`, a copy in which everything was written anew"
    for kind in ('ddpm_course/*.py', 'nbs/*.ipynb', 'README.md'):
        names = {p.relative_to(top) for top in (root, made) for p in top.glob(kind)}
        for name in sorted(names):
            here, there = root/name, made/name
            same = here.exists() and there.exists() and filecmp.cmp(here, there, shallow=False)
            if not same: yield name

with tempfile.TemporaryDirectory() as tmp:
    copy = Path(tmp)/'copy'
    shutil.copytree(root/'nbs', copy/'nbs', ignore=shutil.ignore_patterns('.*'))
    shutil.copy(root/'settings.ini', copy)
    (copy/'ddpm_course').mkdir()
    shutil.copy(root/'ddpm_course'/'__init__.py', copy/'ddpm_course')     # by hand, but for the version

    for path in (copy/'nbs').glob('[0-9][0-9]*_*.ipynb'): colab.keep(path, colab.source())
    for command in ('nbdev_export', 'nbdev_clean'):
        subprocess.run([Path(sys.executable).parent/command], cwd=copy, check=True)
    write_readme(copy)
    stale = list(differences(copy))

if stale:
    sys.exit(f'not in step with the notebooks: {", ".join(map(str, stale))}\n'
             'run `make export` and commit what it writes')
print('exported modules, notebooks and README are in step')
