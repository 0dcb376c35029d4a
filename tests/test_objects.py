"What people do with a denoiser, an optimiser and a training beside using them: copy, pickle, convert, prepare, count."
import copy
import io
import itertools
import pickle
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_course.core import rng, seed_all
from ddpm_course.data import ImageSet, batches
from ddpm_course.denoiser import Denoiser, edm, targets
from ddpm_course.forward import Betas, cosine, linear_betas, schedules
from ddpm_course.pretrained import from_pretrained, save_pretrained
from ddpm_course.sampling import balanced_labels, generate
from ddpm_course.training import EMA, GradientStep, Muon, draw_step, optimizers, step_noise, train, uniform
from ddpm_course.unet import UNet

def small(schedule=cosine, target=targets['v'], classes=3):
    seed_all(0)
    net = UNet(dims=(16, 16), classes=classes)
    nn.init.normal_(net.conv_out[2].weight, std=.1)
    return Denoiser(net, schedule, target, shape=(1, 8, 8), class_names=tuple('abc')[:classes or 0] or None).eval()

def draw(denoiser, **kwargs): return generate(denoiser, 2, steps=3, c=[0, 1], **kwargs)

@pytest.fixture(scope='module')
def data():
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=g, dtype=torch.uint8)
    return ImageSet(images, balanced_labels(60, 3), tuple('abc'), 'noise', 'here')

SCHEDULES = dict(cosine=cosine, linear=schedules['linear'], own=Betas(linear_betas(50)),
                 ve=partial(schedules['ve'], sigma_max=9.))
TARGETS = dict(v=targets['v'], edm=edm(.5))
COPIES = dict(deepcopy=copy.deepcopy, pickle=lambda d: pickle.loads(pickle.dumps(d)),
              averaged=lambda d: AveragedModel(d), torch_save=lambda d: torch.load(_saved(d), weights_only=False))

def _saved(denoiser):
    file = io.BytesIO()
    torch.save(denoiser, file)
    file.seek(0)
    return file

@pytest.mark.parametrize('how', COPIES)
@pytest.mark.parametrize('schedule, target', [(s, 'v') for s in SCHEDULES] + [('cosine', 'edm')])
def test_a_copy_is_saved_and_draws_the_same(tmp_path, how, schedule, target):
    denoiser = small(SCHEDULES[schedule], TARGETS[target])
    copied = COPIES[how](denoiser)
    save_pretrained(denoiser, tmp_path/'first')
    save_pretrained(copied, tmp_path/'second')
    for name in ('config.json', 'model.safetensors'):
        assert (tmp_path/'first'/name).read_bytes() == (tmp_path/'second'/name).read_bytes()
    inner = getattr(copied, 'module', copied)
    assert torch.equal(draw(denoiser), draw(inner))
    assert torch.equal(draw(from_pretrained(tmp_path/'second')), draw(inner))

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_draw_and_train(dtype, data):
    expected = draw(small())
    converted = small().to(dtype)
    drawn = draw(converted)
    assert drawn.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (drawn - expected).abs().max() < (1e-5 if dtype == torch.float64 else .1)
    assert converted(torch.zeros(2, 1, 8, 8, dtype=torch.float64), .5).dtype == torch.float64
    if dtype != torch.float16:
        opt = torch.optim.SGD(converted.parameters(), 1e-3)
        log = next(train(converted, partial(batches, data, 6), opt, 1, precision=torch.float32))
        assert np.isfinite(log.loss)

def test_a_default_device_is_no_matter(data):
    expected = draw(small()), step_noise(4, (2,), 0, 0)[1], next(batches(data, 4))[0]
    try:
        torch.set_default_device('meta')
        seen = draw(_on_cpu(small)), step_noise(4, (2,), 0, 0)[1], next(batches(data, 4))[0]
    finally: torch.set_default_device(None)
    for a, b in zip(seen, expected, strict=True): assert torch.equal(a, b)

def _on_cpu(make):
    with torch.device('cpu'): return make()

