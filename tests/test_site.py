"The documentation site in a real browser: every page, with what must hold for all, and then what can be done on them."
import functools
import http.server
import importlib.util
import json
import re
import subprocess
import sys
import threading

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT/'docs'/'_ext'))
import course  # noqa: E402

CHAPTERS = [c.name for c in course.chapters()]
PAGES = ['index', *CHAPTERS, 'api/index', *(f'api/{m}' for m in course.modules()),
         *sorted(p.stem for p in (ROOT/'docs'/'pages').glob('*.md')), 'search', '404']

@pytest.fixture(scope='session')
def site():
    "The address of the site, built and served on loopback"
    if not importlib.util.find_spec('furo') or not (ROOT/'docs'/'node_modules').exists():
        pytest.skip('`make docs` has not been run here')
    done = subprocess.run([sys.executable, 'docs/build.py'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_): pass

    handler = functools.partial(Quiet, directory=ROOT/'build'/'html')
    server  = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/'
    server.shutdown()

@pytest.fixture
def page(chromium, site):
    "A window of a desktop; `page.problems` collects what no page may do"
    context = chromium.new_context(viewport=dict(width=1280, height=900), reduced_motion='reduce')
    page = context.new_page()
    page.problems = []

    def on_request(request):
        is_ours = request.url.startswith((site, 'data:', 'blob:'))
        if not is_ours: page.problems.append(f'asks another host: {request.url}')
    def on_response(response):
        if response.status >= 400: page.problems.append(f'{response.status}: {response.url}')
    def on_console(message):
        if message.type == 'error': page.problems.append(f'console: {message.text}')

    page.on('request',   on_request)
    page.on('response',  on_response)
    page.on('console',   on_console)
    page.on('pageerror', lambda e: page.problems.append(f'error: {e}'))
    page.at = lambda name: page.goto(f'{site}{name}.html', wait_until='load')
    yield page
    context.close()

# Pages on which axe looks into every letter of code and formulas: elsewhere they look the same.
WHOLE = ('index', 'glossary', 'api/forward')

def axe(page, name, **options):
    "What axe calls serious or critical, one per line"
    if not page.evaluate('() => !!window.axe'):
        page.evaluate((ROOT/'docs'/'node_modules'/'axe-core'/'axe.min.js').read_text(encoding='utf-8'))
    context = dict(exclude=[] if name in WHOLE else ['.katex', '.highlight pre'])
    options = dict(resultTypes=['violations']) | options
    report  = page.evaluate('([context, options]) => axe.run(context, options)', [context, options])

    violations = [v for v in report['violations'] if v['impact'] in ('serious', 'critical')]
    return [f"{v['id']} ({v['impact']}): {node['target']} {node.get('failureSummary', '')[:300]}"
            for v in violations for node in v['nodes'][:3]]

@pytest.mark.parametrize('name', PAGES)
def test_page(page, name):
    page.at(name)
    assert page.locator('h1').count() == 1 or name == 'search'
    assert axe(page, name) == []

    if name not in CHAPTERS or name == '03_forward':       # chapters are made of the same things: one in the dark
        page.emulate_media(color_scheme='dark')
        page.wait_for_timeout(50)
        assert axe(page, name, runOnly=['color-contrast']) == []

    page.set_viewport_size(dict(width=390, height=844))
    assert page.evaluate('() => document.documentElement.scrollWidth') <= 390
    page.evaluate("() => document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    page.wait_for_function("() => [...document.images].every(i => i.complete)")
    assert page.evaluate("() => [...document.images].filter(i => !i.naturalWidth).map(i => i.src)") == []
    assert page.problems == []

@pytest.mark.parametrize('name', ['index', 'glossary'])
def test_no_width_overflows(page, name):
    page.at(name)
    for width in (320, 390, 700, 768, 1000, 1100, 1320, 1600):
        page.set_viewport_size(dict(width=width, height=844))
        assert page.evaluate('() => document.documentElement.scrollWidth') <= width
        content = page.evaluate("() => document.querySelector('.content').clientWidth")
        assert content >= min(width, 680)                               # no room is given away

def test_search_finds_a_word_of_a_formula(page):
    page.at('index')
    page.locator('.sidebar-search').fill('propto')                  # \propto, which stands in formulas alone
    page.keyboard.press('Enter')
    page.wait_for_selector('#search-results li')
    page.wait_for_function("() => document.querySelector('#search-results .context')")
    assert any('forward process' in t for t in page.locator('#search-results li').all_text_contents())
    results = page.locator('#search-results').text_content()
    assert '\N{PROPORTIONAL TO}' not in results                     # formulas are quoted once, as TeX
    assert page.problems == []

def test_menu_on_a_phone(page):
    page.set_viewport_size(dict(width=390, height=844))
    page.at('03_forward')
    link = page.locator('.course-nav a', has_text='Sampling')
    assert not link.is_visible() or link.bounding_box()['x'] < 0
    page.locator('.nav-overlay-icon').first.click()
    page.wait_for_function("() => document.querySelector('.course-nav').getBoundingClientRect().x >= 0")
    link.click()
    page.wait_for_url('**/05_sampling.html')
    assert page.locator('.course-nav .here').inner_text().split()[1] == 'Sampling'
    assert page.problems == []

def test_navigation_tells_cost(page):
    page.at('index')
    for c in course.chapters():
        assert page.locator(f'.course-nav a[href="{c.name}.html"] .facts').text_content().endswith(c.cost)

def test_frame_slider_moves_by_keyboard(page):
    page.at('03_forward')
    slider = page.locator('.frame-slider').first
    picture, caption = slider.screenshot(), slider.locator('output').text_content()
    slider.locator('input').focus()
    for _ in range(5): page.keyboard.press('ArrowRight')
    assert slider.locator('output').text_content() != caption
    assert slider.screenshot() != picture

def test_the_film_waits_and_plays(page):
    page.at('index')                                       # motion is not wanted here, so it shows its end and waits
    film, button = page.locator('.hero-window'), page.locator('.hero-bar button')
    assert button.get_attribute('aria-label') == 'Play'
    page.locator('.hero-bar input').focus()
    page.keyboard.press('Home')
    noise = film.screenshot()
    page.wait_for_timeout(400)
    assert film.screenshot() == noise
    button.click()
    page.wait_for_function("() => +document.querySelector('.hero-bar input').value > 3")
    assert film.screenshot() != noise

def test_light_and_dark(page):
    page.at('index')
    colors = set()
    for _ in range(3):
        page.locator('.theme-toggle-header, .theme-toggle-content').locator('visible=true').first.click()
        page.wait_for_timeout(100)
        colors.add(page.evaluate('() => getComputedStyle(document.body).backgroundColor'))
    assert len(colors) == 2

def test_chapter_gives_what_it_promises(page):
    c = course.settings()
    page.at('03_forward')
    assert page.locator('.chapter-head a', has_text='Open in Colab').get_attribute('href') == (
        f"https://colab.research.google.com/github/{c['user']}/{c['repo']}/blob/{c['branch']}/nbs/03_forward.ipynb")
    with page.expect_download() as download: page.locator('.chapter-head a', has_text='Download').click()
    downloaded = json.loads(open(download.value.path(), encoding='utf-8').read())
    assert downloaded == course.Chapter(ROOT/'nbs'/'03_forward.ipynb').notebook

    assert page.locator('.katex').count() > 100 and page.locator('.katex-error').count() == 0
    page.locator('summary', has_text='Answers').click()
    assert page.locator('details[open] li').first.is_visible()

    page.locator('.exported a[id=def-add_noise]').click()
    page.wait_for_url('**/api/forward.html#ddpm_course.forward.add_noise')
    entry = page.locator('dl.py.function', has=page.locator('dt[id="ddpm_course.forward.add_noise"]'))
    assert 'standard normal noise of the same shape' in entry.inner_text()
    entry.locator('a', has_text='in its chapter').click()
    page.wait_for_url('**/03_forward.html#def-add_noise')

def test_every_page_can_be_read_from_a_folder(chromium, site):
    "file://, no server: links and styles are relative"
    page = chromium.new_page()
    page.goto((ROOT/'build'/'html'/'api'/'forward.html').as_uri())
    page.locator('.course-nav a', has_text='Sampling').click()
    assert page.locator('h1').text_content().startswith('Sampling')
    assert page.evaluate("() => getComputedStyle(document.querySelector('.course-nav ul')).listStyleType") == 'none'
    page.close()

# ---- what the build itself must refuse: no browser needed ------------------------------------------------------------

@pytest.mark.parametrize('broken, says', [
    ('<h1>a</h1><a href="nowhere.html">b</a>', 'nowhere.html does not exist'),
    ('<h1>a</h1><a href="#nowhere">b</a>', 'no anchor #nowhere'),
    ('<h1>a</h1><img src="https://example.org/a.png" alt="a">', 'from another host'),
    ('<h1>a</h1><link rel="stylesheet" href="//example.org/a.css">', 'from another host'),
    ('<h1>a</h1><img src="">', 'without alternative text'),
    ('<h1>a</h1><p id="x"></p><p id="x"></p>', 'given 2 times')])
def test_checker_refuses(tmp_path, broken, says):
    import check
    (tmp_path/'index.html').write_text(broken)
    assert any(says in problem for problem in check.check(tmp_path, course.settings()))

def test_chapters_say_their_cost():
    for c in course.chapters(): assert re.search(r'\d', c.cost), c.name

def test_lockfile_names_no_host():
    text = (ROOT/'docs'/'package-lock.json').read_text(encoding='utf-8')
    assert '"resolved"' not in text
