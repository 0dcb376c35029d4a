"The command line: what it writes, what it says when it cannot, and its exit codes. Training is in test_run.py."
import dataclasses
import functools
import inspect
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

from ddpm_course.cli import Resume, Sample, aliases, commands, find_run, main, parse, print_next_steps
from ddpm_course.config import Config, Sampling
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
        def listen_to_ctrl_c(): signal.signal(signal.SIGINT, signal.default_int_handler)
        env = os.environ | dict(PYTHONPATH=str(root), TQDM_DISABLE='1')
        return subprocess.Popen([sys.executable, '-m', 'ddpm_course.cli', *words], cwd=tmp_path, env=env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=listen_to_ctrl_c)
    return run

@pytest.mark.parametrize('words', ['', *commands(), *(f'train {name}' for name in commands()['train'])])
def test_every_command_has_help(say, words):
    code, out, err = say(f'{words} --help')
    assert code == 0 and 'usage: ddpm-course' in out and not err and 'Suppress' not in out

@pytest.mark.parametrize('word', [*commands()])
def test_every_help_ends_with_a_command_that_can_be_pasted(say, word):
    entry   = commands()[word]
    command = next(iter(entry.values())) if isinstance(entry, dict) else entry
    example = inspect.getdoc(command).splitlines()[-1]
    assert example in say(f'{word} --help')[1]

    program, *words = shlex.split(example)
    assert program == 'ddpm-course' and type(parse(words)) is type(command)

def test_help_lists_the_names_in_the_open_tables(say):
    out = say('train mnist --help')[1]
    for line in ('--schedule linear, cosine', '--net UNet', '--trackers tensorboard', '--sampling.sampler ddpm, ddim'):
        assert line in ' '.join(out.split()), line
    assert 'log_snr' in say('sample --help')[1] and '--net' not in say('sample --help')[1]

@pytest.mark.parametrize('words', ['', '--help', 'train --help', 'models --help', 'sample --stps 4'])
def test_the_start_needs_no_torch(python, words):
    "Only the help of commands whose options hold names of tables looks into them"
    script = ('import contextlib, io, sys\nfrom ddpm_course.cli import main\n'
              'with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):\n'
              f'    main({words.split()!r})\n'
              'assert not {"torch", "numpy", "matplotlib", "pandas"} & set(sys.modules), "it was loaded"')
    done = python('-c', script)
    assert done.returncode == 0, done.stderr

def test_torchvision_is_imported_by_those_who_need_it(python):
    "It takes a second to import, and only downloads and CIFAR-10 need it"
    done = python('-c', 'import sys\nfrom ddpm_course.cli import main\n'
                        'assert main(["models"]) == main(["info"]) == 0\n'
                        'assert "torchvision" not in sys.modules, "it was loaded"')
    assert done.returncode == 0, done.stderr

