// What the pages do beside htmx: they rest while nobody looks, keep what is
// selected, say when the gateway is away, and follow a task by its stream.
(() => {
  'use strict';
  const offline = document.getElementById('offline');
  const away = (is) => { offline.hidden = !is; };
  const shown = new WeakMap();

  // A poll has no event that made it.
  const poll = (e) => e.detail.requestConfig.verb === 'get' && !e.detail.requestConfig.triggeringEvent;

  // What is selected, and what a mouse is pressed on, is not taken away: a click
  // needs to end where it began.
  let pressed = 0;
  document.addEventListener('pointerdown', () => { pressed = Date.now(); });
  document.addEventListener('pointerup', () => setTimeout(() => { pressed = 0; }));
  const busy = (target) => {
    const s = document.getSelection();
    return Date.now() - pressed < 1500 || s.type === 'Range' && target.contains(s.anchorNode);
  };

  document.addEventListener('htmx:beforeRequest', (e) => {
    if (poll(e) && document.hidden) e.preventDefault();
  });
  document.addEventListener('htmx:beforeSwap', (e) => {
    const d = e.detail, text = d.xhr.responseText, from = d.xhr.responseURL;
    // Whoever has no session any more is sent to another page, or told so.
    if (d.xhr.status === 401 || from && !new URL(from).pathname.startsWith('/console')) {
      d.shouldSwap = false;
      location.reload();
      return;
    }
    if (!d.shouldSwap) return;
    if (busy(d.target) || poll(e) && shown.get(d.target) === text) d.shouldSwap = false;
    else shown.set(d.target, text);
  });
  document.addEventListener('htmx:sendError', () => away(true));
  document.addEventListener('htmx:timeout', () => away(true));
  document.addEventListener('htmx:afterOnLoad', () => away(false));

  document.addEventListener('keydown', (e) => {
    const field = document.querySelector('#filter [type=search]');
    if (e.key !== '/' || !field || e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) return;
    e.preventDefault();
    field.focus();
  });

  document.querySelector('.top [aria-current]')?.scrollIntoView({ inline: 'center', block: 'nearest' });

  const live = document.querySelector('[data-live]');
  if (!live || 'final' in live.dataset) return;
  let source, ended = false, next = null;
  const show = () => {
    if (next !== null && busy(live)) setTimeout(show, 200);
    else if (next !== null) {
      htmx.swap(live, next, { swapStyle: 'innerHTML' });
      next = null;
    }
  };
  const take = (e) => {
    next = e.data;
    show();
    away(false);
  };
  const follow = () => {
    if (ended || document.hidden || source) return;
    source = new EventSource(live.dataset.live);
    source.addEventListener('change', take);
    source.addEventListener('end', (e) => { ended = true; source.close(); take(e); });
    source.onerror = () => {
      // A browser comes again by itself, but not after an answer that is no stream.
      if (source && source.readyState === EventSource.CLOSED) { source = null; setTimeout(follow, 2000); }
    };
  };
  document.addEventListener('visibilitychange', () => {
    if (document.hidden && source) { source.close(); source = null; }
    follow();
  });
  follow();
})();
