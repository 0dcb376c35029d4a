"""Writes the sources of the site to build/site-src: the notebooks as Sphinx should see them, the pages of docs/pages, API pages,
the landing page. Nothing is executed, and a file is touched only where its content changed."""
import ast
import html
import json
import re
import shutil
from pathlib import Path

import api
import course
import landing
from course import directives, first_sentence, plain, source_of

EXPORTS = {'export', 'exports', 'exporti'}
HIDDEN = {'hide', 'default_exp'}
CALLOUT = re.compile(r'^:::+\s*\{\s*\.callout-(note|tip|warning|important|caution)([^}]*)\}\s*\n(?:\s*#+\s*(.+?)\s*\n)?(.*?)^:::+\s*$', re.M | re.S)
NOT_PROSE = re.compile(r'(^```.*?^```|^~~~.*?^~~~|^#.*?$|^<.*?$|``.+?``|\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^]\n]*\]\([^)\n]*\))', re.M | re.S)

# ---- alternative texts ---------------------------------------------------------------------------------------------------

def _text(node):
    "A string in the source as text; what an f-string would fill in becomes an ellipsis"
    if isinstance(node, ast.Constant) and isinstance(node.value, str): return node.value
    if isinstance(node, ast.JoinedStr): return ''.join(v.value if isinstance(v, ast.Constant) else '…' for v in node.values)
    return ''

def titles(source):
    "What the code of a figure calls it: title=…, suptitle(…), set_title(…), in this order of trust"
    try: tree = ast.parse(source)
    except SyntaxError: return ''
    above, inside = [], []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call): continue
        called = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
        if called in ('suptitle', 'set_title', 'title') and node.args: (above if called == 'suptitle' else inside).append(_text(node.args[0]))
        for k in node.keywords:
            if k.arg == 'title': (inside if called == 'set' else above).append(_text(k.value))
    found = [t for t in dict.fromkeys(above or inside) if re.search(r'[a-zA-Z]{2}', t)]
    return '; '.join(found[:4])

def alternative(source, after, before):
    """The alternative text of a cell's figure: what its code calls it. Where that is no sentence (fewer than five words, or something
    that only a run fills in), the first sentence of the prose after it goes with it, or else the last one before it"""
    title, near = titles(source), first_sentence(after)
    if not near:
        paragraphs = [p for p in before.strip().split('\n\n') if not re.match(r'(#|<|\$\$)', p)]
        near = plain(paragraphs[-1]).rstrip(':') if paragraphs else ''
    if title and (not near or '…' not in title and len(re.findall(r'\w{2,}', title)) > 4): return title
    return f'{title}. {near}' if title else near

# ---- cells -----------------------------------------------------------------------------------------------------------------

def imported_names(chapter):
    "Names of the library that a chapter uses or defines -> where they live"
    public, lib, found = course.public_names(), course.settings()['lib_path'], {}
    for c in chapter.notebook['cells']:
        if c['cell_type'] != 'code': continue
        for m in re.finditer(rf'^from {lib}\.(\w+) import (.+)$', source_of(c), re.M):
            for name in re.findall(r'\w+', m[2].split('#')[0]):
                if name in public.get(m[1], ()): found[name] = f'{lib}.{m[1]}.{name}'
    return found | {n: f'{lib}.{chapter.module}.{n}' for n in public.get(chapter.module, ())}

def link_names(markdown, names, seen):
    "`name` becomes a link to the API page, at its first mention in a section"
    def one(m):
        name = m[1].rstrip('()')
        if name not in names or name in seen: return m[0]
        seen.add(name)
        return f'{{py:obj}}`{m[1]} <{names[name]}>`'
    return ''.join(p if i % 2 else re.sub(r'(?<![`}\\])`([A-Za-z_]\w*(?:\(\))?)`(?!`)', one, p) for i, p in enumerate(NOT_PROSE.split(markdown)))

def callout(m):
    kind, attributes, title, body = m[1], m[2], m[3] or m[1].title(), m[4].strip()
    if 'collapse' in attributes: return f'<details class="callout"><summary>{html.escape(title)}</summary>\n\n{body}\n\n</details>\n'
    return f'::::{{admonition}} {title}\n:class: {kind}\n{body}\n::::\n'

def local_links(markdown, c):
    "Links that leave nbs/: pictures are copied, other files of the repository are shown on GitHub"
    def one(m):
        if m[2].startswith('images/'): return m[1] + m[2]
        path = m[2].split('#')[0]
        if not (course.ROOT/path).exists(): raise ValueError(f'a notebook links to ../{path}, which does not exist')
        return f"{m[1]}{c['git_url']}/{'tree' if (course.ROOT/path).is_dir() else 'blob'}/{c['branch']}/{m[2]}"
    markdown = re.sub(r'(\]\(|src="|href=")\.\./([^)"\s]+)', one, markdown)
    return re.sub(r'\]\(index\.ipynb', '](index.md', markdown)

def addresses(chapter, c):
    "(in Colab, the file to download, on GitHub)"
    path = f"{c['user']}/{c['repo']}/blob/{c['branch']}/{c['nbs_path']}/{chapter.path.name}"
    return f'https://colab.research.google.com/github/{path}', f'notebooks/{chapter.path.name}', f'https://github.com/{path}'

