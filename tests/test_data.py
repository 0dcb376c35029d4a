"Where data are looked for, in which order, and what is said when they are not there."
import shutil

import pytest

from ddpm_course import data

@pytest.fixture
def places(root, tmp_path, monkeypatch):
    "A named folder, an environment folder and a cache, each empty, and none of the machine's own"
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    monkeypatch.setenv('DDPM_COURSE_DATA', str(tmp_path/'env'))
    (tmp_path/'env').mkdir()
    def put(where): shutil.copytree(root/'data'/'mnist-10k', where/'mnist')
    return put, tmp_path

def test_order_of_places(places, capsys):
    put, tmp = places
    assert data.mnist().source == "the course's mnist-10k"
    put(tmp/'cache'/'ddpm_course')
    assert data.mnist().source == str(tmp/'cache'/'ddpm_course'/'mnist')
    put(tmp/'env')
    assert data.mnist().source == str(tmp/'env'/'mnist')
    put(tmp/'mine')
    assert data.mnist(root=tmp/'mine').source == str(tmp/'mine'/'mnist')
    assert data.mnist(full=False).source == "the course's mnist-10k"
    assert len(capsys.readouterr().out.splitlines()) == 5          # one line for each

def test_a_wrong_environment_variable_is_said(places):
    (places[1]/'env').rmdir()
    with pytest.raises(FileNotFoundError, match='DDPM_COURSE_DATA names .*env, which is not a folder'):
        data.mnist()

def test_the_full_set_is_demanded(places):
    put, tmp = places
    put(tmp/'env')                                                 # the bundled part: not what was asked for
    with pytest.raises(FileNotFoundError, match='the whole of MNIST is not in any of the places'):
        data.mnist(full=True)

def test_a_bad_file_is_never_passed_over(places):
    put, tmp = places
    put(tmp/'env')
    name = 'train-images-idx3-ubyte.gz'
    shutil.copy(tmp/'env'/'mnist'/'t10k-images-idx3-ubyte.gz', tmp/'env'/'mnist'/name)
    with pytest.raises(ValueError, match=f'{name} holds MNIST t10k-images'):
        data.mnist()

def test_no_network_is_one_sentence(places):
    def refuse(root, download): raise OSError('Name or service not known')
    with pytest.raises(ConnectionError, match=r"could not be downloaded .*Name or service not known.*full=False"):
        data.load_idx(data.mnist_files._replace(bundled='absent'), download=refuse, full=True)

def test_works_from_any_folder(python):
    done = python('-c', 'from ddpm_course.data import mnist; print(len(mnist(full=False).images))')
    assert done.stdout.split()[-1] == '8000', done.stderr
