"""The API pages, from the source of the library: signatures, docstrings and the comment beside each parameter.
The library is read, not imported, so the site can be built where torch is not installed."""
import ast
import io
import re
import tokenize
from functools import lru_cache

import course

def comments(source):
    "line -> the comment at its end"
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip('# ').strip() for t in tokens if t.type == tokenize.COMMENT}

def comment_lines(source):
    "Lines that hold a comment and nothing else"
    return {i for i, line in enumerate(source.splitlines(), 1) if line.lstrip().startswith('#')}

def md(text):
    "A docstring or a comment as Markdown: stars, underscores and brackets are escaped outside of `code` and $formulas$"
    parts = re.split(r'(`[^`]+`|\$[^$\s](?:[^$]*[^$\s])?\$)', text)
    return ''.join(p if i % 2 else re.sub(r'([*_\[\]<>$\\|])', r'\\\1', p) for i, p in enumerate(parts))

class Module:
    "A module of the library: its source, its exported names, and the chapter that it is made from"
    def __init__(self, name):
        c = course.settings()
        self.name, self.full = name, f"{c['lib_path']}.{name}"
        self.source = (course.ROOT/c['lib_path']/f'{name}.py').read_text(encoding='utf-8')
        self.file   = f"{c['git_url']}/blob/{c['branch']}/{c['lib_path']}/{name}.py"

        self.lines = self.source.splitlines()
        self.tree  = ast.parse(self.source)
        self.names = course.public_names()[name]
        self.comments, self.comment_lines = comments(self.source), comment_lines(self.source)

        notebook = re.search(r'File to edit: \.\./nbs/(\S+)\.ipynb', self.source)
        self.chapter = next((x for x in course.chapters() if notebook and x.name == notebook[1]), None)
        self.full_names = self.imported_names(c['lib_path']) | {n: f'{self.full}.{n}' for n in self.names}

    def imported_names(self, lib):
        "name -> full name, of what this module imports from the others: annotations may use it"
        full_names = {}
        for node in self.tree.body:
            if not (isinstance(node, ast.ImportFrom) and node.level): continue
            public = course.public_names().get(node.module, ())
            full_names |= {a.name: f'{lib}.{node.module}.{a.name}' for a in node.names if a.name in public}
        return full_names

    def type(self, node):
        "An annotation as text, names of the library in full, so that they become the right links"
        quoted = isinstance(node, ast.Constant) and isinstance(node.value, str)
        text   = node.value if quoted else ast.unparse(node)
        return re.sub(r'(?<![.\w])[A-Za-z_]\w*(?![.\w])', lambda m: self.full_names.get(m[0], m[0]), text)

    def comment(self, node):
        "The comment beside a parameter or field, with the lines that go on below it"
        line, words = node.end_lineno, []
        if line in self.comments: words.append(self.comments[line])
        while words and (line := line + 1) in self.comment_lines: words.append(self.comments[line])
        return ' '.join(words)

def parameters(node, module, skip=('self', 'cls')):
    "[(name as written, type, default, comment)]; parameters that share a line share its comment"
    a = node.args
    positional = a.posonlyargs + a.args
    defaults   = [None]*(len(positional) - len(a.defaults)) + list(a.defaults)

    # (parameter, its stars, its default)
    rows = [(p, '', d) for p, d in zip(positional, defaults)]
    if a.vararg: rows.append((a.vararg, '*', None))
    rows += [(p, '', d) for p, d in zip(a.kwonlyargs, a.kw_defaults)]
    if a.kwarg: rows.append((a.kwarg, '**', None))
    rows = [r for r in rows if r[0].arg not in skip]

    # The last parameter of a line is followed by the comment.
    last, described = {}, []
    for p, _, d in rows: last[(d or p).end_lineno] = d or p
    for p, stars, d in rows:
        end  = last[(d or p).end_lineno]
        text = module.comment(end) if end.end_lineno > node.lineno else ''     # beside `def` it is about the body
        kind = module.type(p.annotation) if p.annotation else ''
        described.append((stars + p.arg, kind, ast.unparse(d) if d else '', text))
    return described

def signature(node, module):
    "The parameters in brackets, with defaults, and what is returned"
    a = node.args
    defaults = {name.lstrip('*'): default for name, _, default, _ in parameters(node, module)}
    def written(p): return p.arg + (f'={defaults[p.arg]}' if defaults[p.arg] else '')

    parts = [written(p) for p in a.posonlyargs + a.args if p.arg in defaults]
    if a.vararg:       parts.append('*' + a.vararg.arg)
    elif a.kwonlyargs: parts.append('*')
    parts += [written(p) for p in a.kwonlyargs]
    if a.kwarg:        parts.append('**' + a.kwarg.arg)

    returns = node.returns and node.name != '__init__'
    return f"({', '.join(parts)})" + (f' -> {module.type(node.returns)}' if returns else '')

