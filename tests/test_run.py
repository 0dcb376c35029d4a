"""`ddpm-course train`, which is what `make run` does: what it writes, how it goes on after it was stopped,
what it says when it cannot start."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from ddpm_course.experiment import read_starts

TINY = '--dims 16 32 --batch-size 16 --eval-images 136 --sampling.steps 2'.split()
MADE = ['checkpoints', 'config.json', 'env.json', 'loss.png', 'metrics.jsonl', 'reverse.gif', 'samples', 'samples.png',
        'score.json', 'state.json']

def words(name, steps):
    return ['-m', 'ddpm_course.cli', 'train', 'quickstart', '--name', name, '--steps', str(steps), *TINY]

def train(python, name, steps):
    done = python(*words(name, steps))
    assert done.returncode == 0, done.stderr
    return done

def weights(folder, steps): return (folder/f'checkpoints/step-{steps:09d}/ema/model.safetensors').read_bytes()

def metrics(folder): return [json.loads(line) for line in (folder/'metrics.jsonl').open()]

def last(folder): return max((p.name for p in folder.glob('checkpoints/step-*')), default='')

def begin(root, tmp_path, name, steps):
    "Start a training, and return it when it has written a checkpoint"
    was, folder = last(tmp_path/'runs'/name), tmp_path/'runs'/name
    env = os.environ | dict(PYTHONPATH=str(root), MPLBACKEND='agg', TQDM_DISABLE='1')
    def hear_ctrl_c(): signal.signal(signal.SIGINT, signal.default_int_handler)            # a CI job may ignore it
    run = subprocess.Popen([sys.executable, *words(name, steps)], cwd=tmp_path, env=env, preexec_fn=hear_ctrl_c,
                           stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.time() + 120
    while last(folder) == was and run.poll() is None and time.time() < until: time.sleep(.02)
    return run

def test_writes_pictures_and_numbers(python, tmp_path):
    done = train(python, 'made', 4)
    made = tmp_path/'runs/made'
    assert sorted(p.name for p in made.iterdir() if not p.name.startswith(('.', 'code-'))) == MADE
    score = json.loads((made/'score.json').read_text())['scores'][0]
    assert score['n'] == 136 and score['frechet'] > score['floor'] > 0 and 'fashion_mnist' in score['against']
    assert [entry['step'] for entry in metrics(made)] == [1, 2, 3, 4]
    with Image.open(made/'reverse.gif') as gif: assert gif.n_frames > 1
    assert 'Next:' in done.stdout and 'the floor' in done.stdout
    done = python(*words('made', 5))
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert 'another config (steps 4 and not 5)' in done.stderr

def test_stopped_and_killed_it_goes_on_to_the_same_weights(python, root, tmp_path):
    train(python, 'peace', 120)
    run = begin(root, tmp_path, 'cut', 120)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130 and said.startswith('Stopped.') and len(said.splitlines()) == 1, said
    assert json.loads((tmp_path/'runs/cut/state.json').read_text())['status'] == 'interrupted'
    run = begin(root, tmp_path, 'cut', 120)
    run.kill(); run.communicate()
    train(python, 'cut', 120)
    peace, cut = tmp_path/'runs/peace', tmp_path/'runs/cut'
    assert weights(cut, 120) == weights(peace, 120)
    log, whole = metrics(cut), metrics(peace)
    assert [e['step'] for e in log] == [*range(1, 121)] and [e['loss'] for e in log] == [e['loss'] for e in whole]

def test_two_processes_speak_with_one_voice_and_finish_what_one_began(python, root, tmp_path):
    run = begin(root, tmp_path, 'made', 40)
    run.kill(); run.communicate()
    torchrun = '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2
    done = python(*torchrun, *words('made', 40), OMP_NUM_THREADS='1')
    assert done.returncode == 0, done.stderr
    said = 'Going on from step', 'train images', 'times the floor', 'Next:'
    assert [done.stdout.count(words) for words in said] == [1, 1, 1, 1], done.stdout
    made = tmp_path/'runs/made'
    assert [start['processes'] for start in read_starts(made)] == [1, 2]
    assert [entry['step'] for entry in metrics(made)] == [*range(1, 41)]
    assert len(json.loads((made/'state.json').read_text())['resumed']) == 1
    assert sorted(p.name for p in made.iterdir() if not p.name.startswith(('.', 'code-'))) == MADE

@pytest.mark.parametrize('module, more', [('cli', ['train', 'quickstart', '--root', 'file']), ('toy', ['file/made'])])
def test_target_that_cannot_be_written(python, tmp_path, module, more):
    (tmp_path/'file').write_text('')
    done = python('-m', f'ddpm_course.{module}', *more)
    assert done.returncode == 1
    assert 'choose another folder' in done.stderr and 'Traceback' not in done.stderr

def test_the_toy_still_runs(python, tmp_path):
    done = python('-c', "from ddpm_course.toy import main; main('made', steps=12)")
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path/'made/numbers.json').read_text())
    assert numbers['steps'] == 12 and len(numbers['errors']['toy U-Net']) == 9
    with Image.open(tmp_path/'made/sampling.gif') as gif: assert gif.n_frames == 21
    written = ['denoised.png', 'numbers.json', 'samples.png', 'sampling.gif', 'sampling.png']
    assert sorted(p.name for p in (tmp_path/'made').iterdir()) == written

def test_stopped_while_writing_keeps_the_old_file(python, tmp_path):
    (tmp_path/'result.txt').write_text('old')
    done = python('-c', """
import os, signal
from ddpm_course.core import atomic_write
with atomic_write('result.txt') as temporary:
    temporary.write_text('half')
    os.kill(os.getpid(), signal.SIGKILL)
""")
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path/'result.txt').read_text() == 'old'
