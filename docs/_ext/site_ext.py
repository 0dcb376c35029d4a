"""The Sphinx side: formulas rendered by KaTeX while the site is built (a broken one is a warning, and so an error), pictures with
their size and loaded when they come into view, the course's own navigation, a description for each page."""
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
    def __init__(self): self.process, self.known = None, {}

    def __call__(self, tex, display):
        if (tex, display) not in self.known:
            if self.process is None:
                here = Path(__file__).resolve().parent
                self.process = subprocess.Popen(['node', here/'katex.mjs', here.parent/'node_modules'], text=True, encoding='utf-8',
                                                stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.process.stdin.write(json.dumps(dict(tex=tex, display=display)) + '\n')
            self.process.stdin.flush()
            self.known[tex, display] = json.loads(self.process.stdout.readline())
        return self.known[tex, display]

    def close(self, *_):
        if self.process: self.process.stdin.close(); self.process.wait(); self.process = None

katex = Katex()

def formula(self, node, display):
    tex = node.astext()
    said = katex(tex, display)
    if 'error' in said: log.warning('KaTeX: %s\n%s', said['error'], tex, location=node)
    body = said.get('html') or f'<code>{html.escape(tex)}</code>'
    self.body.append(f'<div class="math"{self_id(node)}>{body}</div>' if display else f'<span class="math">{body}</span>')

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
    seen = 0
    def one(m):
        nonlocal seen
        tag, seen = m[0], seen + 1
        src = re.search(r'src="([^"]+)"', tag)
        if not src or src[1].startswith('data:'): return tag
        extra = '' if 'loading=' in tag or seen < 2 else ' loading="lazy"'
        file = (folder/html.unescape(src[1]))
        size = size_of(file) if file.exists() else None
        if size and 'width=' not in tag: extra += ' width="%d" height="%d"' % size
        tag = tag.rstrip('/> ') + extra + ' decoding="async">'
        wide = size and size[0] > 450 and re.search(r'_images/[0-9a-f]{32,}', src[1])        # a figure: on a phone it is looked at by itself
        return f'<a class="zoom" href="{src[1]}">{tag}</a>' if wide else tag
    return re.sub(r'<img\b[^>]*>', one, page)

def description(app, pagename, templatename, context, doctree):
    chapter = next((c for c in course.chapters() if c.name == pagename), None)
    text = course.plain(chapter.goal) if chapter else course.settings()['description']
    context['metatags'] = context.get('metatags', '') + f'\n<meta name="description" content="{html.escape(text, quote=True)}">'
    context['course_parts'], context['course_pages'] = course.parts(), app.config.course_pages
    context['chapter'] = chapter

def built(app, error):
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
    app.connect('build-finished', built)
    return dict(version='1', parallel_read_safe=True, parallel_write_safe=False)
