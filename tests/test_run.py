"`make run`: what it writes, how it goes on after it was stopped, what it says when it cannot start."
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

TINY = ('dims=(16,32)', 'size=16', 'n=136', 'draw=2')
MADE = ['checkpoints', 'log.jsonl', 'loss.png', 'recipe.json', 'reverse.gif', 'samples.png', 'score.json']

def train(python, folder, steps, *more):
    done = python('-m', 'ddpm_course.quickstart', 'quickstart', folder, f'steps={steps}', *TINY, *more)
    assert done.returncode == 0, done.stderr
    return done

def weights(folder, steps): return (folder/f'checkpoints/step-{steps:09d}/ema/model.safetensors').read_bytes()

def begin(root, tmp_path, folder, steps):
    "Start a training, and return it when its first checkpoint is there"
    run = subprocess.Popen([sys.executable, '-m', 'ddpm_course.quickstart', 'quickstart', folder, f'steps={steps}', *TINY], cwd=tmp_path,
                           env=os.environ | dict(PYTHONPATH=str(root), MPLBACKEND='agg'), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))   # a CI job may ignore Ctrl-C
    until = time.time() + 120
    while not list((tmp_path/folder).glob('checkpoints/step-*')) and run.poll() is None and time.time() < until: time.sleep(.02)
    return run

def test_writes_pictures_and_numbers(python, tmp_path):
    done = train(python, 'made', 4)
    assert sorted(p.name for p in (tmp_path/'made').iterdir()) == MADE
    score = json.loads((tmp_path/'made/score.json').read_text())['scores'][0]
    assert score['n'] == 136 and score['fid'] > score['floor'] > 0 and 'fashion_mnist' in score['against']
    assert [json.loads(line)['step'] for line in (tmp_path/'made/log.jsonl').open()] == [1, 2, 3, 4]
    with Image.open(tmp_path/'made/reverse.gif') as gif: assert gif.n_frames > 1
    assert 'Next:' in done.stdout and 'the floor' in done.stdout
    again = train(python, 'made', 4)                             # all is trained: it draws the same
    assert json.loads((tmp_path/'made/score.json').read_text())['scores'][0] == score and 'Next:' in again.stdout

def test_stopped_and_killed_it_goes_on_to_the_same_weights(python, root, tmp_path):
    train(python, 'peace', 120)
    run = begin(root, tmp_path, 'stopped', 120)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 1 and 'Stopped.' in said and 'Traceback' not in said, said
    run = begin(root, tmp_path, 'stopped', 120)                  # there are checkpoints, so this one is killed while it starts
    run.kill(); run.communicate()
    train(python, 'stopped', 120)
    run = begin(root, tmp_path, 'killed', 120)
    time.sleep(.3)
    run.kill(); run.communicate()
    train(python, 'killed', 120)
    for folder in ('stopped', 'killed'):
        assert weights(tmp_path/folder, 120) == weights(tmp_path/'peace', 120)
        log, whole = [[json.loads(line) for line in (tmp_path/name/'log.jsonl').open()] for name in (folder, 'peace')]
        steps = [entry['step'] for entry in log]
        assert steps == sorted(set(steps)) and len(steps) >= 117 and steps[-1] == 120      # a kill may swallow a line
        losses = {entry['step']: entry['loss'] for entry in whole}
        assert all(entry['loss'] == losses[entry['step']] for entry in log)

def test_two_processes_speak_with_one_voice(python, root, tmp_path):
    done = python('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2, '-m', 'ddpm_course.quickstart', 'quickstart', 'made', 'steps=4', *TINY,
                  OMP_NUM_THREADS='1')
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('Training 4 steps') == done.stdout.count('Next:') == 1
    assert sorted(p.name for p in (tmp_path/'made').iterdir()) == MADE

@pytest.mark.parametrize('module', ['quickstart', 'toy'])
def test_target_that_cannot_be_written(python, tmp_path, module):
    (tmp_path/'file').write_text('')
    done = python('-m', f'ddpm_course.{module}', *(['quickstart'] if module == 'quickstart' else []), 'file/made')
    assert done.returncode == 1
    assert 'choose another folder' in done.stderr and 'Traceback' not in done.stderr

def test_says_what_is_wrong(python, tmp_path):
    train(python, 'made', 1)
    for words, said in [(['quickest'], 'there is no recipe'), (['quickstart', 'other', 'step=3'], 'has no step'),
                        (['quickstart', 'made', 'steps=2', *TINY], 'another recipe (steps 1 and not 2)')]:
        done = python('-m', 'ddpm_course.quickstart', *words)
        assert done.returncode == 1 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr

def test_the_toy_still_runs(python, tmp_path):
    done = python('-c', "from ddpm_course.toy import main; main('made', steps=12)")
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path/'made/numbers.json').read_text())
    assert numbers['steps'] == 12 and len(numbers['errors']['toy U-Net']) == 9
    with Image.open(tmp_path/'made/sampling.gif') as gif: assert gif.n_frames == 21
    assert sorted(p.name for p in (tmp_path/'made').iterdir()) == ['denoised.png', 'numbers.json', 'samples.png', 'sampling.gif', 'sampling.png']

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
