"Folders of pictures as people have them: what is read, what is named and left out, and that it is decoded once."
import contextlib
import gzip
import json
import os
import shutil
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_course import data
from ddpm_course.data import image_folder, load_data, read_picture

@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    "A cache of the test's own, and no warning that is not asked for"
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    monkeypatch.setenv('TQDM_DISABLE', '1')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield tmp_path/'cache'/'ddpm_course'/'folders'

@pytest.fixture
def pics(tmp_path):
    "A folder of 6 + 6 coloured pictures in two classes"
    for k, kind in enumerate(('cat', 'dog')):
        (tmp_path/'pics'/kind).mkdir(parents=True)
        for i in range(6): Image.new('RGB', (20, 20), (100*k, 20*i, 7)).save(tmp_path/'pics'/kind/f'{i}.png')
    return tmp_path/'pics'

@pytest.fixture
def decoded(monkeypatch):
    "The numbers of pictures of each decoding"
    calls, decode = [], data.decode_pictures
    def counted(folder, pictures, *args, **kwargs):
        calls.append(len(pictures))
        return decode(folder, pictures, *args, **kwargs)
    monkeypatch.setattr(data, 'decode_pictures', counted)
    return calls

def warned(match, *args, **kwargs):
    with pytest.warns(UserWarning, match=match): return image_folder(*args, **kwargs)

# ---- modes and formats -----------------------------------------------------------------------------------------------

def grey(value, dtype): return Image.fromarray(np.full((5, 5), value, dtype))

def palette(transparent):
    image = Image.new('P', (5, 5), 1)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    return image, dict(transparency=1) if transparent else {}

good = {
    'i16.png':      (lambda f: grey(32896, np.uint16).save(f), 128),
    'i16.tif':      (lambda f: grey(32896, np.uint16).save(f), 128),
    'i16-big.tif':  (lambda f: grey(32896, '>u2').save(f), 128),
    'i32.tif':      (lambda f: grey(65535, np.int32).save(f), 255),
    'i16.pgm':      (lambda f: grey(32896, np.uint16).save(f), 128),
    'float.tiff':   (lambda f: grey(.5, np.float32).save(f), 128),
    'bits.png':     (lambda f: Image.new('1', (5, 5), 1).save(f), 255),
    'rgba.png':     (lambda f: Image.new('RGBA', (5, 5), (9, 9, 9, 0)).save(f), 255),
    'half.webp':    (lambda f: Image.new('RGBA', (5, 5), (0, 0, 0, 128)).save(f, lossless=True), 127),
    'la.png':       (lambda f: Image.new('LA', (5, 5), (0, 128)).save(f), 127),
    'p.png':        (lambda f: palette(False)[0].save(f), 76),
    'p-clear.png':  (lambda f: palette(True)[0].save(f, transparency=1), 255),
    'p-bytes.png':  (lambda f: palette(True)[0].save(f, transparency=b'\xff\x00\xff'), 255),
    'rgb-clear.png': (lambda f: Image.new('RGB', (5, 5), (1, 2, 3)).save(f, transparency=(1, 2, 3)), 255),
    'l-clear.png':  (lambda f: Image.new('L', (5, 5), 7).save(f, transparency=7), 255),
    'cmyk.jpg':     (lambda f: Image.new('CMYK', (5, 5), (0, 0, 0, 255)).save(f), 0),
    'cmyk.tif':     (lambda f: Image.new('CMYK', (5, 5), (0, 0, 0, 0)).save(f), 255),
    'UPPER.JPG':    (lambda f: Image.new('RGB', (5, 5), 'white').save(f, 'JPEG'), 255),
    'one.bmp':      (lambda f: Image.new('RGB', (1, 1), 'white').save(f), 255),
    'line.png':     (lambda f: Image.new('L', (500, 1), 50).save(f), 50),
    'film.gif':     (lambda f: grey(40, np.uint8).save(f, save_all=True, append_images=[grey(0, np.uint8)]), 40),
    'a jpeg.png':   (lambda f: Image.new('L', (5, 5), 60).save(f, 'JPEG'), 60),
}

