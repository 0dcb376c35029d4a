"The package is described in settings.ini; this file hands it to setuptools."
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

config = ConfigParser(delimiters=['='])
config.read(Path(__file__).parent/'settings.ini', encoding='utf-8')
c = config['DEFAULT']

extras = {k.removesuffix('_requirements'): c[k].split() for k in c if k.endswith('_requirements')}
extras['dev'] += extras['notebooks'] + extras['tracking']

class WithData(build_py):
    "A wheel brings data/ along, as ddpm_course/_data; in a clone the package finds it beside itself"
    def run(self):
        super().run()
        if self.editable_mode: return
        self.copy_tree(str(Path(__file__).parent/'data'), f"{self.build_lib}/{c['lib_path']}/_data")

setup(
    name=c['lib_name'], version=c['version'], description=c['description'], keywords=c['keywords'].split(),
    author=c['author'], author_email=c['author_email'], url=c['git_url'], license='Apache-2.0',
    long_description=(Path(__file__).parent/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Education',
                 'Programming Language :: Python :: 3'],
    packages=[c['lib_path']], cmdclass=dict(build_py=WithData), python_requires=f">={c['min_python']}", zip_safe=False,
    install_requires=c['requirements'].split(), extras_require=extras,
    entry_points={'nbdev': [f"{c['lib_path']}={c['lib_path']}._modidx:d"],
                  'console_scripts': c['console_scripts'].splitlines()},
)