NOT_UNDERSTOOD = [
    ('sampel',                      "did you mean 'sample'?"),
    ('train fashion-mnits',         "did you mean 'fashion-mnist'?"),
    ('sample --stps 4',             '--steps'),
    ('train mnist --stesp 4',       '--steps'),
    ('sample --n 0',                'n is above 0'),
    ('sample --steps 0',            'steps is above 0'),
    ('sample --n many',             '--n'),
    ('sample --eta -1',             'eta is at least 0'),
    ('sample --sampler ddimm',      "did you mean 'ddim'?"),
    ('sample --spacing even',       'there are uniform'),
    ('evaluate --repeats 0',        'repeats is above 0'),
    ('train mnist --lr -1',         'lr is above 0'),
    ('train mnist --target noise',  'eps'),
    ('train mnist --net UNt',       "did you mean 'UNet'?"),
    ('train mnist --schedule ve(sigma=1)',    'has no sigma'),
    ('train mnist --sampling.sampler heun',   "there is no sampler 'heun'"),
    ('train mnist --trackers tensorbord',     "did you mean 'tensorboard'?"),
    ('sample --import',             '--import needs a file'),
    ('sample --sampler ddpm --eta 1',         'ddpm has no eta'),
    ('train mnist --target v --schedule ve',  'choose the target'),
    ('',                            'say which command, one of train'),
    ('train',                       'say which preset, one of quickstart'),
    ('train --step 3',              'did you mean --steps?'),
    ('sample --n',                  '--n needs a value'),
    ('sample --n 4 5',              'not understood: 5'),
    ('sample --class --n 4',        '--class needs a value'),
    ('sample --device cudda',       "--device is one of 'auto', 'cpu', 'cuda', 'mps'"),
    ('sample --seed -1',            '--seed is at least 0'),
    ('sample --out x.tiff',         '.png'),
    ('sample --checkpoint last',    "'newest', 'best'"),
    ('train mnist --dims x',        "--dims are whole numbers, not 'x'"),
    (f'train mnist --dims {2**70}', 'dims'),
    ('train mnist --steps ' + '9'*20,         'steps is'),
    ('train mnist --checkpoint-every 0',      '--checkpoint-every is at least 1'),
    ('train mnist --checkpoint-every x',      "--checkpoint-every is a whole number, not 'x'"),
    ('train mnist --evaluate-every 9 --eval-images 0', 'eval_images is 0'),
    ('train mnist --name ../up',    'cannot name a folder'),
    ('train mnist --data fmnist',   "did you mean 'fashion_mnist'?"),
    ('train --config',              '--config needs a file'),
    ('train --config settings',     "no setting 'leraning'"),
    ('train mnist --config damaged',          'damaged is damaged'),
    ('evaluate --against faces',    'there are fashion_mnist'),
    ('data --download cifr10',      "did you mean 'cifar10'?"),
    ('compare --curves x.tiff',     '.pdf'),
    ('resume --steps 9',            'say which'),
    ('resume a b --name c',         'say which'),
    ('resume a --steps 0',          '--steps is at least 1'),
    ('--tyro-print-completion x',   'bash'),
]
NOT_DONE = [
    ('sample --class snaeker',      "did you mean 'sneaker'?"),
    ('sample --class 10',           'there are T-shirt'),
    ('sample --model fmnits',       "did you mean 'fmnist'?"),
    ('sample --model no/where',     'there is no folder no/where'),
    ('sample --model empty',        'empty holds no model'),
    ('sample --out file/x.png',     'choose another folder'),
    ('sample --out file/',          'choose another folder'),
    ('evaluate --n 12',             'too few'),
    ('evaluate --against empty',    'there are no pictures in empty'),
    ('resume --root empty',         'there are no runs in empty'),
    ('resume --root nothing',       'there are no runs in nothing'),
    ('train --config nothing.json', 'there is no file nothing.json'),
    ('sample --checkpoint best',    'leave out --checkpoint'),
    ('sample --model nothing --out new/x.png', "there is no model 'nothing'"),
    ('resume nothing',              'there is no run nothing'),
    ('compare',                     'there are no runs in runs'),
    ('sample --import nothing.py',  'there is no file nothing.py'),
    ('models --import no.module',   'no.module could not be imported'),
]

CASES = [(2, *case) for case in NOT_UNDERSTOOD] + [(1, *case) for case in NOT_DONE]

@pytest.mark.parametrize('code, line, part', CASES)
def test_what_cannot_be_done_is_one_sentence(say, tmp_path, line, code, part):
    files = dict(file='', settings='{"leraning": 0.5}', damaged='{"lr"')
    for name, text in files.items(): (tmp_path/name).write_text(text)
    (tmp_path/'empty').mkdir()
    exit_code, out, err = say(line)
    assert exit_code == code and part in err and not out and len(err.splitlines()) == 1, (exit_code, err)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(['empty', *files])       # nothing was left behind

def option_defaults(record, prefix=''):
    "(option, default or a value of its type) for each option of a command"
    for f in dataclasses.fields(record):
        value, kind = getattr(record, f.name), str(f.type)
        if dataclasses.is_dataclass(value):
            yield from option_defaults(value, f'{f.name}.' if f.type is type(value) else '')
        elif f.name != 'runs':
            name  = 'class' if f.name == 'classes' else f.name
            value = value if value is not None else 'x' if 'str' in kind else .5 if 'float' in kind else 1
            yield '--' + (prefix + name).replace('_', '-'), value

