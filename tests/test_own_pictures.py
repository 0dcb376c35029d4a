"CIFAR-10 from data to numbers, on a small file of its format; and a folder of pictures without classes."
import random
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from ddpm_course.cli import main
from ddpm_course.config import Config, Sampling
from ddpm_course.experiment import Experiment
from ddpm_course.pretrained import from_pretrained, push_to_hub

QUICK = dict(sampling=Sampling(steps=2), checkpoint_every=2, sample_every=0)
TINY  = dict(dims=(8, 16), batch_size=16, steps=2, image_size=None)

def test_cifar10_trains_draws_and_is_measured(tiny_cifar10, tmp_path, capsys):
    run = Experiment(Config(data='cifar10', dims=(8, 16), batch_size=16, steps=2), tmp_path, 'run', **QUICK).run()
    said = capsys.readouterr().out
    assert run.state['status'] == 'done' and 'will not be measured' in said          # 200 images are too few
    denoiser = run.denoiser()
    assert denoiser.shape == (3, 32, 32) and denoiser.class_names[0] == 'airplane'
    assert main(['sample', '--model', str(run.folder), '--class', 'ship', '--n', '4', '--steps', '2',
                 '--out', str(tmp_path/'ships.png')]) == 0
    with Image.open(tmp_path/'ships.png') as grid: assert grid.size[0] == 2*(32 + 4)*3

def draw(folder, n, labelled):
    r = random.Random(0)
    for i in range(n):
        picture = Image.new('L', (20, 24), 20)
        box = (r.randrange(8), r.randrange(8), r.randrange(10, 19), r.randrange(10, 19))
        shapes = ImageDraw.Draw(picture)
        (shapes.ellipse if i % 2 else shapes.rectangle)(box, fill=r.randrange(90, 256))
        path = Path(folder)/(('a', 'b')[i % 2] if labelled else '')/f'{i}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)

class Api:
    "A stand-in for the Hub"
    def create_repo(self, name, **kwargs): pass
    def upload_folder(self, repo_id, folder_path, **kwargs):
        self.files = {p.name: p.read_text(errors='replace') for p in Path(folder_path).iterdir()}

def test_grey_pictures_without_classes_all_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    draw(tmp_path/'secret-place'/'shapes', 500, labelled=False)
    config = Config(data=str(tmp_path/'secret-place'/'shapes'), image_size=16, dims=(8, 16), batch_size=16, steps=2)
    from ddpm_course import metrics
    monkeypatch.setattr(metrics, 'own_recipe', metrics.own_recipe | dict(steps=8))
    (tmp_path/'secret-place'/'shapes'/'test').mkdir()
    for path in list((tmp_path/'secret-place'/'shapes').glob('*.png')):
        part = 'test' if int(path.stem) % 3 == 0 else 'train'
        (path.parent/part).mkdir(exist_ok=True)
        path.rename(path.parent/part/path.name)

    run = Experiment(config, tmp_path/'runs', 'run', eval_images=140, **QUICK).run()
    scores = run.scores
    assert scores['frechet'] > 0 and 'rotation' in scores['extractor'] and 'accuracy' not in scores
    denoiser = run.denoiser()
    assert denoiser.shape == (1, 16, 16) and denoiser.class_names is None and denoiser.null is None

    # Goes on, is evaluated and compared, and its card names no folder of this machine.
    assert main(['resume', str(run.folder), '--steps', '3']) == 0
    assert main(['evaluate', '--model', str(run.folder), '--n', '140', '--steps', '2']) == 0
    assert main(['compare', '--root', str(tmp_path/'runs')]) == 0
    assert 'rotation network' in capsys.readouterr().out
    api = Api()
    push_to_hub(denoiser, 'me/shapes', api=api)
    assert 'secret-place' not in ''.join(api.files.values()) and '16×16 grey' in api.files['README.md']
    assert torch.equal(from_pretrained(run.folder/'checkpoints/step-000000003/ema').net.conv_in.weight,
                       run.denoiser().net.conv_in.weight)

def test_a_run_is_looked_at_and_drawn_from_where_its_pictures_are_not(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    draw(tmp_path/'shapes', 60, labelled=True)
    config = Config(data=str(tmp_path/'shapes'), image_size=16, dims=(8, 16), batch_size=8, steps=2)
    run = Experiment(config, tmp_path/'runs', 'run', eval_images=0, **QUICK).run()
    (tmp_path/'shapes').rename(tmp_path/'elsewhere')
    assert main(['compare', '--root', str(tmp_path/'runs')]) == 0 and 'done' in capsys.readouterr().out
    assert main(['sample', '--model', str(run.folder), '--n', '2', '--steps', '2', '--out', str(tmp_path/'x.png')]) == 0
    assert main(['resume', str(run.folder), '--steps', '4']) == 1
    assert 'is not a folder' in capsys.readouterr().err and run.state['step'] == 2