def head(chapter, c):
    "Under the title: what the reader can do at the end, cost and level, and the buttons"
    colab, download, github = addresses(chapter, c)
    facts = [f'Chapter {chapter.number}', f'{chapter.cost} on two CPU cores', *([f'Level: {chapter.level}'] if chapter.level else [])]
    return (f'{{.lead}}\n{chapter.goal}\n\n<div class="chapter-head"><ul class="facts">' + ''.join(f'<li>{f}</li>' for f in facts) + '</ul>'
            f'<div class="buttons"><a class="button" href="{colab}">Open in Colab</a><a class="button" href="{download}" download>Download</a>'
            f'<a class="button" href="{github}">On GitHub</a></div></div>\n')

def exported(source, chapter, c):
    "The line above an exported cell: what it adds to the library, each with its place in the API pages"
    names = [n for node in ast.parse(source).body for n in course.names_of(node) if n in course.public_names().get(chapter.module, ())]
    if not names: return None
    lib, page = c['lib_path'], f'api/{chapter.module}.html'
    links = ' '.join(f'<a id="def-{n}" href="{page}#{lib}.{chapter.module}.{n}"><code>{n}</code></a>' for n in names)
    return markdown_cell(f'<div class="exported">in <a href="{page}"><code>{lib}.{chapter.module}</code></a>: {links}</div>', f'def-{names[0]}')

def markdown_cell(source, name): return dict(cell_type='markdown', id=name[:64], metadata={}, source=source)

def code_cell(cell, chapter, figures, around):
    "A code cell as Sphinx should see it, or None where it is hidden. `figures` numbers those seen so far"
    d, source = directives(source_of(cell))
    outputs = cell.get('outputs', [])
    if HIDDEN & d.keys() or d.get('include') == 'false' or not source.strip() and not outputs: return None
    tags, mystnb = [], {}
    if EXPORTS & d.keys(): tags.append('nbdev-export')
    if d.get('echo') == 'false': tags.append('remove-input')
    if d.get('output') == 'false': tags.append('remove-output')
    if d.get('code-fold') in ('true', ''):
        tags.append('hide-input')
        mystnb |= dict(code_prompt_show=d.get('code-summary') or 'Show the code', code_prompt_hide='Hide the code')
    pictures = [o for o in outputs if any(k.startswith('image/') for k in o.get('data', {}))]
    if pictures:
        alt = d.get('fig-alt') or alternative(source, *around)
        if not alt: raise ValueError(f'{chapter.path.name}: a figure has neither a title, nor `#| fig-alt:`, nor prose beside it')
        mystnb['image'] = dict(alt=' '.join(alt.split()))
        if len(pictures) == 1:
            figures.append(alt)
            number = f'{chapter.number}.{len(figures)}'
            mystnb['figure'] = dict(caption=f"**Figure {number}** {d.get('fig-cap', '')}".strip(), name=f'fig-{number.replace(".", "-")}')
    kept = []
    for o in outputs:
        text = ''.join(o.get('data', {}).get('text/plain', ''))
        if not pictures and text.startswith('interactive('):                   # ipywidgets: nothing moves without a kernel
            colab = addresses(chapter, course.settings())[0]
            note = (f'<p class="needs-kernel">Here are sliders that compute as you move them. They need a running notebook: '
                    f'<a href="{colab}">open this chapter in Colab</a>, or in JupyterLab with <code>make lab</code>.</p>')
            o = dict(output_type='display_data', metadata={}, data={'text/html': note})
        if o.get('name') != 'stderr': kept.append(o)
    return dict(cell, source=source, outputs=kept, metadata=dict(tags=tags, mystnb=mystnb))

def chapter_notebook(chapter, c):
    cells, figures, names, seen, first = [], [], imported_names(chapter), set(), True
    raw = chapter.notebook['cells']
    for i, cell in enumerate(raw):
        if cell['cell_type'] == 'markdown':
            source = CALLOUT.sub(callout, source_of(cell))
            if re.search(r'^##? ', source, re.M): seen = set()
            if first: source = source.replace(f'*{chapter.promise}*', head(chapter, c), 1); first = False
            cells.append(dict(cell, metadata={}, source=link_names(local_links(source, c), names, seen)))
        elif cell['cell_type'] == 'code':
            prose = [next((source_of(o) for o in side[:1] if o['cell_type'] == 'markdown'), '') for side in (raw[i+1:], raw[:i][::-1])]
            made = code_cell(cell, chapter, figures, prose)
            if made is None: continue
            if 'nbdev-export' in made['metadata']['tags'] and (line := exported(made['source'], chapter, c)): cells.append(line)
            cells.append(made)
    return json.dumps(dict(chapter.notebook, cells=cells), ensure_ascii=False, indent=1)

# ---- the folder ------------------------------------------------------------------------------------------------------------

def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding='utf-8') != text: path.write_text(text, encoding='utf-8')

def stage(out):
    "Write everything under `out`; what an earlier build left there and this one did not write goes"
    c, made = course.settings(), {}
    for chapter in course.chapters(): made[chapter.path.name] = chapter_notebook(chapter, c)
    for page in (course.ROOT/'docs'/'pages').glob('*.md'): made[page.name] = page.read_text(encoding='utf-8')
    made |= {f'api/{name}.md': text for name, text in api.pages().items()}
    made['index.md'] = landing.page()
    for name, text in made.items(): write(out/name, text)
    for old in out.rglob('*'):
        if old.is_file() and old.suffix in ('.md', '.ipynb') and old.relative_to(out).as_posix() not in made: old.unlink()
    shutil.copytree(course.ROOT/'images', out/'images', dirs_exist_ok=True)

if __name__ == '__main__': stage(Path(course.ROOT/'build'/'site-src'))
