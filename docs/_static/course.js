// Small things that need a browser. Every page can be read without them.
(() => {
  // What scrolls sideways must be reachable by keyboard; what does not need not be.
  const scrollers = '.highlight pre, .table-wrapper, table.dataframe, div.math, .frame-slider, .output pre';
  const reach = () => document.querySelectorAll(scrollers).forEach(e => {
    if (e.scrollWidth > e.clientWidth + 1) { e.tabIndex = 0; } else if (e.tabIndex === 0) e.removeAttribute('tabindex');
  });

  // The film on the landing page: play, pause, drag. Where motion is not wanted it waits to be asked.
  const film = hero => {
    const frames = +hero.dataset.frames, last = frames - 1, picture = hero.querySelector('img'), bar = document.createElement('div');
    const said = i => i === 0 ? 'noise' : i === last ? 'garments' : `${Math.round(100*i/last)} %`;
    bar.className = 'hero-bar';
    bar.innerHTML = `<button type="button"></button>
      <input type="range" min="0" max="${last}" value="0" aria-label="How far the pictures have come out of noise"><output></output>`;
    const [button, range, output] = bar.children;
    hero.append(bar);
    let playing = !matchMedia('(prefers-reduced-motion: reduce)').matches, rest = 0;
    const show = i => {
      range.value = i;
      picture.style.transform = `translateY(${-100*i/frames}%)`;
      output.textContent = said(i);
      range.setAttribute('aria-valuetext', said(i));
    };
    const label = () => { button.setAttribute('aria-label', playing ? 'Pause' : 'Play'); button.classList.toggle('playing', playing); };
    button.onclick = () => { playing = !playing; label(); };
    range.oninput = () => { playing = false; label(); show(+range.value); };
    show(playing ? 0 : last); label();
    setInterval(() => {
      if (!playing || document.hidden) return;
      if (+range.value < last) show(+range.value + 1);
      else if (++rest > 22) { rest = 0; show(0); }                          // long enough to look at what came out
    }, 110);
  };

  // Search results quote the text of a page. A rendered formula holds itself three times: quote its TeX.
  const quoteFormulasOnce = () => {
    if (typeof Search === 'undefined') return;
    const plain = Search.htmlToText;
    Search.htmlToText = (text, anchor) => {
      const page = new DOMParser().parseFromString(text, 'text/html');
      page.querySelectorAll('.katex').forEach(k => k.replaceWith(k.querySelector('annotation')?.textContent ?? ''));
      return plain.call(Search, page.documentElement.outerHTML, anchor);
    };
  };

  addEventListener('DOMContentLoaded', () => {
    reach();
    quoteFormulasOnce();
    const here = document.querySelector('.course-nav .here'), list = here?.closest('.sidebar-scroll');
    if (list && here.offsetTop > list.clientHeight - 80) list.scrollTop = here.offsetTop - list.clientHeight/2;
    document.querySelectorAll('.hero[data-frames]').forEach(film);
    document.querySelectorAll('details').forEach(d => d.addEventListener('toggle', reach));
  });
  addEventListener('resize', reach);
  addEventListener('load', reach);
})();
