"""The Sphinx side: formulas rendered by KaTeX while the site is built (a broken one is a warning, and so an error),
pictures with their size and loaded when they come into view, the course's own navigation,
a description for each page."""
import html
import json
import re
import struct
import subprocess
from pathlib import Path

import course
from sphinx.util import logging

log = logging.getLogger(__name__)

class Katex:
    "KaTeX in one node process, asked line by line"
    def __init__(self): self.process, self.cache = None, {}

    def start(self):
        here = Path(__file__).resolve().parent
        command = ['node', here/'katex.mjs', here.parent/'node_modules']
        self.process = subprocess.Popen(command, text=True, encoding='utf-8',
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, tex, display):
        if (tex, display) not in self.cache:
            if self.process is None: self.start()
            self.process.stdin.write(json.dumps(dict(tex=tex, display=display)) + '\n')
            self.process.stdin.flush()
            self.cache[tex, display] = json.loads(self.process.stdout.readline())
        return self.cache[tex, display]

    def close(self, *_):
        if not self.process: return
        self.process.stdin.close()
        self.process.wait()
        self.process = None

katex = Katex()

def formula(self, node, display):
    "Add a formula to the page; one that KaTeX cannot read is a warning"
    tex = node.astext()
    answer = katex(tex, display)
    if 'error' in answer: log.warning('KaTeX: %s\n%s', answer['error'], tex, location=node)

    body = answer.get('html') or f'<code>{html.escape(tex)}</code>'
    if display: self.body.append(f'<div class="math"{self_id(node)}>{body}</div>')
    else:       self.body.append(f'<span class="math">{body}</span>')

def self_id(node): return f' id="{node["ids"][0]}"' if node.get('ids') else ''

def inline(self, node):
    from docutils import nodes
    formula(self, node, False)
    raise nodes.SkipNode

def block(self, node):
    from docutils import nodes
    formula(self, node, True)
    raise nodes.SkipNode

def size_of(path):
    "(width, height) of a PNG or GIF, from its first bytes"
    with open(path, 'rb') as f: head = f.read(26)
    if head[:8] == b'\x89PNG\r\n\x1a\n': return struct.unpack('>II', head[16:24])
    if head[:3] == b'GIF': return struct.unpack('<HH', head[6:10])
    return None

def finish_pictures(page, folder):
    "Width, height and lazy loading for every picture of a page: nothing jumps while it loads"
    count = 0
    def finish(m):
        nonlocal count
        tag, count = m[0], count + 1
        src = re.search(r'src="([^"]+)"', tag)
        if not src or src[1].startswith('data:'): return tag

        extra = '' if 'loading=' in tag or count < 2 else ' loading="lazy"'
        file  = folder/html.unescape(src[1])
        size  = size_of(file) if file.exists() else None
        if size and 'width=' not in tag: extra += ' width="%d" height="%d"' % size
        tag = tag.rstrip('/> ') + extra + ' decoding="async">'

        # A wide figure is looked at by itself on a phone.
        is_figure = re.search(r'_images/[0-9a-f]{32,}', src[1])
        return f'<a class="zoom" href="{src[1]}">{tag}</a>' if size and size[0] > 450 and is_figure else tag

    return re.sub(r'<img\b[^>]*>', finish, page)

def description(app, pagename, templatename, context, doctree):
    "What the templates of a page need: its description, and the parts of the course"
    chapter = next((c for c in course.chapters() if c.name == pagename), None)
    text = course.plain(chapter.goal) if chapter else course.settings()['description']
    meta = f'\n<meta name="description" content="{html.escape(text, quote=True)}">'
    context['metatags'] = context.get('metatags', '') + meta
    context['course_parts'], context['course_pages'] = course.parts(), app.config.course_pages
    context['chapter'] = chapter

def finish_site(app, error):
    "After the build: pictures, and the end of KaTeX"
    katex.close()
    if error or app.builder.format != 'html': return
    out = Path(app.outdir)
    for file in out.rglob('*.html'):
        if '_static' in file.parts: continue
        text = file.read_text(encoding='utf-8')
        if (new := finish_pictures(text, file.parent)) != text: file.write_text(new, encoding='utf-8')

def setup(app):
    app.add_config_value('course_pages', [], 'html')
    app.add_html_math_renderer('katex', (inline, None), (block, None))
    app.connect('html-page-context', description)
    app.connect('build-finished', finish_site)
    return dict(version='1', parallel_read_safe=True, parallel_write_safe=False)
