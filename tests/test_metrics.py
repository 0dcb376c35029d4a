"Frozen weights and references: a damaged, exchanged or missing file stops the measurement and is named."
import json
import re
import shutil

import pytest

from ddpm_course.metrics import Classifier, frozen, load_extractor, load_reference

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
    assert config['arguments'] == json.loads(json.dumps(Classifier().arguments))
    assert config['recipe'] == row.recipe
    for digest in (row.weights, row.reference): assert digest in card
    assert sum(p.stat().st_size for p in folder.iterdir()) < 4e6
