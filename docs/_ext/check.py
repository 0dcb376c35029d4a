"Checks a built site: every local link and anchor resolves, nothing is loaded from another host, pictures have alternative texts."
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import course

LOADED = {'stylesheet', 'icon', 'preload', 'modulepreload', 'preconnect', 'dns-prefetch', 'manifest'}

class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads, self.problems, self.headings = [], [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get('id'): self.ids.append(a['id'])
        if tag == 'a' and a.get('href'): self.links.append(a['href'])
        if tag in ('script', 'img', 'source', 'video', 'audio', 'iframe', 'embed', 'track'):
            self.loads += [u for u in (a.get('src'), a.get('poster'), *[s.split()[0] for s in (a.get('srcset') or '').split(',') if s.strip()]) if u]
        if tag == 'object' and a.get('data'): self.loads.append(a['data'])
        if tag == 'link' and a.get('href') and LOADED & set((a.get('rel') or '').split()): self.loads.append(a['href'])
        if tag == 'img' and not (a.get('alt') or '').strip(): self.problems.append(f"a picture without alternative text: {a.get('src', '')[:60]}")
        if tag == 'h1': self.headings += 1
        for u in re.findall(r'url\(["\']?((?:https?:)?//[^)"\']+)', a.get('style') or ''): self.loads.append(u)

    handle_startendtag = handle_starttag

def in_repository(url, c):
    "A link into our own repository, as a path, or None"
    m = re.match(re.escape(c['git_url']) + rf"/(?:blob|tree)/{re.escape(c['branch'])}/([^#?]+)", url)
    return m and unquote(m[1])

def check(site, c):
    "Problems, one a line"
    site, bad, count = Path(site).resolve(), [], 0
    pages = {f: Page(f.read_text(encoding='utf-8')) for f in sorted(site.rglob('*.html')) if '_static' not in f.relative_to(site).parts}
    for f, page in pages.items():
        name = f.relative_to(site)
        bad += [f'{name}: {p}' for p in page.problems]
        bad += [f'{name}: the id {i} is given {n} times' for i, n in Counter(page.ids).items() if n > 1]
        if page.headings != 1 and f.name != 'search.html': bad.append(f'{name}: {page.headings} headings of the first level')
        for u in page.links + page.loads:
            count += 1
            parts = urlsplit(u)
            if parts.scheme in ('http', 'https') or u.startswith('//'):
                if u in page.loads: bad.append(f'{name}: loads {u} from another host')
                elif (path := in_repository(u, c)) and not (course.ROOT/path).exists(): bad.append(f'{name}: {u} is not in the repository')
                continue
            if parts.scheme: continue
            path = unquote(parts.path)
            if path.startswith('/'):
                base = c['doc_baseurl'].rstrip('/') + '/'
                if not path.startswith(base): bad.append(f'{name}: {u} is outside {base}'); continue
                target = site/path[len(base):]
            else: target = (f.parent/path).resolve() if path else f
            if target.is_dir(): target /= 'index.html'
            if not target.exists(): bad.append(f'{name}: {u} does not exist')
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids: bad.append(f'{name}: no anchor {u}')
    for f in site.rglob('*.css'):
        for u in re.findall(r'(?:@import\s+(?:url\()?|url\()["\']?((?:https?:)?//[^"\')]+)', f.read_text(encoding='utf-8', errors='ignore')):
            bad.append(f'{f.relative_to(site)}: loads {u}')
    print(f'{len(pages)} pages, {count} links and loads checked, {len(bad)} problems')
    return bad

if __name__ == '__main__':
    import sys
    if found := check(sys.argv[1] if len(sys.argv) > 1 else course.ROOT/'build'/'html', course.settings()): sys.exit('\n'.join(found))
