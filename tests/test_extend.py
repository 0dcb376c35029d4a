"""What a reader adds works everywhere. Each test adds one part of their own, in one place, and takes it through a
Config, a training, a file and a Sampling record, as the course's own parts go."""
import pytest
import torch
from torch import nn

from ddpm_course import Config, Experiment, Sampling, draw_samples, generate
from ddpm_course.data import ImageSet, datasets
from ddpm_course.denoiser import Denoiser, Target, diffusion_loss, targets
from ddpm_course.forward import Level, cosine, noise_in, schedules
from ddpm_course.metrics import wrapper_settings
from ddpm_course.pipeline import prepare_training
from ddpm_course.pretrained import from_pretrained, networks, save_pretrained
from ddpm_course.sampling import (Clipped, Guided, Step, Wrapper, ddim_update, ddpm, samplers, spacings, times,
                                  transitions)
from ddpm_course.training import lr_schedules, optimizers, time_distributions
from ddpm_course.unet import UNet, block_types

TABLES = (datasets, schedules, targets, networks, block_types, samplers, spacings, optimizers, lr_schedules,
          time_distributions)
TINY = dict(data='blobs', dims=(8, 16), patch=1, batch_size=8, steps=2, optimizer='adamw')

def blobs(split='train', root=None, full=None, download=False):
    "Colour images of 8×8 in three classes"
    g = torch.Generator().manual_seed(len(split))
    images = torch.randint(0, 256, (80, 3, 8, 8), generator=g, dtype=torch.uint8)
    return ImageSet(images, torch.arange(80) % 3, ('red', 'green', 'blue'), 'blobs', 'here')

@pytest.fixture(autouse=True)
def tables():
    "The tables, with a data set of one's own in them; each is as it was when a test ends"
    before = [dict(table) for table in TABLES]
    datasets['blobs'] = blobs
    yield
    for table, rows in zip(TABLES, before):
        table.clear()
        table.update(rows)

@pytest.fixture
def trained(tmp_path):
    "Train two steps with a Config that went through JSON; returns the denoiser as a file gives it back"
    def trained(**changes):
        training = prepare_training(Config.from_json(Config(**TINY | changes).to_json()))
        assert all(log.loss < 1e3 for log in training.logs)
        return from_pretrained(save_pretrained(training.ema.denoiser, tmp_path/'saved'))
    return trained

def drawn(denoiser, n=2, c=None, **settings):
    "Draw with a Sampling record that went through JSON"
    return draw_samples(denoiser, Sampling.from_json(Sampling(**dict(steps=3) | settings).to_json()), n, c)

# ---- the ten walks of a reader who extends the course -------------------------------------------------------------

def test_a_sampler(trained):
    def heun(denoise, x, ts, c=None, randn=torch.randn_like, order=2):
        for t, s, level_t, level_s in transitions(denoise, x, ts):
            x0 = denoise(x, t, c)
            ahead = ddim_update(x, x0, level_t, level_s, 0., 0., randn)
            if level_s.sigma and order == 2:
                eps = (noise_in(x, x0, level_t) + noise_in(ahead, denoise(ahead, s, c), level_s))/2
                ahead = ddim_update(x, (x - level_t.sigma*eps)/level_t.alpha, level_t, level_s, 0., 0., randn)
            x = ahead
            yield Step(s, x, x0)
    samplers['heun'] = heun
    denoiser = trained()
    assert drawn(denoiser, sampler='heun').shape == (2, 3, 8, 8)
    assert torch.equal(drawn(denoiser, sampler='heun(order=1)'), drawn(denoiser))
    with pytest.raises(ValueError, match='heun has no eta'): drawn(denoiser, sampler='heun', eta=1.)

def test_a_schedule_with_arguments(trained):
    def shifted(t, shift=1.):
        t = torch.as_tensor(t)
        u = shift*t/(1 + (shift - 1)*t)
        return Level(1 - u, u)
    schedules['shifted'] = shifted
    denoiser = trained(schedule='shifted(shift=3.0)', target='flow')
    assert torch.allclose(denoiser.schedule(torch.tensor(.5)).sigma, torch.tensor(.75))
    assert drawn(denoiser).isfinite().all()

