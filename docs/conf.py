"""How Sphinx builds the site. The sources are in build/site-src, where docs/_ext/stage.py puts them;
build.py runs the whole."""
import sys
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here/'_ext'))
import course  # noqa: E402

c = course.settings()
project, author, release, copyright = c['title'], c['author'], c['version'], c['copyright']
language = 'en'
extensions = ['myst_nb', 'sphinx_copybutton', 'sphinx.ext.githubpages', 'site_ext']

nb_execution_mode = 'off'                       # what is shown is what the notebooks hold
nb_merge_streams = True
myst_enable_extensions = [
    'amsmath', 'dollarmath', 'colon_fence', 'attrs_inline', 'attrs_block', 'deflist', 'fieldlist', 'alert']
myst_heading_anchors = 3
myst_heading_slug_func = 'slugs.jupyter'        # the anchors that JupyterLab gives the same headings
suppress_warnings = ['mystnb.unknown_mime_type']
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = 'hide'

html_theme = 'furo'
html_title = c['title']
html_baseurl = f"{c['doc_host']}{c['doc_baseurl']}/"
html_static_path = ['_static', '../build/vendor']
templates_path = ['_templates']
html_css_files = ['fonts.css', 'katex/katex.min.css', 'course.css']
html_js_files = [('course.js', {'defer': 'defer'})]
html_math_renderer = 'katex'
html_favicon = '_static/favicon.svg'
html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_use_index = False
html_sidebars = {'**': ['sidebar/brand.html', 'sidebar/search.html', 'sidebar/scroll-start.html',
                        'course-nav.html', 'sidebar/scroll-end.html']}
pygments_style, pygments_dark_style = 'a11y-high-contrast-light', 'github-dark'
copybutton_exclude = '.linenos, .gp, .go'
course_pages = [('api/index', 'The library'), ('glossary', 'Symbols, paper by paper'), ('teachers', 'For teachers')]

brand_colors = ('color-brand-primary', 'color-brand-content', 'color-brand-visited',
                'color-api-name', 'color-api-pre-name')
html_theme_options = dict(
    sidebar_hide_name=False, top_of_page_buttons=[],
    footer_icons=[dict(name='GitHub', url=c['git_url'], html='GitHub', **{'class': ''})],
    light_css_variables={'font-stack': 'Inter, system-ui, sans-serif'} | dict.fromkeys(brand_colors, '#4338a8'),
    dark_css_variables=dict.fromkeys(brand_colors, '#b9b1ff'))