def bad_lines():
    "Refused: options that are misspelt; values missing, empty, of another type or too large; words too many"
    seen = set()
    for word, entry in commands().items():
        start, command = ([word, 'mnist'], entry['mnist']) if isinstance(entry, dict) else ([word], entry)
        for option, value in option_defaults(command):
            if option in seen: continue                                      # as `evaluate` has those of `sample`
            seen.add(option)
            lines = [[option + 'x', 'y']]
            if type(value) is not bool:     lines += [[option], [f'{option}=']]
            if type(value) in (int, float): lines += [[option, 'é'], [option, str(2**70)]]
            yield from ([*start, *line] for line in lines)
        yield from ([*start, *line] for line in (['-q'], ['--zzz', '3'], ['']))
    yield from ([''], ['é'], ['x'*5000], ['--n', '3'], ['--'], ['train', ''], ['train', '-n'], ['--import='])

def test_every_bad_line_is_one_sentence(tmp_path, monkeypatch, capsys):
    "Exit code 2 and one line on the standard error; nothing on the standard output, nothing begun or left behind"
    monkeypatch.chdir(tmp_path)
    for entry in commands().values():
        kind = type(next(iter(entry.values())) if isinstance(entry, dict) else entry)
        monkeypatch.setattr(kind, '__call__', lambda self: pytest.fail(f'it would run: {self}'))

    monkeypatch.setattr(inspect, 'getsource', functools.cache(inspect.getsource))         # tyro asks it every time
    lines = list(bad_lines())
    for words in lines:
        code, (out, err) = main(words), capsys.readouterr()
        is_one = len(err.splitlines()) == 1 and len(err) < 1100 and not set('│─╭') & set(err)
        assert code == 2 and is_one and not out and 'Error parsing' not in err, (words, code, out, err)
    assert len(lines) > 200 and not list(tmp_path.iterdir())

def test_grid_film_and_files(say, tmp_path):
    for line in ('--class sneaker --n 4 --out grid.png',
                 '--class sneaker --n 4 --out again.png',
                 '--model mnist --class 3 5 --n 4 --sampler ddpm --variance 1 --out film.gif',
                 '--n 3 --out each/',
                 '--class any --n 2 --seed 1 --out none/'):
        code, out, err = say(f'sample --steps 3 {line}')
        assert code == 0 and line.split()[-1] in out and not err, err

    with Image.open(tmp_path/'grid.png') as grid: assert grid.size == (192, 192)
    with Image.open(tmp_path/'film.gif') as film: assert film.n_frames == 4
    assert (tmp_path/'again.png').read_bytes() == (tmp_path/'grid.png').read_bytes()

    names = sorted(p.name for p in (tmp_path/'each').iterdir())
    assert names == ['0000-t-shirt.png', '0001-trouser.png', '0002-pullover.png']
    with Image.open(tmp_path/'each/0000-t-shirt.png') as image: assert image.size == (28, 28) and image.mode == 'L'
    assert sorted(p.name for p in (tmp_path/'none').iterdir()) == ['0000.png', '0001.png']

@pytest.mark.parametrize('options, sampling', [
    ('--w 2', Sampling(w=2.)), ('--spacing karras', Sampling(spacing='karras')), ('--no-clip', Sampling(clip=False)),
    ('--eta 0.5 --seed 3', Sampling(eta=.5, seed=3))])
