"""Writes the sources of the site to build/site-src: the notebooks as Sphinx should see them, the pages of docs/pages,
API pages, the landing page. Nothing is executed, and a file is touched only where its content changed."""
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
CALLOUT = re.compile(r'^:::+\s*\{\s*\.callout-(note|tip|warning|important|caution)([^}]*)\}\s*\n'
                     r'(?:\s*#+\s*(.+?)\s*\n)?(.*?)^:::+\s*$', re.M | re.S)
NOT_PROSE = re.compile(r'(^```.*?^```|^~~~.*?^~~~|^#.*?$|^<.*?$|``.+?``|\$\$.*?\$\$|\$[^$\n]+\$'
                       r'|!?\[[^]\n]*\]\([^)\n]*\))', re.M | re.S)

# ---- alternative texts ---------------------------------------------------------------------------------------------

def string_text(node):
    "A string in the source as text; what an f-string would fill in becomes an ellipsis"
    if isinstance(node, ast.Constant) and isinstance(node.value, str): return node.value
    if not isinstance(node, ast.JoinedStr): return ''
    return ''.join(v.value if isinstance(v, ast.Constant) else '…' for v in node.values)

def titles(source):
    "What the code of a figure calls it: title=…, suptitle(…), set_title(…), in this order of trust"
    try: tree = ast.parse(source)
    except SyntaxError: return ''
    above, inside = [], []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call): continue
        called = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
        if called in ('suptitle', 'set_title', 'title') and node.args:
            (above if called == 'suptitle' else inside).append(string_text(node.args[0]))
        for k in node.keywords:
            if k.arg == 'title': (inside if called == 'set' else above).append(string_text(k.value))

    words = [t for t in dict.fromkeys(above or inside) if re.search(r'[a-zA-Z]{2}', t)]
    return '; '.join(words[:4])

def alternative(source, after, before):
    """The alternative text of a cell's figure: what its code calls it. Where that is no sentence (fewer than five
    words, or something that only a run fills in), the first sentence of the prose after it goes with it, or else the
    last one before it"""
    title, near = titles(source), first_sentence(after)
    if not near:
        paragraphs = [p for p in before.strip().split('\n\n') if not re.match(r'(#|<|\$\$)', p)]
        near = plain(paragraphs[-1]).rstrip(':') if paragraphs else ''

    is_sentence = '…' not in title and len(re.findall(r'\w{2,}', title)) > 4
    if title and (not near or is_sentence): return title
    return f'{title}. {near}' if title else near

# ---- cells -----------------------------------------------------------------------------------------------------------

def imported_names(chapter):
    "Names of the library that a chapter uses or defines -> where they live"
    public, lib = course.public_names(), course.settings()['lib_path']
    full_names  = {}
    for c in chapter.notebook['cells']:
        if c['cell_type'] != 'code': continue
        for m in re.finditer(rf'^from {lib}\.(\w+) import (.+)$', source_of(c), re.M):
            for name in re.findall(r'\w+', m[2].split('#')[0]):
                if name in public.get(m[1], ()): full_names[name] = f'{lib}.{m[1]}.{name}'
    return full_names | {n: f'{lib}.{chapter.module}.{n}' for n in public.get(chapter.module, ())}

def link_names(markdown, names, seen):
    "`name` becomes a link to the API page, at its first mention in a section"
    def link(m):
        name = m[1].rstrip('()')
        if name not in names or name in seen: return m[0]
        seen.add(name)
        return f'{{py:obj}}`{m[1]} <{names[name]}>`'

    parts = NOT_PROSE.split(markdown)                                  # every second one is not prose
    for i in range(0, len(parts), 2):
        parts[i] = re.sub(r'(?<![`}\\])`([A-Za-z_]\w*(?:\(\))?)`(?!`)', link, parts[i])
    return ''.join(parts)

def callout(m):
    "A callout as MyST has it; one that is collapsed as <details>"
    kind, attributes, title, body = m[1], m[2], m[3] or m[1].title(), m[4].strip()
    if 'collapse' in attributes:
        return f'<details class="callout"><summary>{html.escape(title)}</summary>\n\n{body}\n\n</details>\n'
    return f'::::{{admonition}} {title}\n:class: {kind}\n{body}\n::::\n'

def local_links(markdown, c):
    "Links that leave nbs/: pictures are copied, other files of the repository are shown on GitHub"
    def link(m):
        if m[2].startswith('images/'): return m[1] + m[2]
        path = m[2].split('#')[0]
        if not (course.ROOT/path).exists(): raise ValueError(f'a notebook links to ../{path}, which does not exist')
        kind = 'tree' if (course.ROOT/path).is_dir() else 'blob'
        return f"{m[1]}{c['git_url']}/{kind}/{c['branch']}/{m[2]}"

    markdown = re.sub(r'(\]\(|src="|href=")\.\./([^)"\s]+)', link, markdown)
    return re.sub(r'\]\(index\.ipynb', '](index.md', markdown)

def addresses(chapter, c):
    "(in Colab, the file to download, on GitHub)"
    path = f"{c['user']}/{c['repo']}/blob/{c['branch']}/{c['nbs_path']}/{chapter.path.name}"
    return f'https://colab.research.google.com/github/{path}', f'notebooks/{chapter.path.name}', f'https://github.com/{path}'

def head(chapter, c):
    "Under the title: what the reader can do at the end, cost and level, and the buttons"
    colab, download, github = addresses(chapter, c)
    facts = [f'Chapter {chapter.number}', f'{chapter.cost} on two CPU cores']
    if chapter.level: facts.append(f'Level: {chapter.level}')
    items = ''.join(f'<li>{fact}</li>' for fact in facts)
    return (f'{{.lead}}\n{chapter.goal}\n\n<div class="chapter-head"><ul class="facts">{items}</ul>'
            f'<div class="buttons"><a class="button" href="{colab}">Open in Colab</a>'
            f'<a class="button" href="{download}" download>Download</a>'
            f'<a class="button" href="{github}">On GitHub</a></div></div>\n')