def test_a_network(trained):
    class Mixer(nn.Module):
        def __init__(self, in_channels=1, classes=None, depth=1):
            super().__init__()
            self.arguments = dict(in_channels=in_channels, classes=classes, depth=depth)
            self.num_classes = classes
            self.layers = nn.ModuleList(nn.Conv2d(in_channels, in_channels, 1) for _ in range(depth))
        def null(self, c): return torch.full_like(c, self.num_classes)
        def forward(self, x, t, c=None):
            for layer in self.layers: x = layer(x)
            return x
    networks['Mixer'] = Mixer
    denoiser = trained(net='Mixer(depth=3)', dims=Config().dims, patch=Config().patch)
    assert len(denoiser.net.layers) == 3 and denoiser.class_names == ('red', 'green', 'blue')
    with pytest.raises(ValueError, match='Mixer has no dims'): trained(net='Mixer')

def test_a_block(trained):
    class Plain(nn.Module):
        def __init__(self, in_channels, out_channels, emb_channels, dropout=0.):
            super().__init__()
            self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        def forward(self, x, emb): return self.conv(x)
    block_types['plain'] = Plain
    assert isinstance(trained(net="UNet(block='plain')").net.down[0][0], Plain)

def test_a_data_set(trained, tmp_path):
    denoiser = trained()
    assert denoiser.shape == (3, 8, 8) and denoiser.net.num_classes == 3
    run = Experiment(Config(**TINY), tmp_path, 'run', eval_images=0, sampling=Sampling(steps=2)).run()
    assert (run.folder/'samples.png').exists() and run.denoiser().class_names == ('red', 'green', 'blue')
    datasets['unlabelled'] = lambda split='train', **kw: blobs(split)._replace(labels=None, class_names=None)
    assert trained(data='unlabelled', steps=1).class_names is None

def test_a_wrapper_such_as_guidance(trained):
    class Dimmed(Wrapper):
        records = 'factor',
        def __init__(self, denoise, factor):
            super().__init__(denoise)
            self.factor = factor
        def forward(self, x, t, c=None): return self.factor*self.denoise(x, t, c)
    denoiser = trained()
    dimmed = Dimmed(Clipped(denoiser), .5)
    c = torch.tensor([0, 2])
    assert drawn(dimmed, c=c).abs().max() <= .5 + 1e-6 and wrapper_settings(dimmed)['factor'] == .5
    guided = drawn(denoiser, c=c, w=2.)
    assert torch.equal(guided, draw_samples(Guided(denoiser, 2.), Sampling(steps=3), 2, c))

def test_latents(trained):
    g = torch.Generator().manual_seed(0)
    latents = torch.randn(80, 4, 8, 8, generator=g)*3
    datasets['latents'] = lambda split='train', **kw: blobs(split)._replace(images=latents)
    denoiser = trained(data='latents')
    assert denoiser.shape == (4, 8, 8)
    assert drawn(denoiser).abs().max() > 1                                     # made of no pixels: nothing is clamped

def test_text_as_a_condition(trained):
    class Reader(nn.Module):
        def __init__(self, in_channels=1, classes=None):
            super().__init__()
            self.arguments = dict(in_channels=in_channels)
            self.conv, self.embed = nn.Conv2d(in_channels, in_channels, 1), nn.Linear(5, in_channels)
        def null(self, c): return dict(text=torch.zeros_like(c['text']), mask=torch.zeros_like(c['mask']))
        def forward(self, x, t, c=None):
            if c is None: return self.conv(x)
            return self.conv(x) + (self.embed(c['text'])*c['mask'][..., None]).sum(1)[..., None, None]
    networks['Reader'] = Reader
    text = dict(text=torch.randn(80, 7, 5), mask=torch.ones(80, 7))
    datasets['captions'] = lambda split='train', **kw: blobs(split)._replace(labels=text, class_names=None)
    denoiser = trained(data='captions', net='Reader', dims=Config().dims, patch=Config().patch)
    two = {k: v[:2] for k, v in text.items()}
    assert drawn(denoiser, c=two, w=1.5).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match='2 images need 2 conditions'): drawn(denoiser, c=text)