@pytest.mark.parametrize('name', good)
def test_modes(name, tmp_path):
    save, value = good[name]
    (tmp_path/'pics').mkdir()
    save(tmp_path/'pics'/name)
    for channels in (1, 3):
        images = image_folder(tmp_path/'pics', 6, channels).images
        assert images.shape == (1, channels, 6, 6)
        if channels == 1: assert (images.int() - value).abs().max() <= 1

def test_upright(tmp_path):
    picture = Image.new('L', (40, 20))
    picture.paste(255, (0, 0, 20, 20))                            # left half white
    exif = Image.Exif()
    exif[0x0112] = 6                                              # to be turned clockwise: then the upper half
    picture.save(tmp_path/'a.jpg', exif=exif, quality=100)
    pixels = read_picture(tmp_path/'a.jpg', 20, 1)[0]
    assert pixels[:8].min() > 230 and pixels[-8:].max() < 25

def test_a_large_jpeg_is_read_as_a_small_one(tmp_path):
    g = np.random.default_rng(0)
    smooth = Image.fromarray(g.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize((1600, 1600), Image.BICUBIC)
    smooth.save(tmp_path/'a.jpg', quality=95); smooth.save(tmp_path/'a.png')
    a, b = (read_picture(tmp_path/name, 32, 3).astype(int) for name in ('a.jpg', 'a.png'))
    assert abs(a - b).max() < 8

def test_channels_follow_the_headers(tmp_path):
    Image.new('L', (5, 5)).save(tmp_path/'a.png')
    grey(1, np.uint16).save(tmp_path/'b.png')
    table = Image.new('P', (5, 5))
    table.putpalette([v for v in range(256) for _ in range(3)])
    table.save(tmp_path/'c.gif')
    (tmp_path/'broken.png').write_text('no')
    assert warned('broken', tmp_path, cache=False).images.shape[1] == 1
    palette(False)[0].save(tmp_path/'d.png')
    assert warned('broken', tmp_path, cache=False).images.shape[1] == 3
    assert warned('broken', tmp_path, 16, 1, cache=False).images.shape == (4, 1, 16, 16)

# ---- files that are no pictures, or broken ones ----------------------------------------------------------------------

def chunk(kind, body): return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

def bomb(file):
    "A PNG of 30,000 × 30,000 pixels by its header"
    file.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 30_000, 30_000, 8, 2, 0, 0, 0))
                     + chunk(b'IDAT', zlib.compress(bytes(1000))) + chunk(b'IEND', b''))

