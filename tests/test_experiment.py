"Runs and queues of runs: what they leave, and what damage, kills, full disks and each other do to them."
import errno
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker
from PIL import Image

from ddpm_course import experiment
from ddpm_course.config import Config, Sampling, baseline
from ddpm_course.core import autocast, make_grid, read_json, write_json
from ddpm_course.data import ImageSet, datasets
from ddpm_course.experiment import RUN_FORMAT, Experiment, ExperimentManager, RunLocked
from ddpm_course.experiment import lock_run, read_metrics, read_run_state, read_starts
from ddpm_course.pretrained import from_pretrained
from ddpm_course.sampling import balanced_labels, draw_samples

TINY = Config(dims=(16, 32), batch_size=16, steps=12)
TWO_STEPS = Sampling(steps=2)
QUICK = dict(eval_images=136, sampling=TWO_STEPS, checkpoint_every=4)
UNMEASURED = dict(eval_images=0, sampling=TWO_STEPS, checkpoint_every=2, sample_every=0)
MADE = {'checkpoints', 'config.json', 'env.json', 'loss.png', 'metrics.jsonl', 'reverse.gif', 'samples', 'samples.png',
        'score.json', 'state.json'}
DAMAGE = 'ignore:.*damaged'

@pytest.fixture(autouse=True, scope='module')
def one_thread():
    "The processes that tests start have one, and the order of sums must be the same"
    was = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(was)

@pytest.fixture(scope='module')
def peace(tmp_path_factory):
    "A run that nobody disturbed"
    return Experiment(TINY, tmp_path_factory.mktemp('peace'), 'run', **QUICK).run()

def weights(run): return (run.folder/f'checkpoints/step-{run.config.steps:09d}/ema/model.safetensors').read_bytes()

def made(run): return {p.name for p in run.folder.iterdir() if not re.match(r'damaged-|code-|\.lock', p.name)}

def losses(run): return [(e['step'], e['loss'], e['val']) for e in run.metrics()]

def same(run, peace):
    "Equal in every bit, each step once, and nothing left lying about"
    assert run.state['status'] == 'done' and weights(run) == weights(peace) and losses(run) == losses(peace)
    assert made(run) == MADE
    assert {p.name for p in (run.folder/'samples').iterdir()} == {p.name for p in (peace.folder/'samples').iterdir()}
    assert run.scores == peace.scores
    assert (run.folder/'metrics.jsonl').read_text().count('\n') == run.config.steps

def stop_at(monkeypatch, step, error=KeyboardInterrupt):
    "The next run is stopped when it has done this step, and before it is written down"
    def timed(logs, timed=experiment.timed):
        for took, log in timed(logs):
            if log.step == step: raise error('as the test asked')
            yield took, log
    monkeypatch.setattr(experiment, 'timed', timed)

def stopped(folder, step):
    run = Experiment(TINY, folder, 'run', **QUICK)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, step)
        run.run()
    return run

@pytest.fixture(scope='module')
def at_ten(tmp_path_factory): return stopped(tmp_path_factory.mktemp('stopped'), 10)

@pytest.fixture
def halfway(at_ten, tmp_path):
    "A run that was stopped at step 10: it has lines up to 9, and checkpoints of 4 and 8"
    shutil.copytree(at_ten.folder, tmp_path/'run')
    return Experiment(TINY, tmp_path, 'run', **QUICK)

