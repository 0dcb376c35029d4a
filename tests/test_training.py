"""Training, killed at any moment and started again, ends with the same bits: with one process and with two. And what
else can go wrong with files and processes. KILLS=100 kills a hundred times (`make test-slow`)."""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

TINY = Path(__file__).with_name('train_tiny.py')
KILLS = int(os.environ.get('KILLS', 6))

def command(folder, processes, *options):
    launcher = [] if processes == 1 else ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', processes]
    return [str(part) for part in (sys.executable, *launcher, TINY, folder, *options)]

@pytest.fixture(scope='session')
def start():
    root = Path(__file__).parent.parent
    env = os.environ | dict(PYTHONPATH=str(root), OMP_NUM_THREADS='1', PYTHONUNBUFFERED='1')
    def start(folder, processes=1, *options, **kwargs):
        return subprocess.Popen(command(folder, processes, *options), env=env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
    return start

@pytest.fixture(scope='session')
def run(start):
    "Run to the end; returns the exit status, what was said, and what was complained"
    def run(folder, processes=1, *options, **kwargs):
        process = start(folder, processes, *options, **kwargs)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err
    return run

def last(out): return out.strip().splitlines()[-1]

def family(pid):
    "A process and all below it"
    children = Path(f'/proc/{pid}/task/{pid}/children')
    below = children.read_text().split() if children.exists() else []
    return [pid] + [p for child in below for p in family(int(child))]

def kill(process):
    for pid in reversed(family(process.pid)):
        try: os.kill(pid, signal.SIGKILL)
        except ProcessLookupError: pass
    process.communicate(timeout=60)

LONG = '--steps', 40, '--checkpoint-every', 1, '--dims', 32      # a good part of the time goes into writing checkpoints

@pytest.fixture(scope='session')
def uninterrupted(run, tmp_path_factory):
    "The last line of a run that nobody killed, for each number of processes"
    folder, lines = tmp_path_factory.mktemp('whole'), {}
    def last_line(processes):
        if processes not in lines:
            status, out, err = run(folder/f'run{processes}', processes, *LONG)
            assert status == 0, err
            lines[processes] = last(out)
        return lines[processes]
    return last_line

@pytest.mark.skipif(sys.platform != 'linux', reason='finds the processes to kill in /proc')
@pytest.mark.parametrize('processes, share', [(1, 2), (2, 1)])
def test_killed_at_any_moment_it_ends_with_the_same_bits(start, run, uninterrupted, tmp_path, processes, share):
    chance, folder, kills, writing = random.Random(processes), tmp_path/'run', 0, 0
    expected = uninterrupted(processes)
    assert expected.startswith(f'{processes} 40 ')
    while kills < round(KILLS*share/3):
        process = start(folder, processes, *LONG)
        for line in process.stdout:
            if line.startswith('begin'): break
        if chance.random() < .5: time.sleep(chance.uniform(0, 1.5))         # any moment
        else:                                                               # as soon as a checkpoint is being written
            before, limit = set(folder.glob('.new-*')), time.time() + 30
            while not set(folder.glob('.new-*')) - before and process.poll() is None and time.time() < limit: pass
            time.sleep(chance.uniform(0, .01))
        if process.poll() is None:
            kill(process)
            kills += 1
            writing += bool(list(folder.glob('.new-*')))
            continue
        out, err = process.communicate()
        assert process.returncode == 0, err                    # it came to its end before it was killed: from the start
        folder = tmp_path/f'run{kills}'
    status, out, err = run(folder, processes, *LONG)
    assert status == 0, err
    assert last(out) == expected
    assert not list(folder.glob('damaged-*')) and len(list(folder.glob('step-*'))) <= 3
    print(f'{processes} process(es): {kills} kills, {writing} of them while a checkpoint was being written')

def test_two_processes_are_one(run, tmp_path):
    for processes in (1, 2):
        status, out, err = run(tmp_path/f'run{processes}', processes, '--dropout', 0)
        assert status == 0 and last(out).startswith(f'{processes} 30 '), err    # the script compares their weights
    one, two = (torch.load(tmp_path/f'run{n}.pt', weights_only=True) for n in (1, 2))
    assert max((a - b).abs().max().item() for a, b in zip(one, two, strict=True)) < 1e-3

def test_goes_on_with_another_number_of_processes(run, tmp_path):
    folder = tmp_path/'run'
    status, _, err = run(folder, 2, '--dropout', 0, '--nan-at', 20)
    assert status != 0 and 'the loss became nan' in err
    status, out, err = run(folder, 1, '--dropout', 0)
    assert status == 0, err
    status, _, _ = run(tmp_path/'whole', 1, '--dropout', 0)
    one, two = (torch.load(tmp_path/f'{name}.pt', weights_only=True) for name in ('run', 'whole'))
    assert max((a - b).abs().max().item() for a, b in zip(one, two, strict=True)) < 1e-3

def test_a_checkpoint_of_the_version_before_goes_on(run, tmp_path):
    "tests/format_1 was written before the network's layers and the checkpoint's parts had their names of today"
    from ddpm_course.pretrained import read_weights
    old = TINY.with_name('format_1')/'step-000000003'
    shutil.copytree(old.parent, tmp_path/'old')
    status, out, err = run(tmp_path/'old', 1, '--dims', 8, '--steps', 6, '--checkpoint-every', 3)
    assert status == 0 and last(out).startswith('1 6 '), err

    # It went on from those weights, and did not begin anew: three steps of a small learning rate move them little.
    before, after = read_weights(old/'model')[1], read_weights(tmp_path/'old/step-000000006/model')[1]
    assert before.keys() == after.keys()
    moved = max((before[k] - after[k]).abs().max().item() for k in before)
    assert 0 < moved <= 3*2e-3*1.5
    assert json.loads((tmp_path/'old/step-000000006/state.json').read_text())['format'] == 3

def test_nan_stops_and_keeps_the_last_checkpoint(run, uninterrupted, tmp_path):
    status, _, err = run(tmp_path/'run', 1, *LONG, '--nan-at', 20)
    assert status != 0 and 'the loss became nan' in err and 'at step 20' in err
    assert max(p.name for p in (tmp_path/'run').glob('step-*')) == 'step-000000019'
    status, out, err = run(tmp_path/'run', 1, *LONG)
    assert status == 0 and last(out) == uninterrupted(1)

def test_batch_that_two_processes_cannot_share(run, tmp_path):
    status, _, err = run(tmp_path/'run', 2, '--batch-size', 15)
    assert status != 0 and 'cannot be shared by 2 processes' in err

def test_folder_of_another_network_is_not_touched(run, tmp_path):
    assert run(tmp_path/'run')[0] == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path/'run').rglob('*')}
    status, _, err = run(tmp_path/'run', 1, '--dims', 8)
    assert status != 0 and 'belongs to another run (its arguments:' in err
    assert {p: p.stat().st_mtime_ns for p in (tmp_path/'run').rglob('*')} == before

