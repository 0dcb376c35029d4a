"Model folders: any damage is named in one sentence or changes nothing, limits hold, cards say nothing private."
import copy
import json
import os
import re

import pytest
import torch
from safetensors.torch import save
from torch import nn

from ddpm_course import pretrained
from ddpm_course.core import sha256, write_json
from ddpm_course.denoiser import Denoiser, edm, targets
from ddpm_course.forward import Betas, cosine, linear_betas
from ddpm_course.pretrained import (MODEL_FORMAT, export_model, from_pretrained, model_card, networks, push_to_hub,
                                    read_config, save_pretrained, stored_models, to_config)
from ddpm_course.sampling import generate
from ddpm_course.unet import UNet

REFUSALS = ValueError, RuntimeError, FileNotFoundError
EVERY    = 1 if os.environ.get('ALL_FLIPS') == '1' else 53      # of the bits to flip: ALL_FLIPS=1 tries each one

def tiny(classes=10, channels=1, size=28, schedule=cosine, target=targets['v'], **known):
    torch.manual_seed(0)
    net = UNet(in_channels=channels, dims=(4, 6), classes=classes, emb_channels=4, attention=False)
    for p in net.parameters(): p.data = .1*torch.randn_like(p)
    return Denoiser(net, schedule, target, shape=(channels, size, size), **known).eval()

@pytest.fixture
def model(tmp_path):
    return save_pretrained(tiny(class_names=list('abcdefghij'), recipe=dict(data='mnist', steps=3)), tmp_path/'model')

def edit(folder, **changes):
    "Change values of config.json as somebody does who knows about the digest and the checksum"
    config = json.loads((folder/'config.json').read_text()) | dict(digest=None) | changes
    (folder/'config.json').write_text(json.dumps(config))

def refusal(folder):
    "The sentence with which loading is refused; None where it is not"
    try: from_pretrained(folder)
    except REFUSALS as e:
        sentence = str(e)
        assert '\n' not in sentence and len(sentence) < 800, sentence
        assert str(folder/'config.json') in sentence or str(folder/'model.safetensors') in sentence, sentence
        return sentence

def assert_same(a, b):
    here, there = to_config(a), to_config(b)
    assert here == there
    for (k, v), (name, w) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert k == name and torch.equal(v, w)

