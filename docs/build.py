"""Builds the site from the notebooks as they lie into build/html.

Nothing is executed, and a warning or a broken link is an error.

usage: build.py [--fresh]"""
import re
import shutil
import sys
import time
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here/'_ext'))
import check  # noqa: E402
import course  # noqa: E402
import stage  # noqa: E402

ROOT, BUILD = course.ROOT, course.ROOT/'build'
MODULES = here/'node_modules'

def vendor(out):
    "KaTeX's style and fonts, and Inter, each with its licence: what pages load comes from the site itself"
    if not (MODULES/'katex').exists(): sys.exit('docs/node_modules is missing: run `make docs`, which calls npm')
    shutil.rmtree(out, ignore_errors=True)
    vendor_katex(MODULES/'katex', out)
    vendor_inter(MODULES/'@fontsource-variable'/'inter', out)

def vendor_katex(katex, out):
    "Its style with woff2 fonts only"
    (out/'katex'/'fonts').mkdir(parents=True)
    css = (katex/'dist'/'katex.min.css').read_text(encoding='utf-8')
    css = re.sub(r',url\([^)]+\.(?:woff|ttf)\) format\("\w+"\)', '', css)
    (out/'katex'/'katex.min.css').write_text(css, encoding='utf-8')
    for f in (katex/'dist'/'fonts').glob('*.woff2'): shutil.copy(f, out/'katex'/'fonts')
    shutil.copy(katex/'LICENSE', out/'katex'/'LICENSE.txt')

def vendor_inter(inter, out):
    "Its Latin and Greek letters"
    (out/'inter').mkdir()
    shutil.copy(inter/'LICENSE', out/'inter'/'LICENSE.txt')
    rules = ''.join((inter/name).read_text(encoding='utf-8') for name in ('wght.css', 'wght-italic.css'))
    faces = re.findall(r'@font-face\s*{.*?}', rules, re.S)
    faces = [face for face in faces if re.search(r'inter-(latin|greek)-wght', face)]
    for name in re.findall(r'url\(\./files/([^)]+)\)', ''.join(faces)): shutil.copy(inter/'files'/name, out/'inter')

    text = '\n'.join(faces).replace('./files/', 'inter/').replace("'Inter Variable'", "'Inter'")
    (out/'fonts.css').write_text(text, encoding='utf-8')

def missing_page(out, c):
    "404.html is shown at any depth, so it carries its own style and an absolute address"
    home = c['doc_baseurl'].rstrip('/') + '/'
    (out/'404.html').write_text(f'''<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<title>Not here – {c['title']}</title>
<style>:root{{color-scheme:light dark}} a{{color:inherit}}
body{{font:1.1rem/1.6 system-ui,sans-serif;max-width:34rem;margin:18vh auto;padding:0 1.5rem}}</style>
<main><h1>Only noise here</h1>
<p>This page does not exist, or not any more. <a href="{home}">The course begins here.</a></p></main></html>
''', encoding='utf-8')

def build(out=BUILD/'html', fresh=False):
    "Build the whole site into `out`; exits with what is wrong"
    from sphinx.cmd.build import main as sphinx
    started, c = time.time(), course.settings()
    source, doctrees = BUILD/'site-src', BUILD/'doctrees'
    if fresh:
        for folder in (source, doctrees): shutil.rmtree(folder, ignore_errors=True)

    # The sources, then the pages.
    shutil.rmtree(out, ignore_errors=True)                 # every page shows the navigation, so all are written anew
    vendor(BUILD/'vendor')
    try: stage.stage(source)
    except ValueError as e: sys.exit(str(e))
    options = ['-W', '-a', '--keep-going', '-q', '-c', str(here), '-d', str(doctrees), '-b', 'html']
    if sphinx([*options, str(source), str(out)]): sys.exit(1)

    # What is beside the pages, and the checks.
    (out/'notebooks').mkdir(exist_ok=True)
    for chapter in course.chapters(): shutil.copy(chapter.path, out/'notebooks')
    missing_page(out, c)
    if problems := check.check(out, c): sys.exit('\n'.join(problems))

    pages   = len(list(out.rglob('*.html')))
    size    = sum(f.stat().st_size for f in out.rglob('*') if f.is_file())
    seconds = time.time() - started
    print(f'{pages} pages, {size/1e6:.1f} MB, in {seconds:.0f} s: {out.relative_to(ROOT)}/index.html')

if __name__ == '__main__': build(fresh='--fresh' in sys.argv)