def truncated(file, format):
    pixels = np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, format)
    file.write_bytes(file.read_bytes()[:-file.stat().st_size//2])

bad = {
    'empty.png':    (lambda f: f.touch(), 'it is empty'),
    'text.png':     (lambda f: f.write_text('milk, eggs'), 'no picture of a known format'),
    'cut.png':      (lambda f: truncated(f, 'PNG'), 'cut.png'),
    'cut.jpg':      (lambda f: truncated(f, 'JPEG'), 'truncated'),
    'cut.webp':     (lambda f: truncated(f, 'WEBP'), 'cut.webp'),
    'cut.gif':      (lambda f: truncated(f, 'GIF'), 'cut.gif'),
    'cut.bmp':      (lambda f: truncated(f, 'BMP'), 'cut.bmp'),
    'cut.tif':      (lambda f: truncated(f, 'TIFF'), 'cut.tif'),
    'cut.ppm':      (lambda f: truncated(f, 'PPM'), 'cut.ppm'),
    'bomb.png':     (bomb, 'decompression bomb'),
    'head.png':     (lambda f: f.write_bytes(b'\x89PNG\r\n\x1a\n'), 'head.png'),
    'float.tif':    (lambda f: grey(200., np.float32).save(f), 'values go from 200 to 200'),
    'nan.tif':      (lambda f: grey(np.nan, np.float32).save(f), 'values go from nan'),
    'int.tif':      (lambda f: grey(70_000, np.int32).save(f), 'values go from 70000'),
    'below.tif':    (lambda f: grey(-3, np.int32).save(f), 'values go from -3'),
    'lab.tif':      (lambda f: Image.new('LAB', (5, 5)).save(f), None),       # may become readable in a later Pillow
    'ps.png':       (lambda f: f.write_text('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n'),
                     'no picture of a known format'),
    'page.html.png': (lambda f: f.write_text('<html>404</html>'), 'no picture'),
    'phone.heic':   (lambda f: f.write_bytes(b'\0\0\0\x18ftypheic'), 'no picture of a known format'),
    'nowhere.png':  (lambda f: f.symlink_to('gone.png'), 'no ordinary file'),
    'circle.png':   (lambda f: f.symlink_to(f), 'no ordinary file'),
    'pipe.png':     (lambda f: os.mkfifo(f), 'no ordinary file'),
}

@pytest.mark.parametrize('name', bad)
def test_a_bad_file_is_named_and_left_out(name, pics):
    make, reason = bad[name]
    make(pics/'cat'/name)
    if reason is None:
        with contextlib.suppress(UserWarning): image_folder(pics)
        return
    for _ in range(2):                                            # also when it comes from the cache
        found = warned(f'1 of 13 pictures .* left out: cat/{name} .*{reason}' if reason != name
                       else f'1 of 13 pictures .* left out: cat/{name} ', pics)
        assert found.labels.tolist() == [0]*6 + [1]*6 and len(found.images) == 12
    with pytest.raises(ValueError, match=f'{name}.*remove or replace'): image_folder(pics, strict=True)
    with pytest.raises(ValueError, match=f'{name}.*remove or replace'): image_folder(pics, strict=True, cache=False)

def test_many_bad_files_are_counted(pics):
    for i in range(30): (pics/'cat'/f'bad{i:02}.png').write_text('no')
    with pytest.warns(UserWarning, match='30 of 42 pictures .*bad00.png .*bad09.png .* and 20 more'): image_folder(pics)

def test_nothing_is_left(tmp_path):
    (tmp_path/'a.png').touch()
    for cache in (True, False):
        with pytest.raises(ValueError, match='a.png .it is empty'): image_folder(tmp_path, cache=cache)

def test_what_does_not_count(pics):
    for name in ('notes.pdf', 'x.h5', 'png', 'cat/Thumbs.db', 'cat/.hidden.png', 'cat/labels.json', 'x.eps', 'README'):
        (pics/name).write_text('no')
    for name in ('.ipynb_checkpoints', '__MACOSX/cat', 'papers', 'dog/.thumbs'): (pics/name).mkdir(parents=True)
    for name in ('.ipynb_checkpoints/a.png', '__MACOSX/cat/._a.png', '__MACOSX/b.png', 'papers/a.pdf',
                 'dog/.thumbs/a.png'):
        (pics/name).write_text('no')
    found = image_folder(pics)
    assert found.class_names == ('cat', 'dog') and len(found.images) == 12

def test_a_folder_with_the_name_of_a_picture(pics):
    (pics/'set.png').mkdir()
    assert image_folder(pics).class_names == ('cat', 'dog')       # empty: no class
    shutil.copy(pics/'cat'/'0.png', pics/'set.png')
    assert image_folder(pics).class_names == ('cat', 'dog', 'set.png')

def test_links(pics, tmp_path):
    (pics/'cat'/'up').symlink_to(pics); (pics/'dog'/'self').symlink_to(pics/'dog')
    (pics/'dog'/'x').symlink_to(pics/'dog'/'x')
    assert len(image_folder(pics).images) == 12
    (tmp_path/'elsewhere').mkdir()
    Image.new('RGB', (9, 9)).save(tmp_path/'elsewhere'/'a.png')
    (pics/'emu').symlink_to(tmp_path/'elsewhere'); (pics/'dog'/'a.png').symlink_to(tmp_path/'elsewhere'/'a.png')
    assert image_folder(pics).labels.bincount().tolist() == [6, 7, 1]

def test_a_closed_folder_is_named(pics, monkeypatch):
    scandir = os.scandir
    def closed(path):
        if str(path).endswith('dog'): raise PermissionError(13, 'Permission denied')
        return scandir(path)
    monkeypatch.setattr(os, 'scandir', closed)
    with pytest.raises(OSError, match='pics/dog cannot be read .Permission denied'): image_folder(pics)

@pytest.mark.skipif(sys.platform != 'linux', reason='names are bytes on Linux')
def test_names_that_are_no_text(pics, capsys):
    for folder in (b'caf\xe9', b'two\nlines'):
        os.mkdir(os.fsencode(pics) + b'/' + folder)
        shutil.copy(pics/'cat'/'0.png', os.fsdecode(os.fsencode(pics) + b'/' + folder + b'/\xff.png'))
    (Path(os.fsdecode(os.fsencode(pics) + b'/caf\xe9'))/os.fsdecode(b'\xfe.png')).write_text('no')
    root = pics.rename(pics.with_name(os.fsdecode(b'p\xefcs')))
    for split in ('train', None):
        found = warned(r'left out: caf\\udce9/\\udcfe.png', root, split=None)
    for text in (found.name, found.source, *found.class_names): text.encode()
    json.dumps(found.class_names, ensure_ascii=False).encode()
    capsys.readouterr().out.encode()
    assert 'caf\\udce9' in found.class_names and 'two\\nlines' in found.class_names
    with pytest.raises(ValueError) as e: image_folder(root, strict=True)
    str(e.value).encode()

# ---- classes and splits ----------------------------------------------------------------------------------------------

def test_without_classes(tmp_path):
    for i in range(5): Image.new('L', (9, 9), i).save(tmp_path/f'{i}.png')
    found = image_folder(tmp_path, 8)
    assert found.labels is None and found.class_names is None
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    x0, c = next(data.batches(found, 3))
    assert x0.shape == (3, 1, 8, 8) and c is None

def test_pictures_beside_folders(pics):
    shutil.copy(pics/'cat'/'0.png', pics/'stray.png')
    with pytest.raises(ValueError, match='stray.png beside cat'): image_folder(pics)

def test_train_and_test_folders(pics, tmp_path):
    for split in ('train', 'test'): shutil.copytree(pics, tmp_path/'all'/split)
    shutil.rmtree(tmp_path/'all'/'test'/'cat')                    # no cats in the test: the numbers stay
    train, test, both = (image_folder(tmp_path/'all', split=s) for s in ('train', 'test', None))
    assert (len(train.images), len(test.images), len(both.images)) == (12, 6, 18)
    assert test.class_names == ('cat', 'dog') and test.labels.tolist() == [1]*6
    (tmp_path/'all'/'test').rename(tmp_path/'all'/'val')
    assert len(image_folder(tmp_path/'all', split='test').images) == 6
    shutil.copytree(pics, tmp_path/'all'/'spare')
    assert len(warned('left out: spare', tmp_path/'all', split='train').images) == 12

def test_flat_splits(pics, tmp_path):
    shutil.copytree(pics/'cat', tmp_path/'flat'/'train'); shutil.copytree(pics/'dog', tmp_path/'flat'/'test')
    train, test = (image_folder(tmp_path/'flat', split=s) for s in ('train', 'test'))
    assert train.class_names is None and len(train.images) == len(test.images) == 6
    assert not torch.equal(train.images, test.images)

def test_a_class_named_train(pics):
    (pics/'cat').rename(pics/'train')
    assert image_folder(pics).class_names == ('dog', 'train')
    shutil.rmtree(pics/'dog')
    with pytest.raises(ValueError, match='none that is named test'): image_folder(pics)

def names(folder, split, share): return {f.parts for f in data.list_split(str(folder), split, share).pictures}

def test_the_split_is_by_name(tmp_path):
    for i in range(2000): (tmp_path/f'{i}.png').touch()
    test = names(tmp_path, 'test', .1)
    assert 150 < len(test) < 250 and not test & names(tmp_path, 'train', .1)
    assert len(test | names(tmp_path, 'train', .1)) == 2000 == len(names(tmp_path, None, .1))
    for i in range(2000, 3000): (tmp_path/f'{i}.png').touch()
    assert test < names(tmp_path, 'test', .1) and names(tmp_path, 'test', .1) < names(tmp_path, 'test', .2)

@pytest.mark.parametrize('n', (2, 3, 5))
def test_small_folders_have_both_splits(n, tmp_path):
    for i in range(n): (tmp_path/f'{i}.png').touch()
    for share in (.001, .1, .999):
        assert names(tmp_path, 'train', share) and names(tmp_path, 'test', share)

def test_one_picture_is_for_training(tmp_path):
    Image.new('L', (9, 9)).save(tmp_path/'a.png')
    assert len(image_folder(tmp_path, split='train').images) == 1
    with pytest.raises(FileNotFoundError, match='no pictures for the split test'): image_folder(tmp_path, split='test')

# ---- the cache -------------------------------------------------------------------------------------------------------

def test_decoded_once(pics, decoded, cache):
    first = image_folder(pics, 16)
    assert torch.equal(image_folder(f'{pics}/', 16).images, first.images) and decoded == [12]
    assert torch.equal(image_folder(pics, 16, cache=False).images, first.images) and decoded == [12, 12]
    image_folder(pics, 8); image_folder(pics, 16, 1); image_folder(pics, 16, split='train'); image_folder(pics, 16)
    assert len(decoded) == 5 and len(list(cache.glob('*.bytes'))) == 4

changes = dict(
    added   = lambda pics: shutil.copy(pics/'cat'/'0.png', pics/'cat'/'new.png'),
    removed = lambda pics: (pics/'cat'/'3.png').unlink(),
    renamed = lambda pics: (pics/'cat'/'3.png').rename(pics/'cat'/'9.png'),
    touched = lambda pics: os.utime(pics/'cat'/'3.png', ns=(1, 1)),
    resized = lambda pics: Image.new('RGB', (70, 70), 'red').save(pics/'cat'/'3.png'),
    moved   = lambda pics: (pics/'cat'/'3.png').rename(pics/'dog'/'9.png'),
    spoiled = lambda pics: (pics/'cat'/'3.png').write_bytes(b''))

@pytest.mark.parametrize('change', changes)
def test_a_changed_folder_is_noticed(change, pics, decoded, cache):
    image_folder(pics)
    changes[change](pics)
    with warnings.catch_warnings():
        if change == 'spoiled': warnings.simplefilter('ignore')
        found = image_folder(pics)
        assert len(decoded) == 2 and len(list(cache.glob('*.bytes'))) == 1
        plain = image_folder(pics, cache=False)
    assert torch.equal(found.images, plain.images) and torch.equal(found.labels, plain.labels)

@pytest.mark.parametrize('damage', (
    lambda pixels, index: os.truncate(pixels, pixels.stat().st_size - 1), lambda pixels, index: os.truncate(pixels, 0),
    lambda pixels, index: pixels.write_bytes(pixels.read_bytes() + b'x'), lambda pixels, index: pixels.unlink(),
    lambda pixels, index: index.write_text('{'), lambda pixels, index: index.write_text('[]'),
    lambda pixels, index: index.write_bytes(b'\xff'), lambda pixels, index: index.unlink(),
    lambda pixels, index: index.write_text(index.read_text().replace('"shape"', '"form"'))))
def test_a_damaged_cache_is_made_anew(damage, pics, decoded, cache):
    whole = image_folder(pics).images.clone()
    damage(*cache.glob('*.bytes'), *cache.glob('*.json'))
    for _ in range(2): assert torch.equal(image_folder(pics).images, whole)
    assert decoded == [12, 12]

def test_what_a_killed_process_left_is_removed(pics, cache):
    image_folder(pics)
    index, = cache.glob('*.json')
    left = cache/f'.{index.stem}-0011-22.bytes'
    left.write_bytes(b'half')
    shutil.copy(pics/'cat'/'0.png', pics/'cat'/'new.png')
    image_folder(pics)
    assert not left.exists()

def test_the_images_are_mapped_and_may_be_written_to(pics, decoded):
    images = image_folder(pics).images
    before = images.clone()
    images[:] = 7
    assert torch.equal(image_folder(pics).images, before) and decoded == [12]

def test_a_file_larger_than_memory_can_be_mapped(tmp_path):
    try: size = 2*os.sysconf('SC_PAGE_SIZE')*os.sysconf('SC_PHYS_PAGES')
    except (AttributeError, ValueError): pytest.skip('the size of the memory is not known here')
    try:
        with open(tmp_path/'sparse', 'wb') as f: f.truncate(size)
    except OSError: pytest.skip('no sparse files here')
    images = data.map_bytes(tmp_path/'sparse', (size//4096, 1, 64, 64))
    assert images[-1].sum() == 0

def test_an_unwritable_cache_is_one_sentence(pics, tmp_path, monkeypatch):
    (tmp_path/'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'file'))
    with pytest.raises(OSError, match='nothing can be written to .*XDG_CACHE_HOME.*cache=False'): image_folder(pics)
    assert len(image_folder(pics, cache=False).images) == 12

def test_a_full_disk_is_one_sentence(pics, cache, monkeypatch):
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match='the pictures need 0.0 GB in .*XDG_CACHE_HOME'): image_folder(pics)
    assert not list(cache.glob('*.json'))

def test_an_interrupted_decoding_leaves_nothing(pics, cache, monkeypatch):
    def interrupted(*args, **kwargs): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(data, 'read_picture', interrupted)
        with pytest.raises(KeyboardInterrupt): image_folder(pics)
    assert not [f for f in cache.iterdir() if f.suffix != '.lock']
    assert len(image_folder(pics).images) == 12

def test_processes_share_one_decoding(pics, root, tmp_path):
    code = '''
import sys, time
from ddpm_course import data
read = data.read_picture
def slow(*args):
    time.sleep(.15); open(sys.argv[2], 'a').write('x')
    return read(*args)
data.read_picture = slow
print(data.image_folder(sys.argv[1], 8).images.sum().item())'''
    env  = os.environ | dict(PYTHONPATH=str(root))
    runs = [subprocess.Popen([sys.executable, '-c', code, pics, tmp_path/'log'], env=env, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    out = [run.communicate(timeout=120) for run in runs]
    assert all(run.returncode == 0 for run in runs), out
    assert len({o.split()[-1] for o, _ in out}) == 1
    assert (tmp_path/'log').read_text() == 'x'*12

# ---- by name or path -------------------------------------------------------------------------------------------------

def test_a_path_is_a_data_set(pics, monkeypatch):
    monkeypatch.chdir(pics.parent)
    monkeypatch.setenv('HOME', str(pics.parent))
    for spec in ('pics', './pics', str(pics), '~/pics', pics, f'{pics}/'):
        data.check_dataset(spec, image_size=16, channels=3)
        parts = [load_data(spec, split, full=False, image_size=16) for split in ('train', 'test')]
        assert sum(len(part.images) for part in parts) == 12 and parts[0].images.shape[1:] == (3, 16, 16)
    pics.rename('mnist')
    assert load_data('mnist', full=False).name == 'MNIST' and load_data('./mnist').name == 'mnist'
    Path('mnist').rename('my pics (2)')
    assert load_data('my pics (2)').class_names == ('cat', 'dog')

@pytest.mark.parametrize('spec, says', [
    ('fmnist', "did you mean 'fashion_mnist'.*folder of pictures"), ('fasion-mnist', "did you mean 'fashion_mnist'"),
    ('cifar', "did you mean 'cifar10'"), ('minst', "did you mean 'mnist'"), ('', 'no data set'),
    ('imagenet', 'there are fashion_mnist, .*folder of pictures'), ('mnist(size=3)', 'size'),
    ('no/such', 'is not a folder'), ('./fmnist', 'is not a folder'), (Path('nowhere'), 'is not a folder')])
def test_a_wrong_name_is_one_sentence(spec, says):
    for ask in (data.check_dataset, load_data):
        with pytest.raises((ValueError, FileNotFoundError), match=says): ask(spec)

def test_a_check_opens_no_picture(pics, monkeypatch):
    def no(*args, **kwargs): raise AssertionError('a picture was opened')
    monkeypatch.setattr(Image, 'open', no)
    data.check_dataset(str(pics), image_size=32)
    for wrong in (dict(image_size=0), dict(channels=2), dict(image_size='big'), dict(image_size=True)):
        with pytest.raises(ValueError): data.check_dataset(str(pics), **wrong)
    shutil.rmtree(pics); pics.mkdir()
    with pytest.raises(FileNotFoundError, match='no pictures'): data.check_dataset(str(pics))

@pytest.mark.parametrize('spec', ('mnist', 'fashion_mnist', 'cifar10', 'mnist(root=None)'))
def test_a_fixed_shape_is_not_changed(spec):
    size, channels = (32, 3) if spec == 'cifar10' else (28, 1)
    data.check_dataset(spec, size, channels)
    for wrong in (dict(image_size=64), dict(channels=4 - channels), dict(image_size=64, channels=channels)):
        for ask in (data.check_dataset, load_data):
            with pytest.raises(ValueError, match=f'{size} × {size} with {channels} channel.*leave image_size'):
                ask(spec, **wrong)

def test_rows_that_know_nothing_of_sizes(monkeypatch):
    few = data.ImageSet(torch.zeros(9, 3, 8, 8, dtype=torch.uint8), None, None, 'few', 'here')
    asked = []
    def sized(split='train', full=None, image_size=8):
        asked.append(image_size)
        return few
    rows = dict(plain=lambda split, full=None: few, anything=lambda split='train', **kw: few, bare=lambda split: few,
                sized=sized)
    for name, row in rows.items(): monkeypatch.setitem(data.datasets, name, row)
    for name in rows:
        assert load_data(name, 'test', full=False, image_size=8, channels=3) is few
        with pytest.raises(ValueError, match='8 × 8'): load_data(name, image_size=16)
    assert asked == [8, 16]

def test_settings_that_a_folder_has_not(pics):
    for wrong in (dict(download=True), dict(root='.'), dict(path='.')):
        with pytest.raises(ValueError, match='has no (download|root)|path is said twice'): load_data(pics, **wrong)
    assert len(load_data(pics, 'test', test_share=.5, cache=False).images) > 1

def test_cifar10(tiny_cifar10):
    for full in (None, True, False):
        train, test = (load_data('cifar10', split, full=full, image_size=32) for split in ('train', 'test'))
        assert train.images.shape == (200, 3, 32, 32) and test.images.shape == (100, 3, 32, 32)
    assert train.labels.bincount().tolist() == [20]*10 and train.class_names[3] == 'cat'
    (tiny_cifar10/'cifar-10-batches-py'/'test_batch').write_bytes(b'damaged')
    with pytest.raises(FileNotFoundError, match='not whole'): load_data('cifar10')

def test_cifar10_registered(tmp_path):
    from cifar_tiny import register_tiny_cifar10
    name = register_tiny_cifar10(tmp_path, train=50, test=20)
    try: assert len(load_data(name, 'test', full=False).images) == 20
    finally: del data.datasets[name]

# ---- labels, unpacking, batches --------------------------------------------------------------------------------------

@pytest.mark.parametrize('labels', ([1, 2, 3], [0, 1, 3], [-1, 0, 1], [0., 1., 2.]))
def test_labels_out_of_range(labels):
    images = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    few = data.ImageSet(images, torch.tensor(labels), ('a', 'b', 'c'), 'few', 'here')
    for use in (lambda: data.batches(few, 2), lambda: data.subset(few, 'a'),
                lambda: data.check_labels(few.labels, few.class_names)):
        with pytest.raises(ValueError, match='labels'): use()

def test_an_idx_set_with_labels_from_one(tmp_path):
    names = dict(images='train-images-idx3-ubyte', labels='train-labels-idx1-ubyte')
    data.write_idx(np.zeros((3, 8, 8)), tmp_path/f'{names["images"]}.gz')
    data.write_idx(np.arange(1, 4), tmp_path/f'{names["labels"]}.gz')
    digests = {name: dict(full='sha256:' + data.core.sha256(gzip.decompress((tmp_path/f'{name}.gz').read_bytes())))
               for name in names.values()}
    letters = data.IdxFiles('Letters', ('a', 'b', 'c'), ('letters',), 'none', digests)
    with pytest.raises(ValueError, match='subtract 1'): data.load_idx(letters, root=tmp_path)

def test_a_gzip_bomb(tmp_path):
    name = 'train-images-idx3-ubyte'
    piece = gzip.compress(bytes(2**24))
    with open(tmp_path/f'{name}.gz', 'wb') as f:
        for _ in range(600): f.write(piece)                       # 10 GB of zeros in 10 MB
    start = time.perf_counter()
    with pytest.raises(ValueError, match='more than 47,040,016 bytes'):
        data.read_verified(tmp_path/f'{name}.gz', data.mnist_files)
    assert time.perf_counter() - start < 5
    with open(tmp_path/name, 'wb') as f: f.truncate(2**36)
    with pytest.raises(ValueError, match='more than 47,040,016 bytes'):
        data.read_verified(tmp_path/name, data.mnist_files)

def first_batches(images, n=10, **kwargs):
    stream = data.batches(images, 5, seed=3, **kwargs)
    got = [next(stream) for _ in range(n)]
    stream.close()
    return got

def same(a, b): return all(torch.equal(x, y) and torch.equal(c, d) for (x, c), (y, d) in zip(a, b, strict=True))

def test_the_order_of_batches(pics):
    found = image_folder(pics, 8)
    order = torch.cat([torch.randperm(12, generator=data.rng(3, 'order', epoch)) for epoch in range(5)])
    for (x0, c), index in zip(first_batches(found), order.split(5)):
        assert torch.equal(c, found.labels[index]) and torch.equal(x0, data.to_float(found.images[index]))

def test_batches_under_another_default_device(pics):
    expected = first_batches(image_folder(pics, 8), augment=data.flip_and_crop)
    with torch.device('meta'): assert same(first_batches(image_folder(pics, 8), augment=data.flip_and_crop), expected)
    torch.set_default_device('meta')
    try: assert same(first_batches(image_folder(pics, 8, cache=False), augment=data.flip_and_crop), expected)
    finally: torch.set_default_device(None)

@pytest.fixture
def as_to_a_gpu(monkeypatch):
    "The way to a GPU, without the GPU"
    monkeypatch.setattr(data, '_goes_to_gpu', lambda images, device: True)
    monkeypatch.setattr(data, '_pin', lambda v, device: v.clone())

def threads():
    import threading
    return [t for t in threading.enumerate() if t.name.startswith('ThreadPool')]

def test_reading_ahead_changes_nothing(pics, as_to_a_gpu, monkeypatch):
    found = image_folder(pics, 8)
    found = found._replace(labels=dict(k=found.labels))
    ahead = first_batches(found, start=4, augment=data.random_flip)
    assert not threads()
    monkeypatch.undo()
    direct = first_batches(found, start=4, augment=data.random_flip)
    assert all(torch.equal(x, y) and torch.equal(c['k'], d['k']) for (x, c), (y, d) in zip(ahead, direct, strict=True))

def test_reading_ahead_ends(pics, as_to_a_gpu):
    stream = data.batches(image_folder(pics, 8), 5)
    next(stream)
    assert threads()
    del stream
    assert not threads()

def test_an_error_in_the_thread_is_raised(pics, as_to_a_gpu, monkeypatch):
    def fails(v, device): raise RuntimeError('out of pinned memory')
    monkeypatch.setattr(data, '_pin', fails)
    with pytest.raises(RuntimeError, match='out of pinned memory'): next(data.batches(image_folder(pics, 8), 5))
    assert not threads()

def test_a_program_ends_while_it_reads_ahead(root, python, pics):
    done = python('-c', f'''
from ddpm_course import data
data._goes_to_gpu, data._pin = (lambda images, device: True), (lambda v, device: v.clone())
stream = data.batches(data.image_folder({str(pics)!r}, 8), 5)
next(stream)''', timeout=60)
    assert done.returncode == 0, done.stderr

@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU here')
def test_batches_on_a_gpu(pics):
    found = image_folder(pics, 8)
    on_gpu = first_batches(found, device='cuda', augment=data.flip_and_crop)
    assert all(x0.is_cuda and c.is_cuda for x0, c in on_gpu)
    assert same([(x0.cpu(), c.cpu()) for x0, c in on_gpu], first_batches(found, augment=data.flip_and_crop))
