// The frame around the pages: which one is shown, who is signed in, what repeats while somebody looks.

import { address, credentials, get } from './api.js';
import { dialog, el, failure, setText } from './dom.js';
import * as machine from './machine.js';
import * as model from './model.js';
import * as models from './models.js';
import * as requests from './requests.js';

const main = document.getElementById('main');
const trouble = document.getElementById('trouble');
const signOut = document.getElementById('sign-out');
let leaving = new AbortController();

/** What a page may use of its frame. */
class Page {
  constructor(signal) {
    this.signal = signal;
  }

  title(text) {
    document.title = text === '' ? 'ired' : `${text} · ired`;
  }

  /** Does it now and every so often, while the page is open and visible; resolves after the first time. */
  async every(ms, work) {
    await work();
    const repeat = async () => {
      let pause = ms;
      for (;;) {
        await wait(pause, this.signal);
        if (this.signal.aborted) return;
        try {
          await work();
          if (this.signal.aborted) return;
          tell('');
          pause = ms;
        } catch (error) {
          if (this.signal.aborted) return;
          tell(error.message);
          pause = Math.min(pause * 2, 30_000);
        }
      }
    };
    repeat();
  }
}

/** Resolves after a while in which somebody looked, or when the page is left. */
function wait(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      if (document.hidden && !signal.aborted) return;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(() => {
      document.addEventListener('visibilitychange', done);
      done();
    }, ms);
    signal.addEventListener('abort', done);
  });
}

function tell(text) {
  setText(trouble, text);
  trouble.hidden = text === '';
}

/** The page of an address, and the parts of the address that it needs. */
function route(hash) {
  const [path, query] = hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter((part) => part !== '').map(decode);
  const options = new URLSearchParams(query ?? '');
  switch (parts[0]) {
    case undefined: return [models, 'models', [], options];
    case 'models': return parts.length === 1 ? [models, 'models', [], options] : [model, 'models', parts.slice(1), options];
    case 'machine': return [machine, 'machine', [], options];
    case 'requests': return [requests, 'requests', parts.slice(1), options];
    default: return [null, '', [], options];
  }
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [page, name, parts, options] = route(location.hash);
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.page === name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  tell('');
  const content = el('div', { class: 'page' });
  main.replaceChildren(content);
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
  try {
    if (page === null) throw new Error('There is no such page.');
    await page.show(content, new Page(signal), parts, options);
  } catch (error) {
    if (signal.aborted) return;
    if (error.status !== 0) {
      content.append(sorry(error));
      return;
    }
    tell(error.message);
    await wait(2000, signal);
    if (!signal.aborted) await show();
  }
}

function sorry(error) {
  if (error.status !== 401 && error.status !== 403) return failure(error);
  const why = error.status === 401 ? 'This needs a token.' : 'This token may not do that.';
  const again = el('button', { type: 'button', onclick: () => ask(error.message).then((given) => given && show()) }, 'Use another token');
  return el('div', { class: 'card narrow' }, el('h2', {}, why), failure(error), again);
}

let asking = null;

/** Asks for a token, once for all calls that need one. */
function ask(message) {
  asking ??= askOnce(message).finally(() => { asking = null; });
  return asking;
}

async function askOnce(message) {
  const field = el('input', { type: 'password', id: 'token', autocomplete: 'off', spellcheck: 'false', required: true });
  const token = await dialog((close) => [
    el('h2', {}, 'Who are you?'),
    el('p', {}, 'This server answers those whom it knows. Paste a token that its operator gave you; it is kept until this tab is closed.'),
    el('p', { class: 'quiet' }, message),
    el('form', { onsubmit: (event) => { event.preventDefault(); close(field.value.trim()); } },
      el('label', { for: 'token' }, 'Token'), field,
      el('div', { class: 'row end' },
        el('button', { type: 'button', onclick: () => close() }, 'Cancel'),
        el('button', { class: 'primary' }, 'Sign in'))),
  ]);
  if (!token) return false;
  credentials.token = token;
  signOut.hidden = false;
  return true;
}

async function introduce() {
  const { name, version } = await get(address('v2'));
  setText(document.getElementById('server'), `${name} ${version}`);
}

credentials.ask = ask;
signOut.hidden = !credentials.token;
signOut.addEventListener('click', () => {
  credentials.token = null;
  location.reload();
});
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener('hashchange', show);
// A file that is dropped beside a page's own place for it must not replace the console.
for (const kind of ['dragover', 'drop']) window.addEventListener(kind, (event) => event.preventDefault());
show();
introduce().catch(() => {});
