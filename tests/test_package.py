"What pip installs, and what is in it."
import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from configparser import ConfigParser

import pytest
from PIL import Image, ImageDraw

from ddpm_course.cli import main

def settings(root):
    config = ConfigParser(delimiters=['='])
    config.read(root/'settings.ini')
    return config['DEFAULT']

def test_requirements_are_what_exported_code_imports(root):
    imported = set()
    for file in root.glob('ddpm_course/*.py'):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import): imported |= {a.name.split('.')[0] for a in node.names}
            if isinstance(node, ast.ImportFrom) and not node.level: imported.add(node.module.split('.')[0])
    imported -= set(sys.stdlib_module_names) | {'ddpm_course'}
    distributions = {'PIL': 'pillow'}

    def listed(key): return {re.split('[<>=]', r)[0] for r in settings(root)[key].split()}
    required, optional = listed('requirements'), listed('tracking_requirements')
    assert {distributions.get(name, name) for name in imported} - optional == required - optional

@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    from conftest import ROOT
    source, out = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('wheel')   # a build leaves things behind
    for name in ('ddpm_course', 'data'):
        shutil.copytree(ROOT/name, source/name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('settings.ini', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'MANIFEST.in'):
        shutil.copy(ROOT/name, source)

    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', out, source], check=True)
    return next(out.glob('*.whl'))

def test_wheel_holds_the_package_and_its_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {'ddpm_course/core.py', 'ddpm_course/_data/models/ddpm-fashion-mnist/model.safetensors'} <= set(names)
    assert wheel.stat().st_size < 40e6
    assert not [n for n in names if not re.match(r'ddpm_course(-[\d.]+\.dist-info)?/', n)]
    entry_points = next(zipfile.ZipFile(wheel).read(n).decode() for n in names if n.endswith('entry_points.txt'))
    assert re.search(r'^ddpm-course *= *ddpm_course:command_line$', entry_points, re.M)

@pytest.fixture(scope='module')
def site(wheel, tmp_path_factory):
    "A folder with the installed wheel"
    folder = tmp_path_factory.mktemp('site')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', folder, wheel], check=True)
    return folder

def test_readme_code_works_outside_the_repository(site, python, root, tmp_path):
    section = (root/'README.md').read_text().split('## Use it as a library')[1].split('\n## ')[0]
    code = '\n'.join(re.findall(r'^```python\n(.*?)^```', section, re.M | re.S))
    assert 'pretrained(' in code and 'diffusion_loss(' in code
    done = python('-c', code + '\nprint(generate.__code__.co_filename, len(sneakers))',
                  PYTHONPATH=str(site), XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stdout and done.stdout.split()[-1] == '4'

def draw_photos(folder, n=60):
    "Small pictures of two classes"
    for k, name in enumerate(('round', 'square')):
        (folder/name).mkdir(parents=True)
        for i in range(n//2):
            picture = Image.new('RGB', (40, 36), (10*k, 5*i, 40))
            draw = ImageDraw.Draw(picture)
            (draw.rectangle if k else draw.ellipse)((4 + i % 5, 6, 20 + i % 9, 24), fill=(250, 200 - i, 90*k))
            picture.save(folder/name/f'{i}.{"png" if i % 2 else "jpg"}')

def test_readme_commands_for_own_pictures(root, tmp_path, monkeypatch, capsys):
    "Each line of the section, with fewer steps and images"
    section = (root/'README.md').read_text().split('## Your own pictures')[1].split('\n## ')[0]
    lines = re.search(r'^~~~sh\n(.*?)^~~~', section, re.M | re.S)[1].splitlines()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    for name in ('photos', 'more'): draw_photos(tmp_path/'path/to'/name)

    small = ' --batch-size 8 --dims 8 16 --eval-images 0 --sampling.steps 2'
    for line in lines:
        words = line.partition('#')[0].replace('5000', '3').replace('20000', '5').strip()
        if ' train ' in words: words += small + (' --steps 3' if '--steps' not in words else '')
        if ' sample ' in words: words += ' --steps 2'
        code = main(shlex.split(words)[1:])
        said = capsys.readouterr()
        if ' evaluate ' in words: assert code == 1 and 'takes at least 256 training' in said.err, said.err
        else: assert code == 0, (words, said.err)
    assert {p.name for p in (tmp_path/'runs').iterdir()} == {'photos', 'tuned'} and (tmp_path/'grid.png').exists()
    assert json.loads((tmp_path/'runs/photos/state.json').read_text())['changes'][0]['changes']['steps'] == [3, 5]

def test_readme_code_for_own_pictures(root, python, tmp_path):
    section = (root/'README.md').read_text().split('## Your own pictures')[1].split('\n## ')[0]
    code = re.search(r'^```python\n(.*?)^```', section, re.M | re.S)[1]
    draw_photos(tmp_path/'path/to/photos', 80)
    for old, new in (('5000', '2'), ('photos, 64', 'photos, 8'), ('steps=50', 'steps=2')): code = code.replace(old, new)
    code += 'print(images.shape)'
    done = python('-c', code, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path/'cache'))
    assert done.returncode == 0 and 'torch.Size([16, 3, 64, 64])' in done.stdout, done.stderr

def test_installed_wheel_says_what_it_lacks(site, python, tmp_path):
    site = shutil.copytree(site, tmp_path/'site', ignore=shutil.ignore_patterns('_data'))
    done = python('-c', 'import ddpm_course.toy as m; print(m.__file__); m.mnist(root="nowhere")', PYTHONPATH=str(site))
    assert str(site) in done.stdout
    assert 'nowhere is not a folder' in done.stderr.splitlines()[-1]
    done = python('-m', 'ddpm_course.cli', 'sample', PYTHONPATH=str(site), XDG_CACHE_HOME=str(tmp_path))
    assert done.returncode == 1 and 'copy the folder to' in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr

def test_metadata_stands_in_one_place(root):
    assert 'project' not in tomllib.loads((root/'pyproject.toml').read_text())
    import ddpm_course
    assert ddpm_course.__version__ == settings(root)['version']
    assert f"version: {settings(root)['version']}" in (root/'CITATION.cff').read_text()