def test_options_of_sampling_draw_what_python_draws(say, tmp_path, options, sampling):
    from ddpm_course.core import autocast, save_image_grid
    from ddpm_course.pretrained import pretrained
    from ddpm_course.sampling import balanced_labels, draw_samples
    assert say(f'sample --model mnist --n 4 --steps 3 {options} --out a.png')[0] == 0

    with autocast('cpu'):
        images = draw_samples(pretrained('ddpm-mnist'), sampling.replace(steps=3), 4, balanced_labels(4, 10))
    save_image_grid(images, tmp_path/'b.png', 4, scale=3)
    assert (tmp_path/'a.png').read_bytes() == (tmp_path/'b.png').read_bytes()

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
    values = json.loads(out)
    assert code == 0 and values
    if line == 'models':
        assert {row['alias'] for row in values} == {'fmnist', 'mnist'}
        assert all(row['frechet'] > row['floor'] for row in values)
    if line == 'data':
        assert {row['name'] for row in values} == {'fashion_mnist', 'mnist', 'cifar10'}
    if line.startswith('evaluate'):
        assert values['n'] == 136 and values['frechet'] > values['floor'] and values['settings']['sampler'] == 'ddim'

TINY = '--dims 16 32 --batch-size 16 --eval-images 136 --sampling.steps 2 --steps 2'

def test_runs_are_models_and_rows(say, tmp_path):
    for name, more in [('a', ''), ('b', '--target eps')]:
        assert say(f'train quickstart {TINY} --name {name} {more}')[0] == 0

    code, out, _ = say('compare --json --curves curves.png')
    rows = [(row['run'], row['target'], row['status']) for row in json.loads(out)]
    assert code == 0 and rows == [('a', 'v', 'done'), ('b', 'eps', 'done')]
    with Image.open(tmp_path/'curves.png') as curves: assert curves.width > 500
    assert 'eps' in say('compare a b')[1]

    assert say('sample --model runs/a --class 0 --n 1 --steps 1 --out a.png')[0] == 0 and (tmp_path/'a.png').exists()
    assert say('resume a --steps 4')[0] == say('resume a --steps 5 --name c')[0] == 0
    assert [Experiment.open(tmp_path/'runs'/name).state['step'] for name in 'ac'] == [4, 5]
    assert say('sample --model runs/a --checkpoint best --n 1 --steps 1 --out best.png')[0] == 0
    code, out, _ = say('resume')
    assert code == 0 and 'waits' in out
    code, _, err = say('resume d')
    assert code == 1 and "there is no run 'd'" in err

PARTS = """
import torch
from ddpm_course.forward import Level, schedules
from ddpm_course.pretrained import networks
from ddpm_course.sampling import ddim, samplers

def cubic(t):
    angle = torch.as_tensor(t)**3*torch.pi/2
    return Level(angle.cos().clamp(min=0), angle.sin())

def half_noise(denoise, x, ts, c=None, randn=torch.randn_like):
    yield from ddim(denoise, x, ts, c, eta=.5, randn=randn)

class Pixelwise(torch.nn.Module):
    "A network that sees one pixel and its time"
    def __init__(self, in_channels=1, width=8):
        super().__init__()
        self.arguments = dict(in_channels=in_channels, width=width)
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(in_channels + 1, width, 1), torch.nn.SiLU(),
                                          torch.nn.Conv2d(width, in_channels, 1))

    def forward(self, x, t, c=None):
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))
        return self.layers(torch.cat([x, t.view(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])], 1))

schedules['cubic'], samplers['half_noise'], networks['Pixelwise'] = cubic, half_noise, Pixelwise
"""

def test_parts_of_a_reader_work_everywhere(say, python, tmp_path):
    "A schedule, a sampler and a network of a file: in options, in help, in the run's files and in what comes next"
    (tmp_path/'parts.py').write_text(PARTS)
    def start(*words): return python('-m', 'ddpm_course.cli', *words, TQDM_DISABLE='1')
    own = ['--net', 'Pixelwise(width=4)', '--schedule', 'cubic', '--sampling.sampler', 'half_noise']

    code, _, err = say(' '.join(['train', 'quickstart', *own]))
    assert code == 2 and "there is no network 'Pixelwise'" in err, err
    tiny = '--batch-size 16 --eval-images 136 --sampling.steps 2 --steps 2'
    done = start('--import', 'parts.py', 'train', 'quickstart', *tiny.split(), '--name', 'own', *own)
    assert done.returncode == 0, done.stderr

    # What is printed for the next step loads the parts, too; so do a module's name, and the option at the end.
    _, *words = shlex.split(done.stdout.split('`')[1])
    draw = ['--n', '2', '--steps', '2']
    for line in ([*words, *draw, '--class', 'any'], ['resume', 'own', '--import', 'parts.py']):
        done = start(*line)
        assert done.returncode == 0, (line, done.stderr)
    assert (tmp_path/'samples.png').exists()

    drawing = ['sample', '--model', 'runs/own', '--sampler', 'half_noise', *draw, '--import=parts']
    script  = f'from ddpm_course.cli import main\nassert main({drawing}) == 0\nmain(["sample", "--help"])'
    assert 'ddim, half_noise' in python('-c', script, TQDM_DISABLE='1').stdout

