"""A small training run for the tests: train_tiny.py FOLDER [options]. It says `begin` when it is about to train, and at
the end the number of processes, the last step and the digest of all weights, which it also writes to FOLDER.pt"""
import argparse
import hashlib
import itertools
import os
from functools import partial

os.environ['CUDA_VISIBLE_DEVICES'] = ''               # the tests are about processes, so they run on the CPU everywhere
import torch                                          # noqa: E402
import torch.distributed as dist                      # noqa: E402

from ddpm_course.data import ImageSet, batches        # noqa: E402
from ddpm_course.denoiser import Denoiser, targets    # noqa: E402
from ddpm_course.forward import cosine                # noqa: E402
from ddpm_course.training import EMA, Checkpoints, ValidationLoss, linear_decay, train  # noqa: E402
from ddpm_course.unet import UNet                     # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument('folder')
parser.add_argument('--steps', type=int, default=30)
parser.add_argument('--checkpoint-every', type=int, default=3)
parser.add_argument('--batch-size', type=int, default=16)
parser.add_argument('--dropout', type=float, default=.1)
parser.add_argument('--nan-at', type=int)
parser.add_argument('--dims', type=int, default=16)
args = parser.parse_args()

torch.set_num_threads(1)
torch.manual_seed(0)
g = torch.Generator().manual_seed(0)
images = torch.randint(0, 256, (100, 1, 8, 8), generator=g, dtype=torch.uint8)
labels = torch.randint(0, 3, (100,), generator=g)
data = ImageSet(images, labels, ('a', 'b', 'c'), 'noise', 'here')
net  = UNet(dims=(args.dims, args.dims), classes=3, dropout=args.dropout)
denoiser = Denoiser(net, cosine, targets['v'], shape=(1, 8, 8), class_names=data.class_names)
opt, ema = torch.optim.AdamW(denoiser.parameters(), 2e-3), EMA(denoiser)
x0 = data.images[:20].float()/127.5 - 1

calls = itertools.count(1)
def weight(alpha, sigma): return torch.full_like(alpha, float('nan') if next(calls) == args.nan_at else 1.)

print('begin', flush=True)
for log in train(denoiser, partial(batches, data, args.batch_size), opt, args.steps, ema, lr_schedule=linear_decay,
                 weight=weight, precision=torch.float32, validate=ValidationLoss(x0, data.labels[:20]),
                 checkpoints=Checkpoints(args.folder), checkpoint_every=args.checkpoint_every):
    pass

everything = [v for d in (denoiser, ema.denoiser) for v in d.state_dict().values()]
digest = hashlib.sha256(b''.join(v.numpy().tobytes() for v in everything)).hexdigest()
world = dist.get_world_size() if dist.is_initialized() else 1
if world > 1:
    digests = [None]*world
    dist.all_gather_object(digests, digest)
    assert len(set(digests)) == 1, 'the processes hold different weights'
    dist.destroy_process_group()
if int(os.environ.get('RANK', 0)) == 0:
    torch.save(everything, f'{args.folder}.pt')
    print(world, log.step if 'log' in globals() else args.steps, digest)