def flip(path, at=None):
    data = bytearray(path.read_bytes())
    data[len(data)//2 if at is None else at] ^= 1
    path.write_bytes(data)

def test_leaves_a_folder_that_explains_itself(peace, capsys):
    assert made(peace) == MADE
    assert [e['step'] for e in peace.metrics()] == list(range(1, 13))
    assert [e['step'] for e in peace.metrics() if e['val']] == [4, 8, 12]
    assert {'loss', 'grad_norm', 'lr', 'images', 'seconds', 'images_per_second'} <= peace.metrics()[0].keys()
    assert {'memory', 'cpu'} <= peace.metrics()[-1].keys()
    assert Config.from_dict(read_json(peace.folder/'config.json')) == TINY
    assert peace.scores['frechet'] > peace.scores['floor'] > 0
    private = str(Path.home()) + '/', f'"{socket.gethostname()}"', str(peace.folder.parent)
    for path in peace.folder.glob('*.json*'):
        text = path.read_text()
        assert not any(word in text for word in private), path
    peace.run()
    assert 'is done. Fréchet distance' in capsys.readouterr().out

@pytest.mark.parametrize('step', [1, 8])           # before the first checkpoint; with one written and its line not
def test_ctrl_c_and_going_on(peace, tmp_path, step):
    run = stopped(tmp_path, step)
    assert run.state['status'] == 'interrupted' and run.state['error'] is None and len(run.metrics()) == step - 1
    torch.manual_seed(99)
    Experiment(TINY, tmp_path, 'run', **QUICK | dict(evaluate_every=5)).run()      # looking more often changes nothing
    assert run.state['resumed'] == [step//4*4] and len(read_starts(run.folder)) == 2
    same(run, peace)
    assert 'frechet' in run.metrics()[9] and run.metrics()[-1]['images'] == 12*16
    with (run.folder/'metrics.jsonl').open('a') as f: f.write('{"step": 13, "lo')
    assert run.metrics()[-1]['step'] == 12                   # cut off: no damage, and no word

def test_ctrl_c_at_any_moment(peace, tmp_path):
    chance, run, hit = random.Random(0), Experiment(TINY, tmp_path, 'run', **QUICK), 0
    was = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(4):
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(.05, 1))
            try: run.run()
            except KeyboardInterrupt: hit += 1
            finally: signal.setitimer(signal.ITIMER_REAL, 0)
    finally: signal.signal(signal.SIGALRM, was)
    run.run()
    assert hit
    same(run, peace)

KILLER = '''
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from ddpm_course.config import Config, Sampling
from ddpm_course.experiment import Experiment
chance, kills = random.Random(1), 0
quick = dict(eval_images=136, sampling=Sampling(steps=2), checkpoint_every=4)
run = Experiment(Config(dims=(16, 32), batch_size=16, steps=12), sys.argv[1], 'run', **quick)
def written():
    path = run.folder/'metrics.jsonl'
    return path.read_bytes().count(b'\\n') if path.exists() else 0
for first in (0, 2, 6, 9, 12):                      # about so many lines are written; the last one is killed at its end
    if not (child := os.fork()):                    # nothing was computed in the parent yet, so this is safe
        run.run()
        os._exit(0)
    lines, ended, until = chance.randint(first, min(first + 3, 12)), (0, 0), time.time() + 60
    while written() < lines and not ended[0] and time.time() < until: ended = os.waitpid(child, os.WNOHANG)
    time.sleep(chance.uniform(0, .2))
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL
    assert run.state['status'] in ('waiting', 'interrupted', 'done'), run.state
print('kills', kills)
'''

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='forks')
def test_killed_at_any_moment(python, peace, tmp_path):
    done = python('-c', KILLER, tmp_path, OMP_NUM_THREADS='1')
    assert done.returncode == 0, done.stderr
    run = Experiment(TINY, tmp_path, 'run', **QUICK).run()
    assert int(done.stdout.split()[-1]) >= 3
    same(run, peace)
    assert run.state['resumed'] == sorted(run.state['resumed'])

@pytest.mark.filterwarnings(DAMAGE)
def test_damaged_files_are_named_and_kept(halfway, peace):
    files = {name: halfway.folder/name for name in ('metrics.jsonl', 'state.json', 'env.json')}
    flip(files['metrics.jsonl'], 30)
    for name in ('state.json', 'env.json'): files[name].write_bytes(files[name].read_bytes()[:40])
    damaged = {path.read_bytes() for path in files.values()}
    with pytest.warns(UserWarning, match='metrics.jsonl is damaged in line 1'): assert len(halfway.metrics()) == 8
    with pytest.raises(ValueError, match='state.json is damaged'): halfway.state
    with pytest.warns(UserWarning) as said: halfway.run()
    for name in files: assert any(f'{name} is damaged' in str(w.message) for w in said)
    assert {path.read_bytes() for path in halfway.folder.glob('damaged-*')} == damaged
    assert weights(halfway) == weights(peace) and losses(halfway) == losses(peace)[1:]
    assert halfway.state['status'] == 'done'

@pytest.mark.filterwarnings(DAMAGE)
@pytest.mark.parametrize('harm', [flip, lambda p: p.write_bytes(p.read_bytes()[:1000])], ids=['bit', 'truncated'])
def test_damaged_checkpoint_the_one_before_is_used(halfway, peace, harm):
    harm(halfway.folder/'checkpoints/step-000000008/ema/model.safetensors')
    with pytest.warns(UserWarning, match='step-000000008/ema/model.safetensors is damaged'): halfway.run()
    assert halfway.state['resumed'] == [4] and list(halfway.folder.glob('checkpoints/damaged-*'))
    same(halfway, peace)

def test_config_of_a_newer_version_and_none_at_all(halfway, tmp_path):
    run = halfway
    config, before = run.folder/'config.json', losses(run)
    write_json(read_json(config) | dict(colour='red'), config)
    for do in (run.run, lambda: Experiment.open(run.folder)):
        with pytest.raises(ValueError, match="config.json cannot be used .*'colour'.*newer"): do()
    config.unlink()
    for do in (run.run, lambda: Experiment.open(run.folder)):
        with pytest.raises(FileNotFoundError, match='has no config.json: bring it back'): do()
    manager = ExperimentManager(tmp_path, **QUICK).add(TINY, 'other')
    with pytest.warns(UserWarning, match='run has no config.json'): assert [r.name for r in manager.runs] == ['other']
    recipe = read_json(run.folder/'checkpoints/step-000000008/ema/config.json')['recipe']
    write_json(recipe, config)                               # as the sentence says
    assert losses(run) == before and Experiment.open(run.folder).config == TINY