def test_keys_and_seeds():
    a, b = (torch.rand(3, generator=rng(key, 'x')) for key in (5, np.int64(5)))
    assert torch.equal(a, b)
    seed_all(2**64)
    with pytest.raises(ValueError, match='0 or more'): seed_all(-1)

# --- Muon

def test_muon_takes_a_closure_and_is_prepared():
    def problem():
        seed_all(0)
        net = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32, bias=False))
        return net, torch.randn(8, 32), torch.randn(8, 32)

    ends = []
    for way in ('plain', 'closure', 'prepared'):
        net, x, y = problem()
        opt = Muon(net.parameters(), lr=1e-2)
        if way == 'prepared': net, opt = Accelerator(cpu=True).prepare(net, opt)
        def closure(net=net, opt=opt, x=x, y=y):
            opt.zero_grad()
            loss = (net(x) - y).square().mean()
            loss.backward()
            return loss
        for _ in range(3):
            if way == 'closure': loss = opt.step(closure)
            else:
                loss = closure()
                opt.step()
        assert loss.item() > 0
        ends.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])

def test_muon_leaves_gradients_where_they_were():
    p = nn.Parameter(torch.ones(32, 32))
    p.grad = torch.randn(32, 32)
    before = p.grad.clone()
    Muon([p]).step()
    assert torch.equal(p.grad, before)

# --- a step waits for nothing

class CountReads(TorchDispatchMode):
    reads = 0
    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        aten = torch.ops.aten
        self.reads += op.overloadpacket in (aten._local_scalar_dense, aten.equal, aten.nonzero, aten.is_nonzero)
        return op(*args, **kwargs or {})

@pytest.mark.parametrize('optimizer', ['adamw', 'muon'])
@pytest.mark.parametrize('schedule', ['cosine', 'linear', 've'])
def test_a_step_reads_nothing_from_the_device(data, optimizer, schedule):
    denoiser = small(schedules[schedule], edm(.5))
    opt  = optimizers[optimizer](denoiser.parameters(), lr=1e-3)
    loop = train(denoiser, partial(batches, data, 6), opt, 12, EMA(denoiser), weight=lambda a, s: 1/(1 + s),
                 accumulate=2)
    counts = []
    for _ in range(12):
        with CountReads() as counter: next(loop)
        counts.append(counter.reads)
    assert counts[0] > 0 and counts[1:] == [0]*11, counts

def test_a_step_on_a_device_that_cannot_be_read():
    "Tensors on `meta` have no values: whoever asked for one would get an error"
    from ddpm_course.core import skip_value_checks
    denoiser = small().to('meta')
    opt = Muon(denoiser.parameters(), fused=False)
    accelerator = SimpleNamespace(device=torch.device('meta'), num_processes=1, process_index=0,
                                  backward=lambda v: v.backward(), reduce=lambda v, how: v)
    step  = GradientStep(accelerator, opt, _loss, None, 1., 1, torch.float32)
    batch = torch.zeros(6, 1, 8, 8, device='meta'), torch.zeros(6, dtype=torch.long, device='meta')
    with skip_value_checks():
        drawn = draw_step(denoiser, batch, 0, 0, uniform, .1, accelerator)
        loss, norm, _ = step(denoiser, drawn, 1., (0,))
    assert loss.is_meta and norm.is_meta

def _loss(denoiser, x0, c, t, eps):
    from ddpm_course.denoiser import diffusion_loss
    return diffusion_loss(denoiser, x0, c, t, eps)

def test_no_process_draws_more_than_its_share():
    "Four processes draw a quarter each, and together what one draws"
    drawn, denoiser = [], small()
    for rank in range(4):
        accelerator = SimpleNamespace(device=torch.device('cpu'), num_processes=4, process_index=rank)
        batch = torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)
        with CountElements() as counter: drawn.append(draw_step(denoiser, batch, 0, 7, uniform, .5, accelerator))
        assert counter.largest <= 2*64
    whole = step_noise(8, (1, 8, 8), 0, 7)
    assert torch.equal(torch.cat([eps for _, _, _, eps in drawn]), whole[1])
    assert torch.equal(torch.cat([t for _, _, t, _ in drawn]), uniform(whole[0], cosine))

