"A small CIFAR-10 in the real format, made here: for tests of what CIFAR-10 needs, without its 170 MB."
import hashlib
import pickle
from functools import partial
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10

from ddpm_course.data import cifar10, datasets

CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']

def tiny_images(n, seed):
    "Images uint8 (n, 3072), red plane first, and labels: each class has a colour of its own, with some noise"
    g = np.random.default_rng(seed)
    labels  = np.arange(n) % 10
    colours = np.random.default_rng(0).integers(40, 216, (10, 3, 1))
    pixels  = colours[labels] + g.integers(-30, 30, (n, 3, 1024))
    return pixels.astype(np.uint8).reshape(n, 3072), labels.tolist()

def write_tiny_cifar10(folder, train=200, test=100):
    "Write cifar-10-batches-py into a folder; returns a class of torchvision's kind that knows its checksums"
    base = Path(folder)/'cifar-10-batches-py'
    base.mkdir(parents=True, exist_ok=True)
    def write(name, content):
        (base/name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((base/name).read_bytes()).hexdigest()]

    pixels, labels = tiny_images(train, seed=1)
    parts = np.array_split(np.arange(train), 5)
    train_list = [write(f'data_batch_{i + 1}', dict(data=pixels[part], labels=[labels[k] for k in part]))
                  for i, part in enumerate(parts)]
    pixels, labels = tiny_images(test, seed=2)
    test_list  = [write('test_batch', dict(data=pixels, labels=labels))]
    name, digest = write('batches.meta', dict(label_names=CLASSES))
    return type('TinyCIFAR10', (CIFAR10,), dict(train_list=train_list, test_list=test_list,
                                                meta=dict(filename=name, md5=digest, key='label_names')))

def register_tiny_cifar10(folder, name='tiny_cifar10', **sizes):
    "Write it and make it a row of `datasets`, as a subprocess can do, too; returns the name"
    datasets.pop(name, None)
    datasets[name] = partial(cifar10, root=folder, dataset=write_tiny_cifar10(folder, **sizes))
    return name
