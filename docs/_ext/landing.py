"""The landing page. Chapters, costs and numbers are read where they stand;
sections of the README come from nbs/index.ipynb."""
import html
import json
import re

import course
import stage

def readme_cells():
    "The cells of nbs/index.ipynb that are shown"
    notebook = json.loads((course.ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))
    return [c for c in notebook['cells'] if not course.source_of(c).startswith('#| hide')]

def section(title):
    "A section of nbs/index.ipynb as Markdown, code with what it printed"
    parts, inside = [], False
    for c in readme_cells():
        source = course.source_of(c)
        is_text = c['cell_type'] == 'markdown'
        if is_text and source.startswith('## '): inside = source.splitlines()[0] == f'## {title}'
        if not inside: continue

        if is_text:
            parts.append(stage.local_links(source, course.settings()))
            continue
        texts  = [o.get('text', '') or o.get('data', {}).get('text/plain', '') for o in c['outputs']]
        output = ''.join(''.join(text) for text in texts).rstrip()
        parts.append(f'```python\n{source}\n```')
        if output: parts.append(f'```text\n{output}\n```')

    if not parts: raise ValueError(f'nbs/index.ipynb has no section “{title}”, which the landing page shows')
    return '\n\n'.join(parts)

def about():
    "What the README says of the chapters, before its list of them"
    return next(p for p in section('The course').split('\n\n') if p.startswith('Each chapter'))

def pitch():
    "What the README says under its picture, without the first sentence in bold, which is our title"
    text = course.source_of(readme_cells()[0]).split('\n\n')[-1]
    return re.sub(r'^\*\*(.+?)\*\*\s*', '', text)

FILM_ALT = 'Ten garments, one of each class, coming out of noise step by step'

def film(source):
    """A GIF of pictures in a row as one PNG: its frames under one another, each in two rows.
    Returns (picture, frames, columns, rows)"""
    from PIL import Image, ImageSequence
    frames = [f.convert('L') for f in ImageSequence.Iterator(Image.open(source))]
    tile   = frames[0].height
    n, side = frames[0].width//tile, tile//2                       # GIFs are written at twice the size
    cols = n//2 if n % 2 == 0 and n > 4 else n
    rows = n//cols

    sheet = Image.new('L', (cols*side, len(frames)*rows*side))
    for k, frame in enumerate(frames):
        frame = frame.resize((n*side, side), Image.NEAREST)
        for j in range(n):
            picture = frame.crop((j*side, 0, (j + 1)*side, side))
            sheet.paste(picture, (j % cols*side, (k*rows + j//cols)*side))
    return sheet.quantize(32), len(frames), cols, rows

def hero(c):
    "The film on top, and the buttons under it"
    sheet, n, cols, rows = film(course.ROOT/'images'/'ddpm.gif')
    (course.ROOT/'build'/'vendor').mkdir(parents=True, exist_ok=True)
    sheet.save(course.ROOT/'build'/'vendor'/'hero.png', optimize=True)
    first = course.chapters()[0]
    return f'''<div class="hero" data-frames="{n}"><div class="hero-window" style="aspect-ratio:{cols}/{rows}">
<img alt="{FILM_ALT}" src="_static/hero.png" style="transform:translateY(-{100*(n - 1)/n:g}%)"></div></div>

<div class="buttons begin"><a class="button primary" href="{first.name}.html">Begin with chapter {first.number}</a>
<a class="button" href="#start">Run it here</a>
<a class="button" href="{stage.addresses(first, c)[0]}">Open in Colab</a></div>
'''

def course_list():
    "Parts with their chapters: title, what you can do at the end, level, cost"
    out = []
    for part, chapters in course.parts():
        items = ''.join(map(course_item, chapters))
        out.append(f'<section class="part"><h3>{part}</h3><ol>{items}</ol></section>')
    return '<div class="parts">\n' + '\n'.join(out) + '\n</div>'

def course_item(chapter):
    "A chapter in the list"
    facts = ''.join(f'<span>{fact}</span>' for fact in (chapter.level, chapter.cost) if fact)
    return (f'<li><a href="{chapter.name}.html"><span class="chapter-title">{html.escape(chapter.short)}</span>'
            f'<span class="facts">{facts}</span></a>'
            f'<span class="can">{html.escape(course.plain(chapter.can))}</span></li>')

def result_row(name, score, c):
    "A row of the table: the model, how it was drawn with, and its numbers"
    settings = score['settings']
    card     = f"{c['git_url']}/blob/{c['branch']}/data/models/{name}/README.md"
    sampling = f"{settings['sampler'].upper()}, {settings['steps']} steps"
    if 'eta' in settings: sampling += f", $\\eta = {settings['eta']:g}$"

    distance = score.get('frechet', score.get('fid'))              # `fid` in files of older versions
    floor    = f"{score['floor']:.3f} ± {score['floor_spread']:.3f}"
    accuracy = f"{score['accuracy']:.0%}" if settings.get('conditional') and 'accuracy' in score else '–'
    return f"| [{name}]({card}) | {sampling} | {score['n']:,} | **{distance:.3f}** | {floor} | {accuracy} |"

def results(c):
    "A table from data/models/*/score.json: distance, floor, and how often the labels are obeyed"
    paths = sorted((course.ROOT/'data'/'models').glob('*/score.json'))
    rows  = [result_row(path.parent.name, score, c)
             for path in paths for score in json.loads(path.read_text(encoding='utf-8'))['scores']]
    if not rows: return ''

    chapters = (x for x in course.chapters() if x.module == 'metrics')
    metrics  = next((f'[{x.short}]({x.name}.ipynb) says why. ' for x in chapters), '')
    return '\n'.join([
        '## What it reaches', '',
        'A smaller Fréchet distance is better. The floor is what real training pictures get '
        'at the same number of images: no model can be asked for less.', '',
        '| model | drawn with | images | distance | floor | labels obeyed |', '|---|---|--:|--:|--:|--:|', *rows, '',
        'The distance is taken in the features of our own frozen classifiers, one for garments and one for digits, '
        f'so neither can be set beside the other, or beside numbers made with other features: {metrics}'
        'Each model has a card with its recipe, its command, its time and the machine.'])

def toctree(caption, names):
    "A hidden table of contents for Sphinx"
    return f'```{{toctree}}\n:hidden:\n:caption: {caption}\n\n' + '\n'.join(names) + '\n```'

def toctrees():
    "The parts of the course, and the other pages"
    pages = [p.stem for p in sorted((course.ROOT/'docs'/'pages').glob('*.md'))]
    parts = [toctree(part, [c.name for c in chapters]) for part, chapters in course.parts()]
    return '\n\n'.join([*parts, toctree('Reference', ['api/index', *pages])])

def page():
    "The landing page as Markdown"
    c = course.settings()
    title = c['description'].split(':')[0]
    return '\n\n'.join([
        f'# {title}', '{.lead}\n' + pitch(), hero(c),
        '## What you will be able to do', about(), course_list(), results(c),
        '(start)=\n' + section('Start'), section('Use it as a library'),
        'Every function has a page in [the library](api/index.md); '
        'the symbols of the papers stand side by side in [the glossary](glossary.md); '
        'and if you want to teach with this, there is [a page for teachers](teachers.md).', toctrees()]) + '\n'
