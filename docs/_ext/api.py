"""The API pages, from the source of the library: signatures, docstrings and the comment beside each parameter. The library is
read, not imported, so the site can be built where torch is not installed."""
import ast
import io
import re
import tokenize
from functools import lru_cache

import course

def comments(source):
    "line -> the comment at its end"
    return {t.start[0]: t.string.lstrip('# ').strip() for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type == tokenize.COMMENT}

def alone(source):
    "Lines that hold a comment and nothing else"
    return {i for i, line in enumerate(source.splitlines(), 1) if line.lstrip().startswith('#')}

def md(text):
    "Text of a docstring or a comment as Markdown: stars, underscores and brackets are themselves outside of `code` and $formulas$"
    parts = re.split(r'(`[^`]+`|\$[^$\s](?:[^$]*[^$\s])?\$)', text)
    return ''.join(p if i % 2 else re.sub(r'([*_\[\]<>$\\|])', r'\\\1', p) for i, p in enumerate(parts))

class Module:
    def __init__(self, name):
        c = course.settings()
        self.name, self.full = name, f"{c['lib_path']}.{name}"
        self.source = (course.ROOT/c['lib_path']/f'{name}.py').read_text(encoding='utf-8')
        self.lines, self.comments, self.alone = self.source.splitlines(), comments(self.source), alone(self.source)
        self.tree, self.names = ast.parse(self.source), course.public_names()[name]
        self.file = f"{c['git_url']}/blob/{c['branch']}/{c['lib_path']}/{name}.py"
        notebook = re.search(r'File to edit: \.\./nbs/(\S+)\.ipynb', self.source)
        self.chapter = next((x for x in course.chapters() if notebook and x.name == notebook[1]), None)

        self.known = {n: f'{self.full}.{n}' for n in self.names}               # names of the library that annotations may use
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom) and node.level:
                self.known |= {a.name: f"{c['lib_path']}.{node.module}.{a.name}" for a in node.names if a.name in course.public_names().get(node.module, ())}

    def type(self, node):
        "An annotation as text, names of the library in full, so that they become the right links"
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ast.unparse(node)
        return re.sub(r'(?<![.\w])[A-Za-z_]\w*(?![.\w])', lambda m: self.known.get(m[0], m[0]), text)

    def said(self, node):
        "The comment beside a parameter or field, with the lines that go on below it"
        line, words = node.end_lineno, []
        if line in self.comments: words.append(self.comments[line])
        while words and (line := line + 1) in self.alone: words.append(self.comments[line])
        return ' '.join(words)

def parameters(node, module, skip=('self', 'cls')):
    "[(name as written, type, default, comment)]; parameters that share a line share its comment"
    a, found = node.args, []
    positional = a.posonlyargs + a.args
    defaults = [None]*(len(positional) - len(a.defaults)) + list(a.defaults)
    rows = [(p, '', d) for p, d in zip(positional, defaults)]
    if a.vararg: rows.append((a.vararg, '*', None))
    rows += [(p, '', d) for p, d in zip(a.kwonlyargs, a.kw_defaults)]
    if a.kwarg: rows.append((a.kwarg, '**', None))
    rows = [r for r in rows if r[0].arg not in skip]
    last = {}
    for p, _, d in rows: last[(d or p).end_lineno] = d or p                    # the last of a line is followed by the comment
    for p, star, d in rows:
        end = last[(d or p).end_lineno]
        text = module.said(end) if end.end_lineno > node.lineno else ''        # beside `def` itself stands what the body is about
        found.append((star + p.arg, module.type(p.annotation) if p.annotation else '', ast.unparse(d) if d else '', text))
    return found

def signature(node, module):
    parts, a = [], node.args
    rows = {name.lstrip('*'): (name, default) for name, _, default, _ in parameters(node, module)}
    for p in a.posonlyargs + a.args:
        if p.arg in rows: parts.append(p.arg + (f'={rows[p.arg][1]}' if rows[p.arg][1] else ''))
    if a.vararg: parts.append('*' + a.vararg.arg)
    elif a.kwonlyargs: parts.append('*')
    for p in a.kwonlyargs: parts.append(p.arg + (f'={rows[p.arg][1]}' if rows[p.arg][1] else ''))
    if a.kwarg: parts.append('**' + a.kwarg.arg)
    return f"({', '.join(parts)})" + (f' -> {module.type(node.returns)}' if node.returns and node.name != '__init__' else '')

def fields(rows, kind='param'):
    "Sphinx's field list; a parameter without a comment or a type is in the signature already"
    lines = []
    for name, kind_of, _, text in rows:
        if not (text or kind_of): continue
        lines.append(f":{kind} {name.replace('*', chr(92) + '*')}: {md(text) or chr(0x2014)}")
        if kind_of: lines.append(f":{'type' if kind == 'param' else 'vartype'} {name.replace('*', chr(92) + '*')}: {kind_of}")
    return lines