def test_state_of_a_newer_version_is_not_touched(peace, tmp_path):
    run = Experiment(TINY, tmp_path, 'run', **QUICK)
    ExperimentManager(tmp_path, **QUICK).add(TINY, 'run')
    write_json(read_run_state(run.folder) | dict(format=RUN_FORMAT + 1), run.folder/'state.json')
    before = {p: p.read_bytes() for p in run.folder.iterdir()}
    with pytest.raises(RuntimeError, match='newer ddpm_course'): run.run()
    assert {p: p.read_bytes() for p in run.folder.iterdir()} == before

def test_root_that_cannot_be_written(tmp_path):
    (tmp_path/'file').write_text('')
    def run(): Experiment(TINY, tmp_path/'file/runs').run()
    def add(): ExperimentManager(tmp_path/'file').add(TINY)
    for do in (run, add):
        with pytest.raises(OSError, match='choose another folder'): do()
    assert ExperimentManager(tmp_path/'nowhere').runs == [] and not (tmp_path/'nowhere').exists()

def test_disk_that_fills_up(peace, tmp_path):
    disk = tmp_path/'disk'
    disk.mkdir()
    one = sum(p.stat().st_size for p in max(peace.folder.glob('checkpoints/step-*')).rglob('*') if p.is_file())
    size = f'size={5*one//2//1024}k'                                           # two checkpoints, but not a third
    mount = subprocess.run(['mount', '-t', 'tmpfs', '-o', size, 'tmpfs', str(disk)], capture_output=True)
    if mount.returncode: pytest.skip('may not mount')
    try:
        run = Experiment(TINY, disk, 'run', **QUICK)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with pytest.raises(OSError, match=r'the checkpoint of step \d+ was not written .*make room'): run.run()
        assert run.state['status'] in ('failed', 'interrupted') and run.state['step'] >= 4
        assert not list(run.folder.glob('checkpoints/.new-*'))
        subprocess.run(['mount', '-o', 'remount,size=40m', str(disk)], check=True)
        same(run.run(), peace)
    finally: subprocess.run(['umount', str(disk)])

def test_full_disk_for_the_diary(tmp_path):
    with pytest.raises(OSError, match='/dev/full could not be written .*make room'):
        experiment.FolderTracker('/dev/full').log(dict(loss=1.), 1)

def test_a_name_belongs_to_one_config(peace):
    with pytest.raises(ValueError, match='another config .seed 0 and not 1.'):
        Experiment(TINY.replace(seed=1), peace.folder.parent, 'run').run()
    for name in ('../out', '.hidden', 'a/b', 'a b'):
        with pytest.raises(ValueError, match='cannot name a folder'): Experiment(TINY, name=name)

def test_queue_goes_on_after_one_that_fails(tmp_path, capsys):
    manager = ExperimentManager(tmp_path, **UNMEASURED).add(TINY, 'broken', lr=1e30, steps=4).add(TINY, 'few', steps=2)
    manager.grid(TINY, seed=[0, 1], steps=[2]).add(TINY, 'few', steps=2)
    assert [r.name for r in manager.runs][:2] == ['broken', 'few'] and len(manager.runs) == 4
    manager.run_all()
    assert manager.list()['status'].tolist() == ['failed', 'done', 'done', 'done']
    assert 'loss became' in manager['broken'].state['error'] or 'NaN' in manager['broken'].state['error']
    said = capsys.readouterr().out
    assert said.count('broken failed') == 1 and said.count('Training 2 steps') == 3
    manager.run_all()
    assert 'failed before' in capsys.readouterr().out
    with pytest.raises(ValueError, match='tensorbord'): ExperimentManager(tmp_path, trackers=['tensorbord'])

def test_ctrl_c_stops_the_queue(monkeypatch, tmp_path):
    manager = ExperimentManager(tmp_path, **UNMEASURED).add(TINY, 'one', steps=4).add(TINY, 'two', steps=4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 3)
        manager.run_all()
    assert manager.list()['status'].tolist() == ['interrupted', 'waiting']
    manager.run_all()
    assert manager.list()['status'].tolist() == ['done', 'done'] and manager['one'].state['resumed'] == [2]

def test_two_managers_on_one_folder(tmp_path, capsys):
    one, two = (ExperimentManager(tmp_path, **UNMEASURED) for _ in range(2))
    for manager in (one, two): manager.add(TINY, 'a', steps=2).add(TINY, 'b', steps=2)
    with lock_run(tmp_path/'a'):
        two.run_all()
        assert two['a'].state['status'] == 'waiting' and two['b'].state['status'] == 'done'
        assert 'another process is at work on' in capsys.readouterr().out
        with pytest.raises(RunLocked): one.delete('a', confirm='a')
        with pytest.raises(RunLocked): one['a'].run()
    one.run_all()
    assert one.list()['status'].tolist() == ['done', 'done']
    assert not one['a'].state['resumed'] and len(read_starts(tmp_path/'b')) == 1
    with pytest.raises(ValueError, match="confirm='a'"): one.delete('a', confirm='b')
    one.delete('a', confirm='a')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['b']