class CountElements(TorchDispatchMode):
    "The largest tensor that was made"
    largest = 0
    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = op(*args, **kwargs or {})
        if torch.is_tensor(out) and not op.is_view: self.largest = max(self.largest, out.numel())
        return out

# --- forms of a batch

IMAGES, LABELS = torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)

@pytest.mark.parametrize('batch, said', [
    (dict(images=IMAGES, labels=LABELS), 'the stream gives a dict'), (IMAGES, 'the stream gives a Tensor'),
    ((IMAGES, LABELS.numpy()), 'the stream gives a ndarray'), ((IMAGES.numpy(), LABELS), 'the stream gives a ndarray'),
    ((IMAGES,), 'this one has 1 parts'), ((None, LABELS), 'the stream gives a NoneType'),
    ((IMAGES, torch.eye(3)[LABELS]), 'one label for each'), ((IMAGES, LABELS + 3), 'labels lie in 0 to 2'),
    ((IMAGES, LABELS - 1), 'labels lie in 0 to 2'), ((IMAGES.byte(), LABELS), 'see to_float'),
    ('ab', 'gives a str'), ((IMAGES, LABELS[:1]), '4 images need as many'),
    ((IMAGES, LABELS[0]), '4 images need as many'),
    ((IMAGES[:0], LABELS[:0]), 'without images'), ((IMAGES, dict(a=LABELS)), 'this network takes labels')])
def test_a_batch_of_another_form_is_one_sentence(batch, said):
    denoiser = small()
    opt = torch.optim.SGD(denoiser.parameters(), .1)
    with pytest.raises(ValueError, match=said) as e: next(train(denoiser, itertools.repeat(batch), opt, 3))
    assert '\n' not in str(e.value)

# --- checkpoints by the clock

def test_checkpoints_come_by_the_clock_too(data, tmp_path, monkeypatch):
    from ddpm_course import training
    from ddpm_course.training import Checkpoints, Saver
    denoiser = small()
    opt   = torch.optim.SGD(denoiser.parameters(), 1e-3)
    saved = Checkpoints(tmp_path, keep=9)
    list(train(denoiser, partial(batches, data, 6), opt, 24, checkpoints=saved, checkpoint_every=1000,
               checkpoint_minutes=1e-9, validate=lambda d: .5))
    assert [int(path.name[5:]) for path in saved.all()] == [1, 10, 20, 24]          # where losses are read
    states = [training.read_checkpoint_state(path) for path in saved.all()]
    assert [state['val'] for state in states] == [None, None, None, .5]             # by the clock: no validation
    assert [log['step'] for log in states[2]['logs']] == list(range(11, 21))

    # By default after fifty times as long as the last one took, and not before a minute is over.
    now = [0.]
    monkeypatch.setattr(training.time, 'monotonic', lambda: now[0])
    saver = Saver(SimpleNamespace(num_processes=1), {}, None, saved, 1000, None, dict(steps=10**6))
    for cost, wait in ((0., 60), (.5, 60), (3., 150)):
        saver.cost, now[0] = cost, wait - 1
        assert not saver.is_time()
        now[0] = wait
        assert saver.is_time()

@pytest.mark.parametrize('settings, said', [
    (dict(clip=-1.), 'clip is a norm above 0'), (dict(clip=float('nan')), 'clip is a norm'),
    (dict(label_dropout=2.), 'is a probability'), (dict(precision=torch.int8), 'precision is torch.float32'),
    (dict(accumulate=1.5), 'accumulate is a whole'), (dict(checkpoint_every=2.5), 'checkpoint_every is a whole')])
def test_settings_that_make_no_sense(settings, said):
    denoiser = small()
    opt = torch.optim.SGD(denoiser.parameters(), .1)
    with pytest.raises(ValueError, match=said):
        next(train(denoiser, itertools.repeat((IMAGES, LABELS)), opt, 3, **settings))