def docstring(node):
    text = ast.get_docstring(node) or ''
    return '\n\n'.join(md(' '.join(p.split())) for p in text.split('\n\n')) if text else ''

def directive(kind, head, body, level=4, **options):
    marks = ':'*level
    opts = [f':{k}:' + (f' {v}' if v != '' else '') for k, v in options.items()]
    return '\n'.join([f'{marks}{{py:{kind}}} {head}', *opts, '', *body, marks, ''])

def links(name, node, module):
    "Where it is explained and where it is written"
    out = []
    if module.chapter: out.append(f'<a href="../{module.chapter.name}.html#def-{name}">in its chapter</a>')
    out.append(f'<a href="{module.file}#L{node.lineno}">source</a>')
    return ['<p class="api-links">' + ' '.join(out) + '</p>', '']

def is_class_field(n): return isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and not n.target.id.startswith('_')

def document(node, module):
    "One definition as Markdown"
    if isinstance(node, ast.FunctionDef):
        returns = module.comments.get(node.returns.end_lineno, '') if node.returns and node.returns.end_lineno < node.body[0].lineno else ''
        body = [*links(node.name, node, module), docstring(node), '', *fields(parameters(node, module))]
        if returns and not any(returns in line for line in body): body.append(f':returns: {md(returns)}')
        decorators = {ast.unparse(d).split('(')[0] for d in node.decorator_list}
        note = ['', '*A context manager: use it with `with`.*'] if 'contextmanager' in decorators else []
        return directive('function', node.name + signature(node, module), body[:3] + note + body[3:], module=module.full)
    if isinstance(node, ast.ClassDef):
        init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == '__init__'), None)
        listed = [n for n in node.body if is_class_field(n)]
        rows = [(n.target.id, module.type(n.annotation), ast.unparse(n.value) if n.value else '', module.said(n)) for n in listed]
        if init: head, about = node.name + signature(init, module), fields(parameters(init, module))
        elif listed: head, about = node.name + '(' + ', '.join(n + (f'={d}' if d else '') for n, _, d, _ in rows) + ')', fields(rows)
        else: head, about = node.name, []
        body = [*links(node.name, node, module), docstring(node), '', *about, '']
        for n in node.body:
            if not isinstance(n, ast.FunctionDef) or n.name.startswith('_') and n.name != '__call__': continue
            what = {ast.unparse(d) for d in n.decorator_list}
            text, kind = [docstring(n), '', *fields(parameters(n, module))], 'property' if 'property' in what else 'method'
            extra = {} if kind == 'property' else {k: '' for k in ('classmethod', 'staticmethod') if k in what}
            body.append(directive(kind, n.name + ('' if kind == 'property' else signature(n, module)), text, 3, **extra))
        return directive('class', head, body, 5, module=module.full)
    name = course.names_of(node)[0]
    lines = module.lines[node.lineno - 1:node.end_lineno]
    note = ['', f'{md(module.said(node))}'] if module.said(node) else []
    body = [*links(name, node, module), *note, '', *(['```python', *lines, '```'] if len(lines) < 25 else [])]
    return directive('data', name, body, module=module.full)

@lru_cache
def module_page(name):
    m = Module(name)
    where = f'Written in the chapter [{m.chapter.short}](../{m.chapter.name}.ipynb). It says why each thing is as it is; this page says how to call it.' if m.chapter else ''
    nodes = {n: node for node in m.tree.body for n in course.names_of(node) if n in m.names}
    done, parts = set(), [f'# {m.full}\n\n```{{py:currentmodule}} {m.full}\n```\n\n{where}\n']
    for name in m.names:
        if id(nodes[name]) in done: continue
        done.add(id(nodes[name]))
        parts.append(document(nodes[name], m))
    return '\n'.join(parts)

def summary(node):
    text = ast.get_docstring(node) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else ''
    return md(re.split(r'(?<=[^ .])\. |\n\n', ' '.join((text or '').split()))[0].rstrip('.'))

def pages():
    "name of the page -> its Markdown"
    lib, out = course.settings()['lib_path'], {}
    listing = [f'# The library\n\nEverything that the chapters export, as `import {lib}` finds it. Parameters carry their meaning, shape and range.\n']
    by_module = {c.module: c for c in course.chapters()}
    order = sorted(course.modules(), key=lambda m: by_module[m].name if m in by_module else 'last')
    for name in order:
        out[name] = module_page(name)
        m = Module(name)
        nodes = {n: node for node in m.tree.body for n in course.names_of(node)}
        rows = [f'| {{py:obj}}`{n} <{m.full}.{n}>` | {summary(nodes[n])} |' for n in m.names]
        listing.append(f'## [{m.full}]({name}.md)\n\n' + '\n'.join(['| | |', '|---|---|', *rows]) + '\n')
    listing.append('```{toctree}\n:hidden:\n\n' + '\n'.join(order) + '\n```\n')
    return out | dict(index='\n'.join(listing))
