"What the site knows about the course, read from settings.ini and from the notebooks themselves. Standard library only."
import ast
import json
import re
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A part begins at a number, and a chapter belongs to the last part that begins at or before its own.
PARTS = {0:  'First steps',
         3:  'How diffusion works',
         6:  'A model that draws',
         12: 'Experiments',
         14: 'Control and speed',
         18: 'Theory',
         20: 'Going further',
         90: 'Workshop'}
SHORT = {'second': 's', 'seconds': 's', 'minute': 'min', 'minutes': 'min', 'hour': 'h', 'hours': 'h'}

@lru_cache
def settings(root=ROOT):
    config = ConfigParser(delimiters=['='])
    config.read(root/'settings.ini', encoding='utf-8')
    return config['DEFAULT']

def source_of(cell): return ''.join(cell['source'])

def directives(source):
    "The leading `#|` lines of a code cell as a dict, and the code that follows"
    lines, options = source.splitlines(), {}
    while lines and (m := re.match(r'^#\s*\|\s*([\w-]+)\s*:?\s*(.*?)\s*$', lines[0])):
        value = m[2].strip('"\'')
        options[m[1]] = f'{options[m[1]]} {value}' if m[1] in options else value     # a long text in several lines
        lines.pop(0)
    return options, '\n'.join(lines).strip('\n')

def plain(markdown):
    "Markdown as text for attributes and descriptions: no marks, no links, formulas as they are"
    text = re.sub(r'!?\[([^]]*)\]\([^)]*\)', r'\1', markdown)
    return re.sub(r'\s+', ' ', re.sub(r'(?<!\\)[*`$]', '', text)).strip()

def first_sentence(markdown):
    "The first sentence of a paragraph, as text"
    paragraph = markdown.strip().split('\n\n')[0]
    if re.match(r'(#|<|\||- |\d+\. |\$\$)', paragraph): return ''
    return re.split(r'(?<=[^ .][.!?])\s+(?=[A-Z"`*$])', plain(paragraph))[0]

@dataclass(frozen=True)
class Chapter:
    "A chapter, from its notebook"
    path: Path

    @cached_property
    def notebook(self): return json.loads(self.path.read_text(encoding='utf-8'))

    @property
    def name(self): return self.path.stem                                  # 03_forward

    @property
    def number(self): return self.name.split('_')[0].lstrip('0') or '0'    # as it is shown: 3

    @property
    def place(self): return int(re.match(r'\d+', self.name)[0])

    @cached_property
    def opening(self):
        "The first Markdown cell: the title, then one line in italics (what the reader can do, the level, the cost)"
        return next(source_of(c) for c in self.notebook['cells'] if c['cell_type'] == 'markdown')

    @cached_property
    def title(self): return self.opening.splitlines()[0].lstrip('# ').strip()

    @property
    def short(self): return self.title.split(':')[0]

    @cached_property
    def promise(self):
        "The line in italics, whole"
        m = re.search(r'^\*(?!\*)(.+?)\*\s*$', self.opening, re.M)
        if not m:
            raise ValueError(f'{self.path.name}: its first cell has no line in italics that says '
                             'what the reader will be able to do')
        return m[1]

    @cached_property
    def goal(self): return re.sub(r'\s*\b(Level|CPU|GPU|Cost):[^.]*\.', '', self.promise).strip()

    @property
    def can(self):
        "The same without “At the end of this chapter you can”, as a sentence"
        text = re.sub(r'^At the end of this chapter (you can )?', '', self.goal)
        return text[0].upper() + text[1:]

    @cached_property
    def cost(self):
        m = re.search(r'\bCPU: ([^.]+)\.', self.promise)
        if not m:
            raise ValueError(f'{self.path.name}: its opening line does not say what it costs, '
                             'such as “CPU: 2 minutes.”')
        return re.sub(r'(\d+) (\w+)', lambda m: f'{m[1]}\N{NO-BREAK SPACE}{SHORT.get(m[2], m[2])}', m[1])

    @cached_property
    def level(self):
        "“Level: …” in the opening line, or nothing where the chapter does not say it"
        m = re.search(r'\bLevel: ([^.]+)\.', self.promise)
        return m[1] if m else ''

    @property
    def part(self): return PARTS[max(n for n in PARTS if n <= self.place)]

    @cached_property
    def module(self):
        "The module that it exports, or None"
        code  = (source_of(c) for c in self.notebook['cells'] if c['cell_type'] == 'code')
        names = (directives(source)[0].get('default_exp') for source in code)
        return next(filter(None, names), None)

@lru_cache
def chapters(root=ROOT):
    "All chapters, in order"
    return [Chapter(p) for p in sorted((root/'nbs').glob('[0-9][0-9]*_*.ipynb'))]

@lru_cache
def parts(root=ROOT):
    "[(title of the part, its chapters)], in order"
    by_part = {}
    for c in chapters(root): by_part.setdefault(c.part, []).append(c)
    return list(by_part.items())

@lru_cache
def modules(root=ROOT):
    "Names of the modules of the library"
    paths = sorted((root/settings(root)['lib_path']).glob('*.py'))
    return [p.stem for p in paths if not p.stem.startswith('_')]

@lru_cache
def public_names(root=ROOT):
    "module -> what it exports, in the order of the source"
    lib, out = settings(root)['lib_path'], {}
    for module in modules(root):
        tree   = ast.parse((root/lib/f'{module}.py').read_text(encoding='utf-8'))
        listed = next((ast.literal_eval(n.value) for n in tree.body if '__all__' in names_of(n)), [])
        order  = {name: n.lineno for n in tree.body for name in names_of(n)}
        out[module] = sorted((n for n in listed if n in order), key=order.get)
    return out

def names_of(node):
    "The names that a top-level statement defines"
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)): return [node.name]
    if isinstance(node, ast.Assign): return [t.id for t in node.targets if isinstance(t, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name): return [node.target.id]
    return []
