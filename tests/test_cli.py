"The command line: what it writes, what it says when it cannot, and with which number it ends. Training is in test_run.py."
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from ddpm_course.cli import commands, find_run, print_next_steps, main, aliases
from ddpm_course.config import Config
from ddpm_course.experiment import Experiment, register_run

@pytest.fixture
def say(tmp_path, monkeypatch, capsys):
    "Run a command line in this process; returns (exit code, stdout, stderr)"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TQDM_DISABLE', '1')
    def run(line):
        try: code = main(line.split())
        except SystemExit as e: code = e.code
        return code, *capsys.readouterr()
    return run

@pytest.fixture
def start(tmp_path, root):
    "Start a command line in a process of its own"
    def run(*words):
        return subprocess.Popen([sys.executable, '-m', 'ddpm_course.cli', *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=os.environ | dict(PYTHONPATH=str(root), TQDM_DISABLE='1'), preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    return run

@pytest.mark.parametrize('words', ['', *commands(), *(f'train {name}' for name in commands()['train'])])
def test_every_command_has_help(say, words):
    code, out, err = say(f'{words} --help')
    assert code == 0 and 'usage: ddpm-course' in out and not err and 'Suppress' not in out

@pytest.mark.parametrize('line, code, said', [
    ('sampel', 2, "did you mean 'sample'?"), ('train fashion-mnits', 2, "did you mean 'fashion-mnist'?"), ('sample --stps 4', 2, '--steps'),
    ('train mnist --stesp 4', 2, '--steps'), ('sample --n 0', 2, 'n is above 0'), ('sample --steps 0', 2, 'steps is above 0'), ('sample --n many', 2, '--n'),
    ('train mnist --lr -1', 2, 'lr is above 0'), ('train mnist --target noise', 2, 'eps'), ('evaluate --repeats 0', 2, 'repeats is above 0'),
    ('sample --class snaeker', 1, "did you mean 'sneaker'?"), ('sample --class 10', 1, 'there are T-shirt'), ('sample --model fmnits', 1, "did you mean 'fmnist'?"),
    ('sample --model no/where', 1, 'there is no folder no/where'), ('sample --model empty', 1, 'empty holds no model'), ('sample --out x.tiff', 1, '.png'),
    ('sample --out file/x.png', 1, 'choose another folder'), ('sample --out file/', 1, 'choose another folder'), ('sample --sampler ddpm --eta 1', 1, 'ddpm has no eta'),
    ('sample --eta -1', 1, '0 or more'), ('evaluate --n 12', 1, 'too few'), ('evaluate --against faces', 1, 'known are fashion_mnist'),
    ('resume nothing', 1, 'there is no run nothing'), ('compare', 1, 'there are no runs in runs'), ('data --download cifr10', 1, "did you mean 'cifar10'?")])
def test_what_cannot_be_done_is_one_sentence(say, tmp_path, line, code, said):
    (tmp_path/'file').write_text('')
    (tmp_path/'empty').mkdir()
    found, out, err = say(line)
    assert found == code and said in err and not out and 'Traceback' not in err, (found, err)
    if code == 1: assert len(err.strip().splitlines()) == 1, err
    assert sorted(p.name for p in tmp_path.iterdir()) == ['empty', 'file']               # nothing was left behind

def test_grid_film_and_files(say, tmp_path):
    for line in ('--class sneaker --n 4 --out grid.png', '--model mnist --class 3 5 --n 4 --sampler ddpm --variance 1 --out film.gif', '--n 3 --out each/',
                 '--class any --n 2 --seed 1 --out none/', '--class sneaker --n 4 --out again.png'):
        code, out, err = say(f'sample --steps 3 {line}')
        assert code == 0 and line.split()[-1] in out and not err, err
    with Image.open(tmp_path/'grid.png') as grid: assert grid.size == (192, 192)
    with Image.open(tmp_path/'film.gif') as film: assert film.n_frames == 4
    assert sorted(p.name for p in (tmp_path/'each').iterdir()) == ['0000-t-shirt.png', '0001-trouser.png', '0002-pullover.png']
    with Image.open(tmp_path/'each/0000-t-shirt.png') as image: assert image.size == (28, 28) and image.mode == 'L'
    assert sorted(p.name for p in (tmp_path/'none').iterdir()) == ['0000.png', '0001.png']
    assert (tmp_path/'again.png').read_bytes() == (tmp_path/'grid.png').read_bytes()

def test_damaged_weights_are_named(say, root, tmp_path):
    shutil.copytree(root/'data/models/ddpm-mnist', tmp_path/'copy')
    assert say('sample --model copy --n 1 --steps 1 --out x.png')[0] == 0
    weights = bytearray((tmp_path/'copy/model.safetensors').read_bytes())
    weights[len(weights)//2] ^= 1
    (tmp_path/'copy/model.safetensors').write_bytes(weights)
    code, _, err = say('sample --model copy --n 1')
    assert code == 1 and 'copy/model.safetensors is damaged' in err
    (tmp_path/'copy/config.json').write_text('{"format"')
    code, _, err = say('sample --model copy --n 1')
    assert code == 1 and 'copy/config.json is damaged' in err and len(err.splitlines()) == 1

@pytest.mark.parametrize('line', ['data', 'models', 'info', 'evaluate --n 136 --steps 1'])
def test_json_is_alone_on_stdout(say, line):
    code, out, _ = say(f'{line} --json')
    found = json.loads(out)
    assert code == 0 and found
    if line == 'models': assert {row['nickname'] for row in found} == {'fmnist', 'mnist'} and all(row['frechet'] > row['floor'] for row in found)
    if line == 'data': assert {row['name'] for row in found} == {'fashion_mnist', 'mnist', 'cifar10'}
    if line.startswith('evaluate'): assert found['n'] == 136 and found['frechet'] > found['floor'] and found['settings']['sampler'] == 'ddim'

def test_runs_are_models_and_rows(say, tmp_path):
    tiny = '--dims 16 32 --batch-size 16 --measure 136 --draw 2 --steps 2'
    for name, more in [('a', ''), ('b', '--target eps')]: assert say(f'train quickstart {tiny} --name {name} {more}')[0] == 0
    code, out, _ = say('compare --json --curves curves.png')
    assert code == 0 and [(row['run'], row['target'], row['status']) for row in json.loads(out)] == [('a', 'v', 'done'), ('b', 'eps', 'done')]
    with Image.open(tmp_path/'curves.png') as curves: assert curves.width > 500
    assert 'eps' in say('compare a b')[1]
    assert say('sample --model runs/a --class 0 --n 1 --steps 1 --out a.png')[0] == 0 and (tmp_path/'a.png').exists()
    code, out, _ = say('resume')
    assert code == 0 and 'waits' in out
    code, _, err = say('resume c')
    assert code == 1 and "there is no run 'c'" in err

def test_interrupted_it_says_so(start, tmp_path):
    run = start('sample', '--n', '2000', '--steps', '1000', '--out', 'x.png')
    time.sleep(6)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130 and err.startswith('Stopped.') and len(err.splitlines()) == 1, err
    assert not list(tmp_path.iterdir())

def test_a_reader_that_leaves_is_no_error(start):
    run = start('models')
    run.stdout.close()
    assert run.wait(timeout=60) == 0 and not run.stderr.read()

@pytest.mark.parametrize('base, name', [('{here}/runs', 'a'), ('{here}/with space', 'a'), ('runs', 'a'), ('.', 'mnist'), ('../{last}', 'b')])
def test_what_comes_next_can_be_pasted(say, tmp_path, capsys, base, name):
    "The folder in the printed command is that of the run, also where another one has its name"
    for other in ('runs/a', 'runs/b', 'runs/mnist'): register_run(tmp_path/other, Config(seed=7))
    run = Experiment(Config(seed=7 if base in ('runs', '{here}/runs') else 8), base.format(here=tmp_path, last=tmp_path.name), name)
    register_run(run.folder, run.config)
    print_next_steps(run)
    words = shlex.split(capsys.readouterr().out.split('`')[1])
    found = words[words.index('--model') + 1]
    assert find_run(found).folder.samefile(run.folder) and found not in aliases