def test_tables_and_figures_need_no_checkpoints(peace, tmp_path):
    keep = shutil.ignore_patterns('checkpoints', '.lock', '*.gif')
    for name in ('x', 'y'): shutil.copytree(peace.folder, tmp_path/name, ignore=keep)
    write_json(read_json(tmp_path/'y/config.json') | dict(target='eps'), tmp_path/'y/config.json')
    before = sorted(tmp_path.rglob('*'))
    manager = ExperimentManager(tmp_path)
    table = manager.compare()
    assert list(table.columns[:2]) == ['target', 'status'] and table['target'].tolist() == ['v', 'eps']
    assert {'frechet', 'floor'} <= set(table.columns)
    assert 'accuracy' in repr(table) and '…' not in repr(table) and '...' not in repr(table)
    for x in ('step', 'images', 'seconds'): assert len(manager.curves(x).axes[0].lines) == 2
    assert len(manager.samples().axes) == 2 and len(manager.samples(step=8, cols=1).axes) == 2
    assert manager.best().scores == peace.scores and manager.best('accuracy').name in 'xy'
    assert [r.name for r in manager.select(target=['eps', 'x0'])] == ['y'] and len(manager.select(dims=(16, 32))) == 2
    for bad, said in [(lambda: manager.select(targt='v'), "did you mean 'target'"),
                      (lambda: manager['z'], 'there is no run'),
                      (lambda: manager.best('speed'), 'no run'), (lambda: manager.curves('hours'), 'no axis'),
                      (lambda: manager.samples(step=5), 'no samples')]:
        with pytest.raises(ValueError, match=said): bad()
    with pytest.raises(FileNotFoundError, match='no checkpoint'): manager['x'].denoiser()
    assert sorted(tmp_path.rglob('*')) == before

def test_what_cannot_be_measured_is_said_before_there_is_a_folder(tmp_path, capsys, monkeypatch):
    with pytest.raises(ValueError, match='100 images are too few to measure'):
        Experiment(TINY, tmp_path, 'run', eval_images=100)
    with pytest.raises(ValueError, match='eval_images is 0'):
        Experiment(TINY, tmp_path, eval_images=0, evaluate_every=4)

    images, labels = torch.zeros(60, 1, 28, 28, dtype=torch.uint8), balanced_labels(60, 10)
    few = ImageSet(images, labels, tuple('0123456789'), 'few', '')
    monkeypatch.setitem(datasets, 'few', lambda split='train', **kwargs: few)
    with pytest.raises(ValueError, match='--eval-images 0'):
        Experiment(TINY.replace(data='few'), tmp_path, 'few', eval_images=512).run()
    with pytest.raises(ValueError, match='a batch of 64 cannot be taken from 60'):
        Experiment(TINY.replace(data='few', batch_size=64), tmp_path, 'few').run()
    with pytest.raises(ValueError, match='must be multiples of 8'):
        Experiment(TINY.replace(data='few', dims=(16, 16, 16)), tmp_path, 'few').run()
    assert not list(tmp_path.iterdir())

    run = Experiment(TINY.replace(data='few', steps=2), tmp_path, 'few', sampling=TWO_STEPS).run()
    assert 'will not be measured' in capsys.readouterr().out and run.scores is None and run.state['status'] == 'done'
    assert Experiment.open(run.folder).settings['eval_images'] == 0

def test_a_run_that_is_not_measured_is_done_once(tmp_path, capsys):
    run = Experiment(TINY, tmp_path, eval_images=0, sampling=TWO_STEPS).run()
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob('*') if p.name != '.lock'}
    run.run()
    assert 'is done' in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in run.folder.rglob('*') if p.name != '.lock'}

def test_tensorboard_reads_its_files_back(monkeypatch, tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    quick = dict(eval_images=0, sampling=TWO_STEPS, checkpoint_every=3)
    run = Experiment(TINY.replace(steps=6), tmp_path, 'run', trackers=['tensorboard'], **quick)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 5)
        run.run()
    run.run()
    read = EventAccumulator(str(run.folder/'tensorboard')).Reload()
    assert [s.step for s in read.Scalars('loss')] == list(range(1, 7))          # each once, although step 4 came twice
    assert [s.value for s in read.Scalars('loss')] == pytest.approx([e['loss'] for e in run.metrics()], rel=1e-6)
    assert [s.step for s in read.Images('samples')] == [3, 6]

def test_wandb_offline_run_is_on_the_disk(monkeypatch, tmp_path, capsys):
    pytest.importorskip('wandb')
    for name in ('WANDB_API_KEY', 'WANDB_MODE'): monkeypatch.delenv(name, raising=False)
    quick = dict(eval_images=0, sampling=TWO_STEPS)
    run = Experiment(TINY.replace(steps=2), tmp_path, 'run', trackers=['wandb'], **quick).run()
    assert 'Weights & Biases is offline' in capsys.readouterr().out
    file, = run.folder.glob('wandb/offline-run-*/*.wandb')
    assert b'grad_norm' in file.read_bytes()

