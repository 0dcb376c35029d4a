"`make run`: what it writes, what it leaves when it is stopped, what it says when it cannot write."
import json
import os
import signal
import subprocess
import sys
import time

from PIL import Image

def test_writes_pictures_and_numbers(python, tmp_path):
    done = python('-c', "from ddpm_course.toy import main; main('made', steps=12)")
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path/'made/numbers.json').read_text())
    assert numbers['steps'] == 12 and len(numbers['errors']['toy U-Net']) == 9
    with Image.open(tmp_path/'made/sampling.gif') as gif: assert gif.n_frames == 21
    assert sorted(p.name for p in (tmp_path/'made').iterdir()) == ['denoised.png', 'numbers.json', 'samples.png', 'sampling.gif', 'sampling.png']
    assert len(done.stdout.strip().splitlines()[-2:]) == 2 and 'Next:' in done.stdout

def test_ctrl_c_leaves_no_half_file(root, tmp_path):
    env = os.environ | dict(PYTHONPATH=str(root), MPLBACKEND='agg')
    for wait in (1, 4, 8):
        run = subprocess.Popen([sys.executable, '-m', 'ddpm_course.toy', 'made'], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))   # a CI job may ignore Ctrl-C
        time.sleep(wait)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
        assert run.returncode != 0
        left = list((tmp_path/'made').iterdir()) if (tmp_path/'made').exists() else []
        assert left == [], left
    assert 'Stopped.' in said and 'Traceback' not in said

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

def test_target_that_cannot_be_written(python, tmp_path):
    (tmp_path/'file').write_text('')
    done = python('-m', 'ddpm_course.toy', 'file/toy')
    assert done.returncode == 1
    assert 'choose another folder' in done.stderr and 'Traceback' not in done.stderr
