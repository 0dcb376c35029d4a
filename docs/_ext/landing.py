"The landing page. Chapters, costs and numbers are read where they stand; sections of the README come from nbs/index.ipynb."
import html
import json
import re

import course
import stage

def readme_cells():
    notebook = json.loads((course.ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))
    return [c for c in notebook['cells'] if not course.source_of(c).startswith('#| hide')]

def section(title):
    "A section of nbs/index.ipynb as Markdown, code with what it printed"
    parts, inside = [], False
    for c in readme_cells():
        source = course.source_of(c)
        if c['cell_type'] == 'markdown' and source.startswith('## '): inside = source.splitlines()[0] == f'## {title}'
        if not inside: continue
        if c['cell_type'] == 'markdown': parts.append(stage.local_links(source, course.settings()))
        else:
            said = ''.join(''.join(o.get('text', '') or o.get('data', {}).get('text/plain', '')) for o in c['outputs']).rstrip()
            parts += [f'```python\n{source}\n```', *([f'```text\n{said}\n```'] if said else [])]
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
    "A GIF of pictures in a row as one PNG: its frames under one another, each in two rows. Returns (picture, frames, columns, rows)"
    from PIL import Image, ImageSequence
    frames = [f.convert('L') for f in ImageSequence.Iterator(Image.open(source))]
    tile = frames[0].height
    n, small = frames[0].width//tile, tile//2                      # GIFs are written at twice the size
    cols = n//2 if n % 2 == 0 and n > 4 else n
    sheet = Image.new('L', (cols*small, len(frames)*(n//cols)*small))
    for k, f in enumerate(frames):
        f = f.resize((n*small, small), Image.NEAREST)
        for j in range(n): sheet.paste(f.crop((j*small, 0, (j + 1)*small, small)), (j % cols*small, (k*(n//cols) + j//cols)*small))
    return sheet.quantize(32), len(frames), cols, n//cols

def hero(c):
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
    for i, (part, chapters) in enumerate(course.parts(), 1):
        items = ''.join(
            f'<li><a href="{c.name}.html"><span class="chapter-title">{html.escape(c.short)}</span>'
            f'<span class="facts">{"".join(f"<span>{f}</span>" for f in (c.level, c.cost) if f)}</span></a>'
            f'<span class="can">{html.escape(course.plain(c.can))}</span></li>' for c in chapters)
        out.append(f'<section class="part"><h3>{part}</h3><ol>{items}</ol></section>')
    return '<div class="parts">\n' + '\n'.join(out) + '\n</div>'

def results(c):
    "A table from data/models/*/score.json: distance, floor, and how often the labels are obeyed"
    rows = []
    for path in sorted((course.ROOT/'data'/'models').glob('*/score.json')):
        card = f"{c['git_url']}/blob/{c['branch']}/data/models/{path.parent.name}/README.md"
        for s in json.loads(path.read_text(encoding='utf-8'))['scores']:
            how = s['settings']
            drawn = f"{how['sampler'].upper()}, {how['steps']} steps" + (f", $\\eta = {how['eta']:g}$" if 'eta' in how else '')
            obeyed = f"{s['accuracy']:.0%}" if how.get('conditional') and 'accuracy' in s else '–'
            rows.append(f"| [{path.parent.name}]({card}) | {drawn} | {s['n']:,} | **{s['fid']:.3f}** | {s['floor']:.3f} ± {s['floor_spread']:.3f} | {obeyed} |")
    if not rows: return ''
    return '\n'.join(['## What it reaches', '',
                      'A smaller Fréchet distance is better. The floor is what real training pictures get at the same number of images: '
                      'no model can be asked for less.', '',
                      '| model | drawn with | images | distance | floor | labels obeyed |', '|---|---|--:|--:|--:|--:|', *rows, '',
                      'The distance is taken in the features of our own frozen classifiers, one for garments and one for digits, so neither can be set beside the other, '
                      'or beside numbers made with other features: '
                      + next((f'[{x.short}]({x.name}.ipynb) says why. ' for x in course.chapters() if x.module == 'metrics'), '')
                      + 'Each model has a card with its recipe, its command, its time and the machine.'])

def toctrees():
    blocks = [f'```{{toctree}}\n:hidden:\n:caption: {part}\n\n' + '\n'.join(c.name for c in cs) + '\n```' for part, cs in course.parts()]
    extra = [p.stem for p in sorted((course.ROOT/'docs'/'pages').glob('*.md'))]
    return '\n\n'.join([*blocks, '```{toctree}\n:hidden:\n:caption: Reference\n\napi/index\n' + '\n'.join(extra) + '\n```'])

def page():
    c = course.settings()
    title = c['description'].split(':')[0]
    return '\n\n'.join([
        f'# {title}', '{.lead}\n' + pitch(), hero(c), '## What you will be able to do', about(), course_list(), results(c),
        '(start)=\n' + section('Start'), section('Use it as a library'),
        'Every function has a page in [the library](api/index.md); the symbols of the papers stand side by side in [the glossary](glossary.md); '
        'and if you want to teach with this, there is [a page for teachers](teachers.md).', toctrees()]) + '\n'
