// A new model: its file goes up, is compiled while one watches, and loaded.

import { address, modelAddress, send, upload } from './api.js';
import { compilation } from './compile.js';
import { el, failure, setText } from './dom.js';
import { bytes } from './format.js';

/** What the server takes for a model's name. */
const NAME = '[A-Za-z0-9_\\-][A-Za-z0-9_.\\-]{0,127}';

/** `{ node, choose(), offer(file), changed }`: the panel is hidden until there is a file. */
export function uploadPanel(signal) {
  let [file, running] = [null, null];
  const picker = el('input', { type: 'file', accept: '.onnx,.irm', hidden: true, id: 'model-file', 'aria-label': 'Model file' });
  const name = el('input', { id: 'model-name', required: true, pattern: NAME, maxlength: 128, autocomplete: 'off', spellcheck: 'false' });
  const about = el('p', { class: 'quiet' });
  const start = el('button', { class: 'primary' }, 'Upload, compile and load');
  const close = el('button', { type: 'button' }, 'Cancel');
  const form = el('form', { class: 'row' }, el('label', { for: 'model-name' }, 'Name'), name, start, close);
  const steps = el('div');
  const node = el('section', { class: 'card', hidden: true, 'aria-label': 'Upload a model' }, el('h2', {}, 'New model'), about, form, steps);
  const panel = {
    node: el('div', { class: 'contents' }, picker, node),
    changed: async () => {},
    choose: () => picker.click(),
    offer(chosen) {
      if (running) return;
      file = chosen;
      picker.value = '';
      setText(about, `${file.name}, ${bytes(file.size)}`);
      name.value = file.name.replace(/\.[^.]*$/, '').replace(/[^A-Za-z0-9_.-]+/g, '-').replace(/^[.]+/, '').slice(0, 128);
      steps.replaceChildren();
      setText(close, 'Cancel');
      node.hidden = false;
      name.focus();
      name.select();
    },
  };
  picker.addEventListener('change', () => picker.files.length > 0 && panel.offer(picker.files[0]));
  close.addEventListener('click', () => {
    running?.abort();
    running = null;
    node.hidden = true;
  });
  signal.addEventListener('abort', () => running?.abort());
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    running = new AbortController();
    const mine = running;
    start.disabled = true;
    try {
      await bring(file, name.value, steps, mine.signal, () => panel.changed());
    } catch (error) {
      if (!mine.signal.aborted) steps.append(failure(error));
    } finally {
      start.disabled = false;
      if (running === mine) running = null;
      setText(close, 'Close');
      if (!signal.aborted) await panel.changed().catch(() => {});
    }
  });
  return panel;
}

async function bring(file, name, steps, signal, changed) {
  const bar = el('progress', { max: 1, value: 0, 'aria-label': 'Upload' });
  const told = el('p', {}, 'Uploading…');
  steps.replaceChildren(told, bar);
  const url = new URL(modelAddress('v1', name));
  url.searchParams.set('file', file.name.endsWith('.irm') ? 'model.irm' : 'model.onnx');
  const stored = await upload(url, file, (sent, of) => {
    bar.value = of > 0 ? sent / of : 0;
    setText(told, sent < of ? `Uploading: ${bytes(sent)} of ${bytes(of)}` : 'Storing…');
  }, signal);
  bar.remove();
  const unchanged = stored.unchanged ? ', which was there already' : '';
  setText(told, `Stored as version ${stored.version} of ${name}${unchanged}.`);
  await changed().catch(() => {});
  if (!file.name.endsWith('.irm')) {
    const watched = compilation();
    steps.append(watched.node);
    if (!await watched.run(name, stored.version, signal)) return;
  }
  const loading = el('p', {}, 'Loading…');
  steps.append(loading);
  await send('POST', address('v2', 'repository', 'models', name, 'load'), {}, signal);
  loading.replaceChildren('Ready: ', el('a', { href: `#/models/${encodeURIComponent(name)}` }, `try ${name}`));
}