def flip(raw, bit): return raw[:bit//8] + bytes([raw[bit//8] ^ 1 << bit % 8]) + raw[bit//8 + 1:]

# ---- damage ----------------------------------------------------------------------------------------------------------

def test_each_flipped_bit_of_the_config_is_noticed_or_changes_nothing(model):
    path, whole, counts = model/'config.json', from_pretrained(model), [0, 0]
    raw = path.read_bytes()
    for bit in range(0, 8*len(raw), EVERY):
        path.write_bytes(flip(raw, bit))
        is_refused = refusal(model) is not None
        if not is_refused: assert_same(from_pretrained(model), whole)
        counts[is_refused] += 1
    print(f'{sum(counts):,} flips: {counts[1]:,} refused, {counts[0]:,} without consequence')
    assert counts[1] > .95*sum(counts)

@pytest.mark.parametrize('forged', [False, True])
def test_each_flipped_bit_of_the_header_of_the_weights_is_refused(model, forged):
    path, refused = model/'model.safetensors', 0
    raw  = path.read_bytes()
    bits = range(0, 8*(8 + int.from_bytes(raw[:8], 'little')), EVERY)
    for bit in bits:
        path.write_bytes(flip(raw, bit))
        if forged: edit(model, sha256=sha256(path.read_bytes()))
        refused += refusal(model) is not None
    print(f'{len(bits):,} flips, checksum {"forged" if forged else "as it was"}: {refused:,} refused')
    assert refused == len(bits) or forged

@pytest.mark.parametrize('forged', [False, True])
def test_truncated_weights_are_refused(model, forged):
    path = model/'model.safetensors'
    raw  = path.read_bytes()
    for n in [0, 1, 7, 8, 9, 100, len(raw)//2, len(raw) - 1]:
        path.write_bytes(raw[:n])
        if forged: edit(model, sha256=sha256(raw[:n]))
        assert refusal(model), n
    path.write_bytes((2**62).to_bytes(8, 'little') + raw[8:])
    assert 'model.safetensors is damaged' in refusal(model)
    path.write_bytes(raw + b'more')
    assert refusal(model)

STRANGE = [b'', b'{}', b'null', b'[]', b'3', b'"target"', b'[' * 10**5, b'{"a":' * 10**5, b'\xff\xfe{}', b'\0'*100,
           b'{"format": 3}', b'{"format": -1}', b'{"format": "3"}', b'{"format": 1e999}', b'{"format": true}',
           b'{"format": 1, "net": [], "arguments": 3}', b'{"format": 1, "net": "UNet", "arguments": [1]}',
           b'{"format": 2, "digest": 3}', b'{"target": 1}', b'{"n": ' + b'9'*5000 + b'}']

@pytest.mark.parametrize('content', STRANGE, ids=lambda content: ascii(content[:30]))
def test_a_strange_config_is_refused_and_hides_no_other_model(model, content, monkeypatch):
    other = model.with_name('other')
    other.mkdir()
    (other/'config.json').write_bytes(content)
    (other/'model.safetensors').write_bytes((model/'model.safetensors').read_bytes())
    monkeypatch.setattr(pretrained, 'model_folders', lambda: [model.parent])
    assert 'model' in stored_models() and refusal(other)

def test_what_is_no_file_is_refused(model, monkeypatch):
    monkeypatch.setattr(pretrained, 'model_folders', lambda: [model.parent])
    def make(name):
        folder = model.with_name(name)
        folder.mkdir()
        (folder/'model.safetensors').write_bytes((model/'model.safetensors').read_bytes())
        return folder/'config.json'

    make('a-folder').mkdir()
    os.mkfifo(make('a-pipe'))
    make('a-device').symlink_to('/dev/zero')
    make('a-loop').symlink_to('config.json')
    with open(make('a-gigabyte'), 'wb') as file: file.truncate(2**30)
    make('a-link').symlink_to('/etc/passwd')
    for folder in model.parent.glob('a-*'): assert refusal(folder), folder
    assert 'root:' not in refusal(model.with_name('a-link'))
    assert {'model', 'a-folder', 'a-pipe', 'a-device', 'a-gigabyte', 'a-link'} <= stored_models().keys()

    weights = model/'model.safetensors'
    weights.unlink(); weights.mkdir()
    assert 'is no file' in refusal(model)

FITTING = [('shape', None), ('shape', []), ('class_names', None), ('data_std', 1.5)]

def test_values_of_the_wrong_type_are_refused(model):
    good = json.loads((model/'config.json').read_text())
    wrong = [None, True, -1, 1.5, 10**400, float('nan'), 'x'*10**6, '('*900, [], [[]], {}, dict(betas=None),
             dict(betas=['a']), dict(betas=[2.]), 'cosmic', 'cosine(1)', 've(sigma_max=[])', "ve(sigma_max='a')",
             'edm(data_std=())']
    for key in good.keys() - {'digest', 'format', 'recipe'}:
        for value in wrong:
            edit(model, **good | {'digest': None, key: value})
            sentence = refusal(model)
            assert sentence or (key, value) in FITTING, (key, value)

def test_newer_and_older_formats(model):
    config = {k: v for k, v in read_config(model/'config.json').items() if k != 'format'}
    whole  = from_pretrained(model)
    write_json(config, model/'config.json', format=MODEL_FORMAT + 1)
    with pytest.raises(RuntimeError, match=r'config\.json was written by a newer ddpm_course'): from_pretrained(model)
    (model/'config.json').write_text(json.dumps(dict(format=2) | config))
    assert_same(from_pretrained(model), whole)

# ---- limits ----------------------------------------------------------------------------------------------------------

class Tower(nn.Module):
    "A network without limits of its own"
    def __init__(self, layers=2, width=4, plain=0):
        super().__init__()
        self.arguments = dict(layers=layers, width=width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.drawn  = nn.Parameter(torch.randn(width))
        self.table  = torch.linspace(0, 1, width)                        # neither a parameter nor a buffer
        self.register_buffer('steps', torch.arange(width), persistent=False)
        self.register_buffer('count', torch.tensor(0))

    def forward(self, x, t):
        for layer in self.layers: x = layer(x)
        return x*self.drawn + self.table + self.steps + self.count

@pytest.fixture
def tower(tmp_path, monkeypatch):
    monkeypatch.setitem(networks, 'Tower', Tower)
    return Denoiser(Tower(), cosine, edm(.5), shape=(4,))

ENORMOUS = [dict(blocks=10_000), dict(dims=[4]*100_000), dict(dims=[4]*900), dict(dims=[4, 10**9]), dict(patch=10**6),
            dict(dims=[65_536]*16, blocks=64), dict(emb_channels=10**9), dict(classes=10**12), dict(heads=0),
            dict(in_channels=10**400), dict(dropout=1e300)]

@pytest.mark.parametrize('changes', ENORMOUS, ids=lambda changes: ascii(changes)[:30])
def test_arguments_that_ask_for_too_much_are_refused(model, changes):
    edit(model, arguments=json.loads((model/'config.json').read_text())['arguments'] | changes)
    assert refusal(model)

def test_a_foreign_network_is_compared_with_the_file_before_it_is_built(tower, tmp_path):
    folder = save_pretrained(tower, tmp_path/'tower')
    for arguments in (dict(layers=2**20), dict(width=2**20), dict(layers=3), dict(layers='a'), dict(depth=1)):
        edit(folder, arguments=arguments)
        assert refusal(folder)

def test_a_file_of_integers_is_refused(model):
    tensors = {k: v.int() for k, v in from_pretrained(model).net.state_dict().items()}
    (model/'model.safetensors').write_bytes(save(tensors))
    edit(model, sha256=sha256((model/'model.safetensors').read_bytes()))
    assert 'does not fit' in refusal(model)

def test_what_a_network_makes_for_itself_is_there_after_loading(tower, tmp_path):
    state = torch.get_rng_state()
    again = from_pretrained(save_pretrained(tower, tmp_path/'tower'))
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.rand(3, 4)
    with torch.no_grad(): assert torch.equal(again.net(x, x), tower.net(x, x))

def test_loading_leaves_the_compiler_out(python, root):
    code = ("import sys; from ddpm_course.pretrained import from_pretrained; from_pretrained(sys.argv[1]); "
            "print('torch._dynamo' in sys.modules)")
    assert python('-c', code, root/'data/models/ddpm-mnist').stdout.strip() == 'False'

# ---- what can be saved -----------------------------------------------------------------------------------------------

WRAPPERS = dict(copied=copy.deepcopy, averaged=torch.optim.swa_utils.AveragedModel, compiled=torch.compile,
                parallel=nn.DataParallel)

@pytest.mark.parametrize('wrap', WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize('of', ['net', 'denoiser'])
def test_wrappers_are_taken_off(wrap, of, tmp_path):
    plain = tiny(schedule=Betas(linear_betas(50)), target=edm(.3), class_names=list('abcdefghij'))
    wrapped = plain.with_net(wrap(plain.net)) if of == 'net' else wrap(plain)
    assert to_config(wrapped) == to_config(plain)
    assert_same(from_pretrained(save_pretrained(wrapped, tmp_path/'it')), plain)

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_are_stored_as_they_are(dtype, tmp_path):
    plain = tiny().to(dtype)
    folder = save_pretrained(plain, tmp_path/'it')
    assert {v.dtype for v in pretrained.read_weights(folder)[1].values()} == {dtype}
    loaded = dtype if dtype == torch.float64 else torch.float32
    for a, b in zip(from_pretrained(folder).parameters(), plain.parameters(), strict=True):
        assert a.dtype == loaded and torch.equal(a, b.to(loaded))
    assert {p.dtype for p in from_pretrained(folder, dtype=dtype).parameters()} == {dtype}

@pytest.mark.parametrize('default', ['meta', 'cpu'])
def test_the_default_device_does_not_matter(model, tmp_path, default):
    whole = from_pretrained(model)
    own   = tiny(schedule=Betas(linear_betas(50)))
    torch.set_default_device(default)
    try:
        again = from_pretrained(save_pretrained(from_pretrained(model), tmp_path/'again'))
        again_own = from_pretrained(save_pretrained(own, tmp_path/'own'))
    finally: torch.set_default_device(None)
    assert_same(again, whole)
    assert_same(again_own, own)
    assert again_own.schedule.betas.device.type == 'cpu'

def test_a_run_or_a_checkpoint_given_by_mistake_is_told_apart(model, tmp_path):
    for name in ('model', 'ema'):
        save_pretrained(from_pretrained(model), tmp_path/'run/checkpoints/step-000000003'/name)
    (tmp_path/'run/config.json').write_text('{}')
    for folder in (tmp_path/'run', tmp_path/'run/checkpoints/step-000000003'):
        sentence = r'is no denoiser itself.*step-000000003/ema$'
        with pytest.raises(FileNotFoundError, match=sentence): from_pretrained(folder)

# ---- cards and the Hub -----------------------------------------------------------------------------------------------

MODELS = dict(grey=tiny(class_names=list('abcdefghij'), recipe=dict(data='mnist', steps=3)),
              colour=tiny(None, 3, 16, recipe=dict(data='/home/anna/my pictures/', init_from='/home/anna/runs/old')),
              labels_without_names=tiny(7), no_shape=tiny(None, 3),
              points=Denoiser(Tower(), cosine, edm(.5), shape=(4,)))
MODELS['no_shape'].shape = None

@pytest.mark.parametrize('name', MODELS)
def test_the_card_says_how_to_draw(name, tmp_path, monkeypatch):
    monkeypatch.setitem(networks, 'Tower', Tower)
    monkeypatch.chdir(tmp_path)
    command = 'ddpm-course train /home/anna/cats --out="/home/anna/a b"'
    folder  = export_model(MODELS[name], tmp_path/'it', command=command)
    card = (folder/'README.md').read_text()
    assert re.match(r'---\nlibrary_name: ddpm_course\nlicense: unknown\ntags: \[.*\]\n---\n# it\n', card)
    assert sha256((folder/'model.safetensors').read_bytes()) in card
    for path in folder.iterdir(): assert b'anna' not in path.read_bytes(), path

    drawn = {}
    exec(card.split('```python')[1].split('```')[0].replace('steps=50', 'steps=2'), drawn)
    shape = MODELS[name].shape or (3, 32, 32)
    assert drawn['samples'].shape == (10, *shape)

def test_the_card_shows_the_score_and_the_samples(model, tmp_path):
    scores = [dict(frechet=.25, n=2048, floor=.05, extractor='mnist ef6a', settings=dict(steps=50)), dict(kid=3.)]
    write_json(dict(scores=scores), model/'score.json', format=2)
    denoiser = from_pretrained(model)
    export_model(denoiser, model, samples=generate(denoiser, 4, steps=2), license='mit', commit='abc')
    card = (model/'README.md').read_text()
    assert '| 0.25 | 2,048 | 0.05 | mnist ef6a | steps 50 |' in card
    assert '![samples](samples.png)' in card and (model/'samples.png').exists()
    assert '| commit | abc |' in card and 'license: mit\n' in card

@pytest.mark.parametrize('recipe', [{}, None, dict(a='|\n<b>', b=None, c=[1, dict(d=2)])])
def test_a_foreign_recipe_makes_a_card(model, recipe):
    config = read_config(model/'config.json') | dict(recipe=recipe, class_names=['|', '<script>', '`'])
    card = model_card('it', config)
    assert '<script>' not in card and '<b>' not in card
    with pytest.raises(ValueError, match='a license is one word'): model_card('it', config, license='a: b\n')

class Recorder:
    "Stands in for huggingface_hub.HfApi and keeps what it is sent"
    def create_repo(self, name, private, exist_ok): self.repo = name, private, exist_ok
    def upload_folder(self, repo_id, folder_path):
        self.sent = {name: open(os.path.join(folder_path, name), 'rb').read() for name in os.listdir(folder_path)}

def test_what_is_sent_to_the_hub(tmp_path):
    api, denoiser = Recorder(), MODELS['colour']
    pictures = torch.zeros(4, 3, 16, 16)
    address  = push_to_hub(denoiser, 'you/cats', private=True, api=api, samples=pictures, machine='/home/anna')
    assert address.endswith('/you/cats') and api.repo == ('you/cats', True, True)
    assert api.sent.keys() == {'README.md', 'config.json', 'model.safetensors', 'samples.png'}
    assert not any(b'anna/' in raw or b'/home' in raw for raw in api.sent.values())

    for name, raw in api.sent.items(): (tmp_path/name).write_bytes(raw)
    again = from_pretrained(tmp_path)
    assert again.recipe == dict(data='my pictures', init_from='old')
    again.recipe = denoiser.recipe
    assert_same(again, denoiser)