def test_missing_tracker_is_one_sentence(monkeypatch, tmp_path):
    find = experiment.importlib.util.find_spec
    def without(name, *args): return None if name == 'tensorboard' else find(name, *args)
    monkeypatch.setattr(experiment.importlib.util, 'find_spec', without)
    with pytest.raises(ImportError, match='pip install tensorboard'):
        Experiment(TINY, tmp_path, trackers=['tensorboard']).run()

def as_before(folder):
    "Rename what is in a run folder to what version 1 called it"
    old_fields = dict(batch_size='size', lr_schedule='learning_rate', label_dropout='drop')
    def write(values, name): (folder/name).write_text(json.dumps(values))          # without a digest
    old_names = [k for k in baseline if k not in ('net', 'times')][:16]
    config = {k: read_json(folder/'config.json')[k] for k in old_names}
    write({old_fields.get(k, k): v for k, v in config.items()}, 'config.json')

    settings = dict(n=136, draw=2, every=4, trackers=[], sample_every=None, evaluate_every=0)
    state = {k: v for k, v in read_json(folder/'state.json').items() if k != 'changes'}
    write(state | dict(format=1, settings=settings), 'state.json')
    write(read_starts(folder), 'env.json')

    if (folder/'score.json').exists():
        scores = json.dumps({k: v for k, v in read_json(folder/'score.json').items() if k != 'format'})
        (folder/'score.json').write_text(scores.replace('"frechet"', '"fid"').replace('"extractor"', '"eye"'))

def test_a_run_of_the_version_before_goes_on(halfway, peace):
    as_before(halfway.folder)
    run = Experiment.open(halfway.folder)
    assert run.config == TINY and run.settings == peace.settings and run.state['status'] == 'interrupted'
    run.run()
    assert run.state['resumed'] == [8] and read_json(run.folder/'state.json')['format'] == RUN_FORMAT
    same(run, peace)

def test_a_run_of_the_version_before_that_is_done_counts_as_done(peace, tmp_path, capsys):
    shutil.copytree(peace.folder, tmp_path/'run')
    as_before(tmp_path/'run')
    before = {p: p.read_bytes() for p in (tmp_path/'run').rglob('*') if p.is_file() and p.name != '.lock'}
    run = ExperimentManager(tmp_path, **QUICK).run_all()['run'].run()
    assert 'run is done. Fréchet distance' in capsys.readouterr().out
    assert {p: p.read_bytes() for p in (tmp_path/'run').rglob('*') if p.is_file() and p.name != '.lock'} == before
    assert run.scores == peace.scores

def test_the_stored_runs_are_read_as_they_are(root):
    runs = ExperimentManager(root/'data/experiments').runs
    assert len(runs) >= 11
    for run in runs:
        assert run.state['status'] == 'done' and run.sampling == Sampling('ddim', 50)
        assert run.settings['eval_images'] == 2048 and run.settings['checkpoint_every'] == 200
        assert run.scores['frechet'] > run.scores['floor'] > 0 and run.metrics()[-1]['step'] == run.config.steps

def test_any_sampler_draws_and_is_named(tmp_path, capsys):
    sampling = Sampling('ddpm', steps=3, variance=1.)
    run = Experiment(TINY.replace(steps=4), tmp_path, 'run', eval_images=136, sampling=sampling).run()
    assert '3 steps of ddpm (variance 1.0)' in capsys.readouterr().out
    assert Experiment.open(run.folder).sampling == sampling
    drawn = run.scores['settings']
    assert (drawn['sampler'], drawn['steps'], drawn['variance']) == ('ddpm', 3, 1.)

    with autocast(): images = draw_samples(run.denoiser(), sampling, 40, balanced_labels(40, 10))
    with Image.open(run.folder/'samples/step-000000004.png') as grid:
        assert (np.asarray(grid) == make_grid(images, 10)).all()
    with pytest.raises(ValueError, match='ddpm has no eta'):
        Experiment(TINY, tmp_path, sampling=Sampling('ddpm', eta=1.))

    Experiment(TINY.replace(steps=4), tmp_path, 'run', eval_images=136, sampling=TWO_STEPS).run()     # draws anew
    assert 'Going on from step 4' in capsys.readouterr().out and run.scores['settings']['sampler'] == 'ddim'

def test_a_run_without_conditions(tmp_path, capsys):
    run = Experiment(TINY.replace(net='UNet(classes=None)', steps=4), tmp_path, **QUICK).run()
    assert run.state['status'] == 'done' and run.scores['frechet'] > run.scores['floor'] > 0
    assert run.scores['settings']['conditional'] is False and 'accuracy' not in run.scores
    assert run.denoiser().class_names is None and run.name.startswith('net=UNet-classes=None-')
    with Image.open(run.folder/'samples/step-000000004.png') as grid: assert grid.size == (8*32, 4*32)
    assert made(run) == MADE

    run.run()
    assert 'is done' in capsys.readouterr().out
    unmeasured = Experiment(TINY.replace(net='UNet(classes=None)', steps=2), tmp_path, 'unmeasured', **UNMEASURED).run()
    assert len(ExperimentManager(tmp_path).compare()) == 2 and unmeasured.scores is None