def fields(rows, kind='param'):
    "Sphinx's field list; a parameter without a comment or a type is in the signature already"
    type_kind, lines = 'type' if kind == 'param' else 'vartype', []
    for name, type_name, _, text in rows:
        if not (text or type_name): continue
        escaped = name.replace('*', chr(92) + '*')
        lines.append(f':{kind} {escaped}: {md(text) or chr(0x2014)}')
        if type_name: lines.append(f':{type_kind} {escaped}: {type_name}')
    return lines

def docstring(node):
    text = ast.get_docstring(node) or ''
    return '\n\n'.join(md(' '.join(p.split())) for p in text.split('\n\n')) if text else ''

def directive(kind, head, body, level=4, **options):
    marks = ':'*level
    lines = [f':{k}: {v}'.rstrip() for k, v in options.items()]
    return '\n'.join([f'{marks}{{py:{kind}}} {head}', *lines, '', *body, marks, ''])

def links(name, node, module):
    "Where it is explained and where it is written"
    out = []
    if module.chapter: out.append(f'<a href="../{module.chapter.name}.html#def-{name}">in its chapter</a>')
    out.append(f'<a href="{module.file}#L{node.lineno}">source</a>')
    return ['<p class="api-links">' + ' '.join(out) + '</p>', '']

def is_class_field(n):
    return isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and not n.target.id.startswith('_')

def document_function(node, module):
    "One function as Markdown"
    has_returns = node.returns and node.returns.end_lineno < node.body[0].lineno
    returns     = module.comments.get(node.returns.end_lineno, '') if has_returns else ''
    decorators  = {ast.unparse(d).split('(')[0] for d in node.decorator_list}

    head = [*links(node.name, node, module), docstring(node)]
    note = ['', '*A context manager: use it with `with`.*'] if 'contextmanager' in decorators else []
    body = [*head, *note, '', *fields(parameters(node, module))]
    if returns and not any(returns in line for line in body): body.append(f':returns: {md(returns)}')
    return directive('function', node.name + signature(node, module), body, module=module.full)

def document_method(node, module):
    "One method or property as Markdown"
    decorators = {ast.unparse(d) for d in node.decorator_list}
    text = [docstring(node), '', *fields(parameters(node, module))]
    if 'property' in decorators: return directive('property', node.name, text, 3)

    options = {k: '' for k in ('classmethod', 'staticmethod') if k in decorators}
    return directive('method', node.name + signature(node, module), text, 3, **options)

def document_class(node, module):
    "One class as Markdown: its arguments or fields, then its public methods"
    methods = [n for n in node.body if isinstance(n, ast.FunctionDef)]
    init    = next((n for n in methods if n.name == '__init__'), None)
    listed  = [n for n in node.body if is_class_field(n)]

    if init:
        head, described = node.name + signature(init, module), fields(parameters(init, module))
    elif listed:
        rows = [(n.target.id, module.type(n.annotation), ast.unparse(n.value) if n.value else '', module.comment(n))
                for n in listed]
        written = [name + (f'={default}' if default else '') for name, _, default, _ in rows]
        head, described = f'{node.name}({", ".join(written)})', fields(rows)
    else:
        head, described = node.name, []

    body = [*links(node.name, node, module), docstring(node), '', *described, '']
    body += [document_method(n, module) for n in methods if n.name == '__call__' or not n.name.startswith('_')]
    return directive('class', head, body, 5, module=module.full)

def document(node, module):
    "One definition as Markdown"
    if isinstance(node, ast.FunctionDef): return document_function(node, module)
    if isinstance(node, ast.ClassDef):    return document_class(node, module)

    name  = course.names_of(node)[0]
    lines = module.lines[node.lineno - 1:node.end_lineno]
    note  = ['', md(module.comment(node))] if module.comment(node) else []
    code  = ['```python', *lines, '```'] if len(lines) < 25 else []
    return directive('data', name, [*links(name, node, module), *note, '', *code], module=module.full)

@lru_cache
def module_page(name):
    "The API page of a module as Markdown"
    m = Module(name)
    intro = ''
    if m.chapter:
        intro = (f'Written in the chapter [{m.chapter.short}](../{m.chapter.name}.ipynb). '
                 'It says why each thing is as it is; this page says how to call it.')
    parts = [f'# {m.full}\n\n```{{py:currentmodule}} {m.full}\n```\n\n{intro}\n']

    # A statement such as `a, b = …` is shown once.
    nodes = {n: node for node in m.tree.body for n in course.names_of(node) if n in m.names}
    for node in dict.fromkeys(nodes[name] for name in m.names): parts.append(document(node, m))
    return '\n'.join(parts)

def summary(node):
    "The first sentence of a docstring"
    text = ast.get_docstring(node) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else ''
    return md(re.split(r'(?<=[^ .])\. |\n\n', ' '.join((text or '').split()))[0].rstrip('.'))

def pages():
    "name of the page -> its Markdown"
    lib, out = course.settings()['lib_path'], {}
    listing = [f'# The library\n\nEverything that the chapters export, as `import {lib}` finds it. '
               'Parameters carry their meaning, shape and range.\n']

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
