"Frozen weights and references: a damaged, exchanged or missing file stops the measurement and is named."
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_course.core import rng
from ddpm_course.data import ImageSet, cache_folder, datasets
from ddpm_course.denoiser import GaussianDenoiser
from ddpm_course.forward import cosine
from ddpm_course.metrics import (Classifier, balanced_indices, class_balance, data_digest, density_coverage, evaluate,
                                 find_reference, frozen, kid, load_extractor, load_reference, metrics_from_images,
                                 nearest, own_reference, precision_recall, random_shift, random_turn)

@pytest.fixture
def models(root, tmp_path, monkeypatch):
    "A working folder with its own copy of data/models, which is looked at first"
    copy = tmp_path/'data'/'models'
    shutil.copytree(root/'data'/'models', copy)
    monkeypatch.chdir(tmp_path)
    return copy

def damage(path, how):
    raw = bytearray(path.read_bytes())
    if how == 'flipped': raw[len(raw)//2] ^= 1
    path.write_bytes(raw[:-100] if how == 'truncated' else raw)

FILES = [(load_extractor, 'model.safetensors'), (load_reference, 'reference.safetensors')]

@pytest.mark.parametrize('how', ['flipped', 'truncated'])
@pytest.mark.parametrize('name', frozen)
@pytest.mark.parametrize('load, file', FILES)
def test_a_damaged_file_is_named_and_refused(models, name, load, file, how):
    load(name)
    path = models/frozen[name].folder/file
    damage(path, how)
    sentence = re.escape(str(path)) + ' is damaged or not the frozen one'
    with pytest.raises(ValueError, match=sentence) as e: load(name)
    assert '\n' not in str(e.value)

def test_the_weights_of_the_other_extractor_are_refused(models):
    shutil.copy(models/'mnist-classifier'/'model.safetensors', models/'fashion-mnist-classifier')
    sentence = 'fashion-mnist-classifier/model.safetensors is damaged or not the frozen one'
    with pytest.raises(ValueError, match=sentence): load_extractor('fashion_mnist')

@pytest.fixture
def site(root, tmp_path):
    "A folder of installed packages, as after `pip install` outside the repository: a package without its data"
    ignore = shutil.ignore_patterns('__pycache__')
    shutil.copytree(root/'ddpm_course', tmp_path/'site'/'ddpm_course', ignore=ignore)
    return dict(PYTHONPATH=str(tmp_path/'site'), XDG_CACHE_HOME=str(tmp_path/'cache'))

def test_without_the_files_one_sentence_says_what_to_do(python, site, tmp_path):
    result = python('-c', 'from ddpm_course.metrics import load_reference; load_reference()', **site)
    last = result.stderr.splitlines()[-1]
    assert last.startswith('FileNotFoundError: fashion-mnist-classifier/') and str(tmp_path/'cache') in last

def test_the_cache_serves_an_installed_package(python, root, site, tmp_path):
    shutil.copytree(root/'data'/'models', tmp_path/'cache'/'ddpm_course'/'models')
    code = 'from ddpm_course.metrics import load_reference; print(load_reference("mnist").floor(2048).mean)'
    result = python('-c', code, **site)
    assert 0 < float(result.stdout) < 1, result.stderr

def test_torchmetrics_is_not_needed_to_measure(python):
    "It is the oracle of the chapter, and has the Inception network: neither is worth its second at import"
    code = 'import sys, ddpm_course.metrics; print([m for m in sys.modules if m.startswith("torchmetrics")])'
    assert python('-c', code).stdout.strip() == '[]'

@pytest.mark.parametrize('name', frozen)
def test_cards_say_what_the_code_pins(root, name):
    row = frozen[name]
    folder = root/'data'/'models'/row.folder
    config = json.loads((folder/'config.json').read_text(encoding='utf-8'))
    card   = (folder/'README.md').read_text(encoding='utf-8')
    assert config['sha256'] == row.weights and config['classes'] == list(row.class_names)
    built, plain = (json.dumps(net.arguments) for net in (Classifier(**config['arguments']), Classifier()))
    assert built == plain
    assert config['recipe'] == row.recipe
    for digest in (row.weights, row.reference): assert digest in card
    assert sum(p.stat().st_size for p in folder.iterdir()) < 4e6

# ---- references of own data ------------------------------------------------------------------------------------------

@pytest.fixture
def cache(tmp_path, monkeypatch):
    "A cache folder of its own"
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    monkeypatch.setenv('IN_TEST', '1')
    return tmp_path/'cache'

def tiny(split='train', full=None, n=None, labels=True, name='tiny', seed=0, image_size=8, channels=3):
    "Bright or dark colour images, with a bar that stands up: two classes, and turns that can be told"
    g = rng('tiny', split, seed)
    n = n or dict(train=256, test=140)[split]
    kinds  = torch.arange(n) % 2
    images = torch.randint(0, 60, (n, channels, image_size, image_size), generator=g) + 120*kinds.view(-1, 1, 1, 1)
    images[:, :, :image_size//2, 2:4] = 255
    named  = dict(labels=kinds, class_names=('dark', 'bright')) if labels else dict(labels=None, class_names=None)
    return ImageSet(images.to(torch.uint8), **named, name=name, source='a test')

def load_tiny(data, split, **options):
    "`load_data` of a folder, as far as it is needed here"
    options.pop('full')
    return tiny(split, name=str(data), **options)

def forbidden(*args, **kwargs): raise AssertionError('a reference is made once')

def test_the_reference_of_a_folder_is_made_once(cache, monkeypatch, capsys):
    first = find_reference('../my photos/..', image_size=16, load=load_tiny)
    assert re.search('finds the labels of .*% of the test images', capsys.readouterr().out)
    monkeypatch.setattr('ddpm_course.metrics.train_own_network', forbidden)
    again = find_reference('../my photos/..', image_size=16, load=load_tiny)

    assert torch.equal(first.features, again.features) and first.real.keys() == again.real.keys()
    assert again.extractor.name == 'classifier of ../my photos/..' and again.extractor.shape == (3, 16, 16)
    assert capsys.readouterr().out == ''
    folder, = (p for p in (cache/'ddpm_course'/'references').iterdir() if p.is_dir())
    assert re.fullmatch('1-[0-9a-f]{32}', folder.name)
    about = json.loads((folder/'reference.json').read_text(encoding='utf-8'))
    assert (about['data'], about['train'], about['test']) == ('../my photos/..', 256, 140)
    assert about['accuracy'] > .9 and about['weights'] == again.extractor.digest and about['balanced'] is True

def test_any_other_pixel_or_label_is_another_reference():
    train, test = tiny(), tiny('test')
    other = train._replace(images=train.images.clone()); other.images[200, 0, 0, 0] ^= 1
    turned = train._replace(labels=1 - train.labels)
    bare = train._replace(labels=None, class_names=None)
    pairs  = (train, test), (other, test), (turned, test), (bare, test), (test, train)
    assert len({data_digest(*pair) for pair in pairs}) == 5
    assert data_digest(bare) == data_digest(train._replace(class_names=('all',), labels=torch.zeros(256).long()))

def test_memory_mapped_images_have_the_digest_of_those_in_memory(tmp_path):
    train = tiny(n=2100)
    np.save(tmp_path/'images.npy', train.images.numpy())
    mapped = torch.from_numpy(np.load(tmp_path/'images.npy', mmap_mode='c'))
    assert data_digest(train._replace(images=mapped)) == data_digest(train)

@pytest.fixture(scope='session')
def made(tmp_path_factory):
    "A cache with the reference of `tiny`"
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('made')
        patch.setenv('XDG_CACHE_HOME', str(folder))
        own_reference(tiny(), tiny('test'))
    return folder

@pytest.mark.parametrize('file', ['model.safetensors', 'reference.safetensors', 'reference.json'])
def test_a_damaged_reference_is_put_aside_and_made_again(cache, made, file):
    shutil.copytree(made, cache)
    train, test = tiny(), tiny('test')
    folder, = cache_folder().glob('references/1-*')
    (folder/file).write_bytes((folder/file).read_bytes()[:-30])
    with pytest.warns(UserWarning, match=f'{file} is (missing or )?damaged'): made = own_reference(train, test)
    assert len(list(cache_folder().glob('references/damaged-*'))) == 1
    assert torch.equal(own_reference(train, test).features, made.features)

def test_without_labels_rotations_are_predicted(cache, capsys):
    train, test = (tiny(s, labels=False, image_size=12) for s in ('train', 'test'))
    reference = own_reference(train, test)
    assert 'finds the quarter turns of' in capsys.readouterr().out
    about = json.loads(next(cache_folder().glob('references/1-*/reference.json')).read_text(encoding='utf-8'))
    assert about['accuracy'] > .8 and about['chance'] == .25

    scores = metrics_from_images(test.images.float()/127.5 - 1, reference)
    assert scores.extractor.startswith('rotation network of tiny') and 'plain draws' in scores.against
    assert {'frechet', 'kid', 'precision', 'recall', 'coverage'} <= scores.values.keys()
    assert not {'inception', 'covered', 'balance', 'accuracy'} & scores.values.keys()
    assert 'floor' in repr(scores) and json.dumps(scores.as_dict())

def test_several_processes_make_a_reference_once(cache, root, tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(root/'tests')!r})
import torch; torch.set_num_threads(1)
from test_metrics import own_reference, tiny
print(own_reference(tiny(), tiny('test')).extractor.digest)"""
    start = lambda: subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    outputs = [p.communicate(timeout=300)[0] for p in [start(), start()]]
    assert sum('finds the labels' in out for out in outputs) == 1
    assert len({out.splitlines()[-1] for out in outputs}) == 1

def test_a_row_of_datasets_is_measured_like_own_data(cache, monkeypatch):
    "As CIFAR-10 is, which is not here"
    monkeypatch.setitem(datasets, 'tiny_rows', tiny)
    by_name = find_reference('Tiny-Rows')
    assert by_name.extractor.class_names == ('dark', 'bright') and by_name.name == 'tiny'

    denoiser = GaussianDenoiser(0., .5, cosine)
    denoiser.shape, denoiser.recipe = (3, 8, 8), dict(data='tiny_rows', full=False)
    scores = evaluate(denoiser, n=140, steps=2)
    assert scores.against == 'tiny, 140 test images' and scores.settings['precision'] == 'float32'
    assert scores.ratio > 10
    assert scores.values.keys() == evaluate(denoiser, 'tiny_rows', n=140, steps=2).values.keys()

def test_frozen_references_are_found_in_any_spelling():
    for name in ('Fashion-MNIST', 'fashion_mnist', 'fashion_mnist(root="x")'):
        reference = find_reference(name, full=True, load=forbidden)
        assert reference.extractor.digest == frozen['fashion_mnist'].weights and reference.name == 'fashion_mnist'
    assert find_reference('mnist', image_size=28, channels=1, load=forbidden).name == 'mnist'
    with pytest.raises(AssertionError): find_reference('mnist', image_size=16, load=forbidden)
    with pytest.raises(AssertionError): find_reference(Path('mnist'), load=forbidden)

def test_unequal_classes_get_plain_draws(cache):
    train, test = tiny(n=450), tiny('test')
    keep = torch.cat([torch.arange(0, 450, 2), torch.arange(1, 100, 2)])                # 225 dark ones, 50 bright ones
    reference = own_reference(train._replace(images=train.images[keep], labels=train.labels[keep]), test)
    assert reference.balanced is False and len(reference.subset(131)) == 131
    assert own_reference(train._replace(images=train.images[keep], labels=train.labels[keep]), test).balanced is False
    assert 'plain draws' in metrics_from_images(test.images.float()/127.5 - 1, reference).against

@pytest.mark.parametrize('size', [8, 9, 28, 48, 64, 130])
@pytest.mark.parametrize('channels', [1, 3])
def test_the_classifier_takes_any_size(size, channels):
    net = Classifier(channels, 4, stride=max(1, round(size/32))).eval()
    assert net(torch.zeros(2, channels, size, size)).shape == (2, 4)

def test_every_pixel_matters_to_a_strided_network():
    convolution = Classifier(1, 2, stride=4).features[0][0]
    x = torch.zeros(1, 1, 64, 64, requires_grad=True)
    convolution(x).sum().backward()
    assert (x.grad != 0).all()

def test_a_default_device_is_no_matter():
    "Under the meta device a tensor that is made without a device has no values"
    a, b = torch.randn(50, 4), torch.randn(60, 4)
    images, labels = torch.rand(40, 1, 8, 8)*2 - 1, torch.arange(40) % 2
    def everything():
        return [*kid(a, b, subsets=3), *precision_recall(a, b), *density_coverage(a, b), balanced_indices(labels, 8),
                nearest(images, images).distance, random_shift(images, rng(0)), random_turn(images, rng(0))[0],
                class_balance(b.softmax(1)).shares]
    expected = everything()
    with torch.device('meta'): found = everything()
    for x, y in zip(expected, found): assert torch.equal(torch.as_tensor(x), torch.as_tensor(y))