def test_folder_that_cannot_be_written_is_said_before_training(run, tmp_path):
    (tmp_path/'file').write_text('')
    status, _, err = run(tmp_path/'file/run')
    assert status != 0 and 'choose another folder' in err

def small_disk(folder):
    "A disk of 4 MB at `folder`, or None where we may not make one"
    folder.mkdir()
    made = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(folder)], capture_output=True)
    return folder if made.returncode == 0 else None

def test_disk_that_fills_up(run, uninterrupted, tmp_path):
    import resource
    disk = small_disk(tmp_path/'disk')
    def limit_files(): resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
    limit = dict(preexec_fn=limit_files) if disk is None else {}
    folder = (disk or tmp_path/'disk')/'run'
    try:
        status, _, err = run(folder, 1, *LONG, **limit)
        assert status != 0 and re.search(r'the checkpoint of step \d+ was not written', err), err
        assert not list(folder.glob('.new-*'))
        whole = sorted(folder.glob('step-*'))
        if disk:
            assert whole, 'no checkpoint fitted: the test needs a larger disk'
            subprocess.run(['mount', '-o', 'remount,size=40m', str(disk)], check=True)
        status, out, err = run(folder, 1, *LONG)
        assert status == 0 and last(out) == uninterrupted(1), err
    finally:
        if disk: subprocess.run(['umount', str(disk)])

def test_flipped_bit_is_named_and_the_one_before_is_used(run, uninterrupted, tmp_path):
    folder = tmp_path/'run'
    assert run(folder, 1, *LONG, '--nan-at', 20)[0] != 0
    newest = max(folder.glob('step-*'))
    file = newest/'optimizer.safetensors'
    data = bytearray(file.read_bytes())
    data[len(data)//2] ^= 1
    file.write_bytes(data)
    status, out, err = run(folder, 1, *LONG)
    assert status == 0 and last(out) == uninterrupted(1)
    assert f'{newest.name}/optimizer.safetensors is damaged' in err
    assert len(list(folder.glob(f'damaged-{newest.name}-*'))) == 1

def test_checkpoint_of_a_newer_version_is_neither_read_nor_put_aside(run, tmp_path):
    from ddpm_course.training import sha256
    assert run(tmp_path/'run')[0] == 0
    file = max((tmp_path/'run').glob('step-*'))/'state.json'
    state = json.loads(file.read_text())
    del state['digest']
    state['format'] += 1
    file.write_text(json.dumps(state | dict(digest=sha256(json.dumps(state, sort_keys=True).encode()))))
    status, _, err = run(tmp_path/'run')
    assert status != 0 and 'was written by a newer ddpm_course' in err
    assert file.exists() and not list((tmp_path/'run').glob('damaged-*'))
