"""Checks a built site: every local link and anchor resolves, nothing is loaded from another host,
pictures have alternative texts."""
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import course

LOADED = {'stylesheet', 'icon', 'preload', 'modulepreload', 'preconnect', 'dns-prefetch', 'manifest'}

class Page(HTMLParser):
    "What a page holds: its ids, links, what it loads, and what is wrong with it"
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.problems, self.headings = [], [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get('id'): self.ids.append(a['id'])
        if tag == 'a' and a.get('href'): self.links.append(a['href'])
        if tag == 'h1': self.headings += 1
        if tag == 'img' and not (a.get('alt') or '').strip():
            self.problems.append(f"a picture without alternative text: {a.get('src', '')[:60]}")

        # What the browser fetches without being asked.
        if tag in ('script', 'img', 'source', 'video', 'audio', 'iframe', 'embed', 'track'):
            sizes = [s.split()[0] for s in (a.get('srcset') or '').split(',') if s.strip()]
            self.loads += [u for u in (a.get('src'), a.get('poster'), *sizes) if u]
        if tag == 'object' and a.get('data'): self.loads.append(a['data'])
        if tag == 'link' and a.get('href') and LOADED & set((a.get('rel') or '').split()): self.loads.append(a['href'])
        for u in re.findall(r'url\(["\']?((?:https?:)?//[^)"\']+)', a.get('style') or ''): self.loads.append(u)

    handle_startendtag = handle_starttag

def in_repository(url, c):
    "A link into our own repository, as a path, or None"
    m = re.match(re.escape(c['git_url']) + rf"/(?:blob|tree)/{re.escape(c['branch'])}/([^#?]+)", url)
    return m and unquote(m[1])

def link_problem(url, file, pages, site, c):
    "What is wrong with a link or a load of the page `file`, or None"
    parts = urlsplit(url)
    if parts.scheme in ('http', 'https') or url.startswith('//'):
        if url in pages[file].loads: return f'loads {url} from another host'
        path = in_repository(url, c)
        return f'{url} is not in the repository' if path and not (course.ROOT/path).exists() else None
    if parts.scheme: return None

    # The file that a local address means.
    path = unquote(parts.path)
    base = c['doc_baseurl'].rstrip('/') + '/'
    if path.startswith('/') and not path.startswith(base): return f'{url} is outside {base}'
    if path.startswith('/'): target = site/path[len(base):]
    else:                    target = (file.parent/path).resolve() if path else file
    if target.is_dir(): target /= 'index.html'

    if not target.exists(): return f'{url} does not exist'
    missing = parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids
    return f'no anchor {url}' if missing else None

def check(site, c):
    "Problems, one per line"
    site, problems, count = Path(site).resolve(), [], 0
    files = [f for f in sorted(site.rglob('*.html')) if '_static' not in f.relative_to(site).parts]
    pages = {f: Page(f.read_text(encoding='utf-8')) for f in files}

    for f, page in pages.items():
        name = f.relative_to(site)
        problems += [f'{name}: {p}' for p in page.problems]
        problems += [f'{name}: the id {i} is given {n} times' for i, n in Counter(page.ids).items() if n > 1]
        if page.headings != 1 and f.name != 'search.html':
            problems.append(f'{name}: {page.headings} headings of the first level')

        urls = page.links + page.loads
        count += len(urls)
        problems += [f'{name}: {problem}' for url in urls if (problem := link_problem(url, f, pages, site, c))]

    elsewhere = re.compile(r'(?:@import\s+(?:url\()?|url\()["\']?((?:https?:)?//[^"\')]+)')
    for f in site.rglob('*.css'):
        style = f.read_text(encoding='utf-8', errors='ignore')
        problems += [f'{f.relative_to(site)}: loads {url}' for url in elsewhere.findall(style)]

    print(f'{len(pages)} pages, {count} links and loads checked, {len(problems)} problems')
    return problems

if __name__ == '__main__':
    import sys
    site = sys.argv[1] if len(sys.argv) > 1 else course.ROOT/'build'/'html'
    if problems := check(site, course.settings()): sys.exit('\n'.join(problems))