def exported(source, chapter, c):
    "The line above an exported cell: what it adds to the library, each with its place in the API pages"
    public = course.public_names().get(chapter.module, ())
    names  = [n for node in ast.parse(source).body for n in course.names_of(node) if n in public]
    if not names: return None

    module, page = f"{c['lib_path']}.{chapter.module}", f'api/{chapter.module}.html'
    links = ' '.join(f'<a id="def-{n}" href="{page}#{module}.{n}"><code>{n}</code></a>' for n in names)
    text  = f'<div class="exported">in <a href="{page}"><code>{module}</code></a>: {links}</div>'
    return markdown_cell(text, f'def-{names[0]}')

def markdown_cell(source, name):
    return dict(cell_type='markdown', id=name[:64], metadata={}, source=source)

def cell_tags(options):
    "(tags, settings of myst_nb) for the directives of a cell"
    tags, mystnb = [], {}
    if EXPORTS & options.keys():         tags.append('nbdev-export')
    if options.get('echo') == 'false':   tags.append('remove-input')
    if options.get('output') == 'false': tags.append('remove-output')
    if options.get('code-fold') in ('true', ''):
        tags.append('hide-input')
        mystnb = dict(code_prompt_show=options.get('code-summary') or 'Show the code', code_prompt_hide='Hide the code')
    return tags, mystnb

def figure_settings(options, source, chapter, figures, prose, single):
    "Alternative text of a cell's pictures; a single one is a figure with a number, counted in `figures`"
    alt = options.get('fig-alt') or alternative(source, *prose)
    if not alt:
        raise ValueError(f'{chapter.path.name}: a figure has neither a title, nor `#| fig-alt:`, nor prose beside it')
    image = dict(image=dict(alt=' '.join(alt.split())))
    if not single: return image

    figures.append(alt)
    number  = f'{chapter.number}.{len(figures)}'
    caption = f"**Figure {number}** {options.get('fig-cap', '')}".strip()
    return image | dict(figure=dict(caption=caption, name=f'fig-{number.replace(".", "-")}'))

def needs_kernel(chapter):
    "What stands where ipywidgets would be: nothing moves without a kernel"
    colab = addresses(chapter, course.settings())[0]
    note = (f'<p class="needs-kernel">Here are sliders that compute as you move them. They need a running notebook: '
            f'<a href="{colab}">open this chapter in Colab</a>, or in JupyterLab with <code>make lab</code>.</p>')
    return dict(output_type='display_data', metadata={}, data={'text/html': note})

def code_cell(cell, chapter, figures, prose):
    "A code cell as Sphinx should see it, or None where it is hidden. `figures` numbers those seen so far"
    options, source = directives(source_of(cell))
    outputs = cell.get('outputs', [])
    is_empty = not source.strip() and not outputs
    if HIDDEN & options.keys() or options.get('include') == 'false' or is_empty: return None

    tags, mystnb = cell_tags(options)
    pictures = [o for o in outputs if any(k.startswith('image/') for k in o.get('data', {}))]
    if pictures: mystnb |= figure_settings(options, source, chapter, figures, prose, single=len(pictures) == 1)

    shown = []
    for output in outputs:
        text = ''.join(output.get('data', {}).get('text/plain', ''))
        if not pictures and text.startswith('interactive('): output = needs_kernel(chapter)
        if output.get('name') != 'stderr': shown.append(output)
    return dict(cell, source=source, outputs=shown, metadata=dict(tags=tags, mystnb=mystnb))

def prose_beside(cells, i):
    "(the Markdown right after cell i, the Markdown right before it); '' where there is none"
    def text(k):
        is_markdown = 0 <= k < len(cells) and cells[k]['cell_type'] == 'markdown'
        return source_of(cells[k]) if is_markdown else ''
    return text(i + 1), text(i - 1)

def chapter_notebook(chapter, c):
    "A chapter's notebook as Sphinx should see it, as JSON"
    cells, figures, names, seen = [], [], imported_names(chapter), set()
    original, is_opening = chapter.notebook['cells'], True

    for i, cell in enumerate(original):
        if cell['cell_type'] == 'markdown':
            source = CALLOUT.sub(callout, source_of(cell))
            if re.search(r'^##? ', source, re.M): seen = set()                 # names are linked once per section
            if is_opening: source = source.replace(f'*{chapter.promise}*', head(chapter, c), 1)
            is_opening = False
            cells.append(dict(cell, metadata={}, source=link_names(local_links(source, c), names, seen)))

        elif cell['cell_type'] == 'code':
            shown = code_cell(cell, chapter, figures, prose_beside(original, i))
            if shown is None: continue
            is_exported = 'nbdev-export' in shown['metadata']['tags']
            if is_exported and (line := exported(shown['source'], chapter, c)): cells.append(line)
            cells.append(shown)

    return json.dumps(dict(chapter.notebook, cells=cells), ensure_ascii=False, indent=1)

# ---- the folder ------------------------------------------------------------------------------------------------------

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

    sources = [p for p in out.rglob('*') if p.is_file() and p.suffix in ('.md', '.ipynb')]
    for path in sources:
        if path.relative_to(out).as_posix() not in made: path.unlink()
    shutil.copytree(course.ROOT/'images', out/'images', dirs_exist_ok=True)

if __name__ == '__main__': stage(Path(course.ROOT/'build'/'site-src'))
