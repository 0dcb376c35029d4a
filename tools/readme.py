"""README.md from nbs/index.ipynb (nbdev's own command needs Quarto).

usage: readme.py [root]"""
import json
import re
import sys
from pathlib import Path

def from_root(markdown):
    "Links are made to work from the repository's root"
    markdown = re.sub(r'\]\((?:\./)?([\w-]+\.ipynb)', r'](nbs/\1', markdown)
    return re.sub(r'(\]\(|src=")\.\./', r'\1', markdown).strip()

def cell_markdown(cell):
    "One notebook cell as Markdown; of a cell that begins with `#| echo: false` only what it gives"
    source = ''.join(cell['source'])
    if cell['cell_type'] == 'markdown': return from_root(source)
    if re.match(r'#\s*\|\s*hide', source): return ''

    parts = [] if re.match(r'#\s*\|\s*echo:\s*false', source) else [f'```python\n{source}\n```']
    for out in cell.get('outputs', []):
        data = out.get('data', {})
        if 'text/markdown' in data:
            parts.append(from_root(''.join(data['text/markdown'])))
            continue

        if any(k.startswith('image/') for k in data):
            raise SystemExit('index.ipynb: README.md cannot hold a picture output; write it to images/ and link it')
        text = ''.join(out.get('text', '') or data.get('text/plain', '')).rstrip()
        if text: parts.append(f'```\n{text}\n```')
    return '\n\n'.join(parts)

def write_readme(root):
    "Write README.md of the repository at `root`"
    notebook = json.loads((root/'nbs'/'index.ipynb').read_text(encoding='utf-8'))
    head = '<!-- made from nbs/index.ipynb by tools/readme.py: edit the notebook -->'
    cells = [m for m in map(cell_markdown, notebook['cells']) if m]
    (root/'README.md').write_text('\n\n'.join([head, *cells]) + '\n', encoding='utf-8')

if __name__ == '__main__': write_readme(Path(sys.argv[1] if len(sys.argv) > 1 else '.'))