def test_images_of_any_shape_and_number_of_classes(monkeypatch, tmp_path):
    def tiles(split='train', root=None, full=None, download=False):
        "Sixty tiles in three colours, 16 by 16"
        labels = balanced_labels(60, 3)
        images = torch.eye(3)[labels][:, :, None, None].expand(-1, -1, 16, 16)*255
        return ImageSet(images.to(torch.uint8), labels, ('red', 'green', 'blue'), 'tiles', split)

    monkeypatch.setitem(datasets, 'tiles', tiles)
    run = Experiment(TINY.replace(data='tiles', steps=2), tmp_path, 'run', **UNMEASURED | dict(sample_every=1)).run()
    assert run.state['status'] == 'done' and run.denoiser().shape == (3, 16, 16)
    for path in run.folder.glob('samples/*.png'):
        with Image.open(path) as grid: assert grid.size == (6*20, 4*20)

def test_a_tracker_of_the_reader(monkeypatch, tmp_path):
    logged = []
    class Memory(GeneralTracker):
        name, requires_logging_directory, tracker = 'memory', False, None
        def __init__(self, every):
            super().__init__()
            self.every = every
        def log(self, values, step=None, **kwargs):
            if step % self.every == 0: logged.append((step, values['loss']))

    monkeypatch.setitem(experiment.trackers, 'memory', lambda run, done, every=1: Memory(every))
    run = Experiment(TINY.replace(steps=6), tmp_path, 'run', trackers=['memory(every=2)'], **UNMEASURED).run()
    assert logged == [(e['step'], e['loss']) for e in run.metrics() if e['step'] % 2 == 0]
    assert Experiment.open(run.folder).settings['trackers'] == ['memory(every=2)']
    with pytest.raises(ValueError, match='memory'): Experiment(TINY, tmp_path, trackers=['memory(eevry=2)'])

    half = Experiment(TINY.replace(steps=4), tmp_path, 'half', trackers=['memory'], **UNMEASURED)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, 3)
        half.run()
    monkeypatch.delitem(experiment.trackers, 'memory')                  # another process, which has no such row
    assert len(ExperimentManager(tmp_path).compare()) == 2
    with pytest.raises(ValueError, match="there is no tracker 'memory'"): Experiment.open(half.folder).run()

TWO = '''
import os, sys
import torch
torch.set_num_threads(1)
from ddpm_course import experiment
from ddpm_course.config import Config, Sampling
from ddpm_course.experiment import ExperimentManager
def timed(logs, timed=experiment.timed):
    for took, log in timed(logs):
        if os.environ.get('STOP') and log.step == 9: raise ValueError('as the test asked')
        yield took, log
manager = ExperimentManager(sys.argv[1], eval_images=136, sampling=Sampling(steps=2), checkpoint_every=4)
tiny = Config(dims=(16, 32), batch_size=16)
manager.add(tiny, 'first', steps=3).add(tiny, 'second', steps=12).run_all(['first'])
os.environ['STOP'] = '1'
experiment.timed = timed
manager.run_all()
'''

def test_two_processes_speak_with_one_voice_and_one_goes_on(python, peace, tmp_path):
    (tmp_path/'two.py').write_text(TWO)
    torchrun = '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2
    done = python(*torchrun, 'two.py', tmp_path/'runs', OMP_NUM_THREADS='1')
    assert done.returncode == 0, done.stderr
    assert all(done.stdout.count(words) == 1 for words in ('Training 3 steps', 'Made ', 'second failed'))
    assert done.stdout.count('10,000 train images') == 2                        # one a run
    manager = ExperimentManager(tmp_path/'runs', **QUICK)
    first, second = manager.runs
    assert first.state['status'] == 'done' and second.state['status'] == 'failed' and len(second.metrics()) == 8
    lines = (first.folder/'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == [1, 2, 3]
    assert made(first) == MADE
    manager.run_all(retry=True)
    assert second.state['status'] == 'done' and second.state['resumed'] == [8]
    assert [start['processes'] for start in read_starts(second.folder)] == [2, 1]
    assert [e['step'] for e in second.metrics()] == list(range(1, 13))
    assert [e['loss'] for e in second.metrics()] == pytest.approx([e['loss'] for e in peace.metrics()], rel=.01)

def test_every_bit_of_the_diary_counts(tmp_path):
    path = tmp_path/'metrics.jsonl'
    whole = ''.join(experiment.encode_line(dict(step=s, loss=s/7)) for s in range(1, 4)).encode()
    for at in range(0, len(whole) - 60):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 2]) + whole[at + 1:])
        with pytest.warns(UserWarning, match='is damaged in line'): assert len(read_metrics(path)) < 3
    for at in range(len(whole)): assert len(experiment.parse_metrics(whole[:at])[0]) == whole[:at].count(b'\n')