def test_parts_that_fail_are_named(say, tmp_path):
    (tmp_path/'parts.py').write_text('1/0')
    code, out, err = say('sample --import parts.py')
    assert code == 1 and not out and 'parts.py could not be imported (ZeroDivisionError' in err

TORCHRUN = dict(LOCAL_RANK='0', MASTER_ADDR='localhost', MASTER_PORT='1')
SURROUNDINGS = [
    (dict(PYTHONIOENCODING='ascii', MPLBACKEND='module://no_such.backend'), 0, 'Fr?chet'),
    (dict(RANK='0'),                                   2, 'RANK is set in the environment, and LOCAL_RANK'),
    (TORCHRUN | dict(RANK='a', WORLD_SIZE='1'),        2, 'RANK in the environment is'),
    (TORCHRUN | dict(RANK='2', WORLD_SIZE='2'),        2, 'WORLD_SIZE only 2'),
]

@pytest.mark.parametrize('env, code, part', SURROUNDINGS)
def test_surroundings_do_no_harm(python, env, code, part):
    script = ('import sys\nfrom ddpm_course.cli import main\ncode = main(["models"])\n'
              'if not code:\n    import matplotlib.pyplot as plt\n    plt.subplots()\n'
              'sys.exit(code)')
    done = python('-c', script, **env)
    assert done.returncode == code and part in done.stdout + done.stderr, (done.stdout, done.stderr)
    assert 'Traceback' not in done.stderr and len(done.stderr.splitlines()) == bool(code)

def test_a_script_prints_whatever_its_terminal_lacks(python):
    "`say` needs no command line round it: no é, and nobody who reads"
    done = python('-c', 'from ddpm_course.core import print0\nprint0("Fréchet …", 1)', PYTHONIOENCODING='ascii')
    assert done.returncode == 0 and done.stdout == 'Fr?chet ? 1\n', done.stderr
    script = ('import os\nfrom ddpm_course.core import say\nread, write = os.pipe()\nos.close(read)\n'
              'os.dup2(write, 1)\nfor _ in range(3): say("anybody?")')
    done = python('-c', script)
    assert done.returncode == 0 and not done.stderr

def test_without_a_home(say, monkeypatch):
    "No HOME, and a user without a name: commands work, and the cache is below the folder for temporary files"
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    def home(): raise RuntimeError('Could not determine home directory.')
    monkeypatch.setattr('pathlib.Path.home', home)
    for line in ('info', 'models', 'data'):
        code, out, err = say(line)
        assert code == 0 and out and not err, err
    assert 'ddpm_course' in say('info')[1].splitlines()[-1]

def test_data_that_may_not_be_read_is_passed_over(say, tmp_path, monkeypatch):
    (tmp_path/'data').mkdir()
    listdir = os.listdir
    def forbidden(path):
        if str(path) == str(tmp_path/'data'): raise PermissionError(13, 'Permission denied')
        return listdir(path)
    monkeypatch.setattr('os.listdir', forbidden)
    assert [say(line)[0] for line in ('models', 'data', 'sample --n 1 --steps 1')] == [0, 0, 0]