def test_learned_variance(trained):
    denoiser = trained(net='UNet(out_channels=6)')
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([.3, .6])
    prediction, extra = denoiser.split(denoiser.raw(x, t), x)
    assert prediction.shape == extra.shape == x.shape and diffusion_loss(denoiser, x).shape == (2,)

    class Learned(Wrapper):
        "Keeps what the network says of the variance, so that the sampler costs one call per step"
        def forward(self, x, t, c=None):
            calls.append(1)
            prediction, extra = self.denoise.split(self.denoise.raw(x, t, c), x)
            self.k = (extra.clamp(-1, 1) + 1)/2
            level = self.schedule(t)
            return self.denoise.target.to_x0(prediction, x, level.alpha.to(x), level.sigma.to(x))
    calls, learned = [], Learned(denoiser)
    generate(learned, 2, steps=3, sampler=ddpm, variance=lambda x, t, c: learned.k)
    assert len(calls) == 3

def test_edm(trained):
    denoiser = trained(schedule='ve(sigma_max=20.0)', target='edm(data_std=0.6)', times='log_normal(mean=-1.0)')
    assert denoiser.data_std == .6 and drawn(denoiser, spacing='karras(rho=5)').isfinite().all()
    with pytest.raises(ValueError, match='v'): trained(schedule='ve', target='v')

def test_in_painting_and_image_to_image(trained):
    class Inpainted(Wrapper):
        def forward(self, x, t, c=None): return torch.where(c['mask'], c['known'], self.denoise(x, t))
    denoiser = trained()
    known, mask = torch.rand(2, 3, 8, 8)*2 - 1, torch.zeros(2, 3, 8, 8, dtype=torch.bool)
    mask[..., :4] = True
    images = generate(Inpainted(denoiser), 2, steps=3, c=dict(known=known, mask=mask), batch_size=1)
    assert torch.allclose(images[mask], known[mask], atol=1e-6)
    near = generate(denoiser, 2, ts=times(3, .01), init=known)
    assert (near - known).abs().mean() < .1 < (generate(denoiser, 2, steps=3) - known).abs().mean()

def test_everything_else_that_has_a_table(trained):
    targets['minus_eps'] = Target(lambda x0, eps, alpha, sigma: -eps,
                                  lambda out, x, alpha, sigma: (x + sigma*out)/alpha)
    optimizers['sgd'] = torch.optim.SGD
    lr_schedules['sawtooth'] = lambda p, teeth=2: 1 - teeth*p % 1
    time_distributions['early'] = lambda u, schedule, power=2: u**power*.9
    spacings['cubic'] = lambda schedule, n: times(n, .99, power=3)
    denoiser = trained(target='minus_eps', optimizer='sgd(momentum=0.5)', lr=.01, lr_schedule='sawtooth(teeth=3)',
                       times='early(power=3)')
    assert drawn(denoiser, spacing='cubic').shape == (2, 3, 8, 8)

# ---- bad input ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('changes, said', [
    (dict(net='UNett'), "did you mean 'UNet'"), (dict(schedule='ve(sigma=3)'), 'the schedule ve has no sigma'),
    (dict(schedule='linear(T=9)'), 'the schedule linear has no T'), (dict(times='normal'), "did you mean 'log_normal'"),
    (dict(optimizer='adamw(lr=1)'), 'lr is a setting of its own'), (dict(target='edm(std=1)'), 'has no std')])
def test_a_name_or_argument_that_there_is_not(trained, changes, said):
    with pytest.raises(ValueError, match=said.replace('(', r'\(').replace(')', r'\)')) as e: trained(**changes)
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('table', TABLES, ids=lambda table: table.kind)
def test_a_name_that_is_taken(table):
    name, row = next(iter(table.items()))
    with pytest.raises(ValueError, match=f"the {table.kind} '{name}' exists already"): table[name] = object()
    assert table[name] is row

def test_a_spacing_that_does_not_descend(trained):
    spacings['up'] = lambda schedule, n: torch.linspace(0, 1, n + 1)
    with pytest.raises(ValueError, match='each below the one before'): drawn(trained(), spacing='up')

def test_a_condition_for_a_network_that_takes_none(trained):
    denoiser = Denoiser(UNet(in_channels=3, dims=(8, 16)), cosine, targets['v'], shape=(3, 8, 8))
    with pytest.raises(ValueError, match='takes no condition'): drawn(denoiser, c=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match='takes no condition'): drawn(denoiser, c=torch.tensor([0, 1]), w=2.)
    with pytest.raises(ValueError, match='guides towards a condition'): drawn(denoiser, w=2.)