def test_a_diary_that_lost_lines_says_so(halfway, capsys):
    path = halfway.folder/'metrics.jsonl'
    path.write_text(''.join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.warns(UserWarning, match='lacks 2 steps from 3 to 4'): halfway.run()      # 5 to 8 are in the checkpoint
    assert [e['step'] for e in halfway.metrics()] == [1, 2, *range(5, 13)]
    assert halfway.state['lost'] == '2 steps from 3 to 4' and 'nothing is known any more' in capsys.readouterr().out

def test_going_on_in_another_way_is_written_down(peace, tmp_path):
    shutil.copytree(peace.folder, tmp_path/'run')
    run = Experiment.open(tmp_path/'run').extend(steps=16, lr=1e-3)
    assert run.state['status'] == 'interrupted' and run.config.steps == 16
    assert run.run().state['status'] == 'done' and run.state['resumed'] == [12] and run.metrics()[-1]['step'] == 16
    assert run.state['changes'][0]['changes'] == dict(steps=[12, 16], lr=[3e-3, 1e-3])
    assert Experiment.open(run.folder).config == TINY.replace(steps=16, lr=1e-3)
    with pytest.raises(ValueError, match='setting that a run can change'): run.extend(target='eps')
    with pytest.raises(ValueError, match='has done 16 steps, and 4 leave nothing'): run.extend(steps=4)
    with pytest.raises(ValueError, match='give more steps'): run.extend(lr=.1)         # it would never be trained so
    with pytest.raises(ValueError, match='resume run --steps'):
        Experiment(TINY.replace(steps=99), tmp_path, 'run', **QUICK).run()

    branch = run.branch('other', steps=20, lr=2e-3)
    assert branch.state['branch_of'] == 'run' and branch.state['step'] == 16 and len(branch.metrics()) == 16
    branch.run()
    assert branch.state['status'] == 'done' and run.metrics()[-1]['step'] == 16
    with pytest.raises(ValueError, match='exists already'): run.branch('other', steps=30)

def test_one_flipped_bit_in_a_small_file_is_named(halfway):
    for name in ('config.json', 'state.json'):
        path = halfway.folder/name
        whole = path.read_bytes()
        config, state = halfway.config, {k: v for k, v in halfway.state.items()}
        for bit in random.Random(name).sample(range(8*len(whole)), 150):
            path.write_bytes(whole[:bit//8] + bytes([whole[bit//8] ^ 1 << bit % 8]) + whole[bit//8 + 1:])
            try: run = Experiment.open(halfway.folder)
            except (ValueError, RuntimeError) as e: assert name in str(e) or 'newer' in str(e), (bit, e)
            else: assert run.config == config and run.state == state, bit
        path.write_bytes(whole)

def test_a_damaged_run_is_a_row_that_says_so(peace, tmp_path):
    for name in 'abcde': shutil.copytree(peace.folder, tmp_path/name, ignore=shutil.ignore_patterns('checkpoints'))
    (tmp_path/'b/state.json').write_text('null')
    (tmp_path/'c/score.json').write_text('')
    (tmp_path/'d/config.json').write_text((tmp_path/'d/config.json').read_text().replace('0.003', '0.002'))
    (tmp_path/'e/metrics.jsonl').write_text('{}\n[]\n')
    manager = ExperimentManager(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        table = manager.compare()
    assert table['status'].to_dict() == dict(a='done', **dict.fromkeys('bcde', 'damaged'))
    assert 'do not have their digest' in manager.list().loc['d', 'error']

def test_only_our_own_leftovers_are_swept_up(halfway):
    ours = [halfway.folder/'.config-0123abcd.json', halfway.folder/'checkpoints/.new-0123abcd']
    theirs = [halfway.folder/'.notes-20251231.txt', halfway.folder/'checkpoints/.new-ideas']
    for path in ours + theirs: path.mkdir() if path.parent.name == 'checkpoints' else path.write_text('x')
    halfway.run()
    assert not any(p.exists() for p in ours) and all(p.exists() for p in theirs)

def test_a_link_that_leads_out_is_refused(halfway, tmp_path):
    (tmp_path/'elsewhere').write_text('mine')
    (halfway.folder/'samples.png').symlink_to(tmp_path/'elsewhere')
    with pytest.raises(ValueError, match='samples.png is a link that leads out'): halfway.run()

def test_a_config_of_another_training_is_not_gone_on_with(halfway):
    write_json(TINY.replace(target='eps').as_dict(), halfway.folder/'config.json', format=2)
    with pytest.raises(ValueError, match='was trained with target v and not eps'): Experiment.open(halfway.folder).run()

def test_names_do_not_change_with_a_default(monkeypatch):
    assert experiment.run_name(Config(target='eps')) == 'target=eps'
    monkeypatch.setitem(baseline, 'steps', 7)                    # as if another default had come since
    assert experiment.run_name(Config(target='eps')) == 'target=eps,steps=1100'
    assert experiment.run_name(Config(data='/home/me/my photos')).startswith('data=my-photos,steps=1100-')

def test_the_best_checkpoint_can_be_drawn_from(peace):
    best, newest = (peace.denoiser(which=which) for which in ('best', 'newest'))
    vals = {e['step']: e['val'] for e in peace.metrics() if e['val']}
    path = peace.folder/f'checkpoints/step-{min(vals, key=vals.get):09d}'
    pairs = zip(best.parameters(), from_pretrained(path/'ema').parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert newest.recipe == best.recipe

def test_wandb_login_counts(monkeypatch, tmp_path):
    for name in ('WANDB_API_KEY', 'WANDB_BASE_URL'): monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('NETRC', str(tmp_path/'netrc'))
    assert not experiment.has_wandb_key()
    (tmp_path/'netrc').write_text('machine api.wandb.ai login user password 0123\n')
    assert experiment.has_wandb_key()

@pytest.mark.parametrize('error', [OSError(errno.ENOLCK, 'No locks available'), NotImplementedError('no flock here')])
def test_a_file_system_without_locks_is_one_sentence(monkeypatch, tmp_path, error):
    def acquire(self, *args, **kwargs): raise error
    monkeypatch.setattr('filelock.FileLock.acquire', acquire)
    with pytest.raises(OSError, match='cannot be locked .*choose a folder on another file system'):
        Experiment(TINY, tmp_path, 'run', **UNMEASURED).run()
    assert not experiment.is_locked(tmp_path/'run')

def test_a_machine_that_shows_nothing_of_itself(monkeypatch):
    def closed(*args, **kwargs): raise PermissionError('/proc/stat')
    monkeypatch.setattr(experiment.psutil, 'cpu_percent', closed)
    assert 'memory' not in experiment.resource_usage()

def test_no_print_can_fail_a_run(python, tmp_path):
    script = ('from ddpm_course.config import Config, Sampling\nfrom ddpm_course.experiment import Experiment\n'
              'Experiment(Config(dims=(8, 16), batch_size=8, steps=2), "läufe-ж", "run", eval_images=0, '
              'sampling=Sampling(steps=2)).run()')
    done = python('-c', script, cwd=tmp_path, PYTHONIOENCODING='ascii')
    assert done.returncode == 0, done.stderr
    assert 'l?ufe-?' in done.stdout and Experiment.open(tmp_path/'läufe-ж/run').state['status'] == 'done'

@pytest.mark.parametrize('name', ['config.json', 'state.json'])
def test_an_empty_record_is_not_an_old_one(halfway, name):
    (halfway.folder/name).write_text('{}')
    with pytest.raises(ValueError, match=f'{name} .*has lost its'): Experiment.open(halfway.folder)
    with pytest.raises(ValueError, match=f'{name} '): ExperimentManager(halfway.folder.parent)['run']

@pytest.mark.parametrize('harm', ['', '{"step": 4}', '['*50_000 + ']'*50_000, '\0'*500])
def test_a_run_that_lost_its_results_is_no_result(peace, tmp_path, harm):
    for name in 'ab': shutil.copytree(peace.folder, tmp_path/name, ignore=shutil.ignore_patterns('checkpoints'))
    (tmp_path/'a/metrics.jsonl').write_text(harm and harm + '\n')
    manager = ExperimentManager(tmp_path)
    with pytest.warns(UserWarning, match='a/metrics.jsonl is damaged'):
        assert manager.compare()['status'].to_dict() == dict(a='damaged', b='done')
        assert len(manager.curves().axes[0].lines) == 1
    line = experiment.encode_line(dict(step=12, loss='x'))
    with pytest.raises(ValueError, match='no number'): experiment.decode_line(line.encode())

def test_killed_while_it_is_extended(halfway, monkeypatch):
    def kill(*args, **kwargs): raise SystemExit
    with monkeypatch.context() as patch:
        patch.setattr(experiment, 'write_json', lambda values, path, **kwargs: (
            kill() if path.name == 'config.json' else write_json(values, path, **kwargs)))
        with pytest.raises(SystemExit): halfway.extend(steps=14, lr=1e-3)
    run = Experiment.open(halfway.folder)
    assert run.config == TINY and run.state['changes'] == []
    run.extend(steps=14, lr=1e-3).run()
    assert [entry['step'] for entry in run.state['changes']] == [8] and run.metrics()[-1]['step'] == 14

def test_what_fails_only_when_it_is_used_fails_before_there_is_a_folder(tmp_path):
    cases = ((TINY.replace(optimizer='adamw(foreach=True)'), TWO_STEPS),
             (TINY.replace(lr_schedule='linear(hold=1)'), TWO_STEPS),
             (TINY, Sampling('ddim(eta=-1)', steps=2)), (TINY, TWO_STEPS.replace(spacing='karras(rho=0)')))
    for config, sampling in cases:
        with pytest.raises(ValueError): Experiment(config, tmp_path, 'run', eval_images=0, sampling=sampling).run()
    assert not list(tmp_path.iterdir())