@pytest.mark.parametrize('device', ['cuda', 'mps'])
def test_a_device_that_is_not_here_is_refused_first(say, monkeypatch, device):
    import torch
    monkeypatch.setattr(dict(cuda=torch.cuda, mps=torch.backends.mps)[device], 'is_available', lambda: False)
    code, out, err = say(f'sample --model nothing --device {device}')
    assert code == 2 and err.startswith(f'there is no {device} device here') and len(err.splitlines()) == 1, err

def test_an_error_that_nobody_raises_on_purpose_is_a_line_with_its_kind(say, monkeypatch):
    def fail(self): raise KeyError('surprise')
    monkeypatch.setattr(Sample, '__call__', fail)
    assert say('sample') == (1, '', "KeyError: 'surprise' (DDPM_COURSE_DEBUG=1 shows where)\n")
    monkeypatch.setenv('DDPM_COURSE_DEBUG', '1')
    assert 'Traceback' in say('sample')[2]

@pytest.mark.parametrize('file, text', [
    ('config.json', '{}'), ('config.json', 'null'), ('config.json', '['), ('config.json', '{"target": "v"}'),
    ('score.json', ''), ('score.json', '{}'), ('score.json', 'null'), ('score.json', '{"scores": [{"n": "many"}]}')])
def test_a_damaged_model_is_a_row_among_others(say, root, tmp_path, file, text):
    copy = tmp_path/'data/models/copy'
    shutil.copytree(root/'data/models/ddpm-mnist', copy)
    (copy/file).write_text(text)
    code, out, err = say('models')
    assert code == 0 and not err and '0.118' in out, (code, out, err)
    assert 'see below' in out and f'{file}' in out.splitlines()[-1] and out.splitlines()[-1].startswith('copy: '), out
    rows = json.loads(say('models --json')[1])
    assert ['error' in row for row in rows if row['name'] in ('copy', 'ddpm-mnist')] == [True, False]

def test_recipes_of_any_form_are_listed(say, root, tmp_path):
    from ddpm_course.pretrained import pretrained, save_pretrained
    save_pretrained(pretrained('ddpm-mnist'), tmp_path/'data/models/copy', recipe=dict(data='x\x1b[2J'))
    code, out, err = say('models')
    assert code == 0 and not err and 'x\\x1b[2J' in out and '\x1b' not in out, (out, err)

def test_names_of_classes_stay_inside_the_folder(say, tmp_path):
    from ddpm_course.pretrained import pretrained, save_pretrained
    names = ['x/../../y', '..', ' ', 'a'*60, '\x1b[31mred', 'con', 'é', '%s', '-', 'ok']
    sample = Sample()
    class Named: class_names = names
    parts = sample.file_names(Named, range(10))
    assert parts == ['x-y', 'unnamed', 'unnamed', 'a'*40, '31mred', 'con', 'é', 's', 'unnamed', 'ok'], parts

    try: save_pretrained(pretrained('ddpm-mnist'), tmp_path/'copy', class_names=['x/../../y', *names[5:], *'0123'])
    except ValueError: return                                        # such names are refused when they are saved
    code, _, err = say('sample --model copy --class 0 --n 1 --steps 1 --out out/')
    assert code in (0, 1) and len(err.splitlines()) <= 1, err
    assert {p.name for p in tmp_path.iterdir()} <= {'copy', 'out'}

def test_settings_come_from_a_file(say, tmp_path):
    config = Config(dims=(16, 32), steps=7, lr=.01)
    (tmp_path/'config.json').write_text(config.to_json())
    os.chdir(tmp_path)
    assert parse(['train', '--config', 'config.json']).config == config
    assert parse(['train', '--config', '.', '--steps', '9']).config == config.replace(steps=9)

    (tmp_path/'part.json').write_text('{"lr": 0.5}')
    mnist = parse(['train', 'mnist']).config
    assert parse(['train', 'mnist', '--config=part.json', '--steps', '9']).config == mnist.replace(lr=.5, steps=9)
    assert parse(['train', 'fmnist']) == parse(['train', 'fashion-mnist'])

def test_resume_extends_or_branches(say, tmp_path, monkeypatch):
    calls = []
    def branch(self, name, **changes):
        calls.append((self.name, 'branch', name, changes))
        return Experiment(self.config.replace(seed=5), 'runs', name)
    def extend(self, **changes): calls.append((self.name, changes))
    monkeypatch.setattr(Experiment, 'extend', extend, raising=False)
    monkeypatch.setattr(Experiment, 'branch', branch, raising=False)
    monkeypatch.setattr(Experiment, 'run', lambda self: calls.append((self.name, 'run')) or self)
    register_run(tmp_path/'runs/a', Config())

    for line in ('resume a --steps 2000', 'resume runs/a --name b --lr .001', 'resume a'): assert say(line)[0] == 0
    assert calls == [('a', dict(steps=2000)), ('a', 'run'),
                     ('a', 'branch', 'b', dict(lr=.001)), ('b', 'run'), ('a', 'run')]
    assert Resume(('a',), steps=3).changes == dict(steps=3)

def test_the_best_checkpoint_is_asked_for(tmp_path, monkeypatch):
    from ddpm_course.cli import find_model
    asked = []
    monkeypatch.setattr(Experiment, 'denoiser', lambda self, device, which: asked.append(which))
    register_run(tmp_path/'a', Config())
    (tmp_path/'a/checkpoints').mkdir()
    find_model(str(tmp_path/'a'))
    find_model(str(tmp_path/'a'), checkpoint='best')
    assert asked == ['newest', 'best']

def test_optional_numbers_are_options():
    "A field of type `int | None`, as a Config may have it"
    from ddpm_course.cli import ask_tyro, check_values
    @dataclasses.dataclass(frozen=True)
    class Command:
        "A command"
        image_size: int | None = None   # side
    assert ask_tyro(Command(), ['x'], ['--image-size', '32']).image_size == 32
    assert ask_tyro(Command(), ['x'], []).image_size is None
    with pytest.raises(ValueError, match="--image-size is a whole number, not 'x'"):
        ask_tyro(Command(), ['x'], ['--image-size', 'x'])
    check_values(Command())

@pytest.mark.parametrize('seconds', [.15, .4, .8, 1.3])
def test_ctrl_c_in_the_first_moments(tmp_path, root, seconds):
    "While Python's own start or the imports are still under way: at most one line"
    def listen_to_ctrl_c(): signal.signal(signal.SIGINT, signal.default_int_handler)
    script = 'import sys\nfrom ddpm_course import command_line\nprint(1, flush=True)\nsys.exit(command_line())'
    run = subprocess.Popen([sys.executable, '-c', script, 'models'], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=os.environ | dict(PYTHONPATH=str(root)),
                           preexec_fn=listen_to_ctrl_c)
    run.stdout.readline()
    time.sleep(seconds)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode in (130, -signal.SIGINT) and len(err.splitlines()) <= 1, (run.returncode, err)

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

def test_a_training_outlives_its_reader(start, tmp_path):
    "`ddpm-course train … | head -1`"
    run = start('train', 'quickstart', *TINY.split(), '--eval-images', '0', '--name', 'a')
    run.stdout.close()
    assert run.wait(timeout=120) == 0 and not run.stderr.read()
    assert json.loads((tmp_path/'runs/a/state.json').read_text())['status'] == 'done'

@pytest.mark.parametrize('base, name', [
    ('{here}/runs', 'a'), ('{here}/with space', 'a'), ('runs', 'a'), ('.', 'mnist'), ('../{last}', 'b')])
def test_what_comes_next_can_be_pasted(say, tmp_path, capsys, base, name):
    "The folder in the printed command is that of the run, also where another one has its name"
    for other in ('runs/a', 'runs/b', 'runs/mnist'): register_run(tmp_path/other, Config(seed=7))
    config = Config(seed=7 if base in ('runs', '{here}/runs') else 8)
    run = Experiment(config, base.format(here=tmp_path, last=tmp_path.name), name)
    register_run(run.folder, run.config)

    print_next_steps(run)
    words = shlex.split(capsys.readouterr().out.split('`')[1])
    model = words[words.index('--model') + 1]
    assert find_run(model).folder.samefile(run.folder) and model not in aliases
