// All models and their versions: what state they are in, what they take, what is asked of them.

import { address, get, modelAddress, send } from './api.js';
import { badge, confirm, el, keyed, say, setBadge, setText, table } from './dom.js';
import { bytes, count, many } from './format.js';
import { uploadPanel } from './upload.js';

export async function show(content, page) {
  page.title('Models');
  const total = el('span', { class: 'quiet' });
  const rows = el('tbody');
  const upload = uploadPanel(page.signal);
  const empty = el('div', { class: 'empty', hidden: true },
    el('h2', {}, 'No models yet'),
    el('p', {}, 'Drop an ONNX file here, upload one, or push one from the command line:'),
    el('pre', {}, 'irectl push model.onnx --name NAME'));
  const list = table(
    ['Model', ['Version', 'number'], 'State', 'Source', ['Memory', 'number'], ['Answered', 'number'], ['Failed', 'number'],
      ['Waiting', 'number'], ['Actions', 'hidden-text']],
    rows, { class: 'stack models' });
  list.hidden = true;
  content.append(
    el('div', { class: 'heading' }, el('h1', {}, 'Models'), total,
      el('button', { type: 'button', class: 'primary end', onclick: () => upload.choose() }, 'Upload a model')),
    upload.node, empty, list);
  acceptDrops(content, upload, page.signal);

  const refresh = async () => {
    const { models } = await get(address('v1', 'models'), page.signal);
    const names = new Set(models.map((model) => model.name));
    setText(total, models.length === 0 ? '' : `${many(names.size, 'model')}, ${many(models.length, 'version')}`);
    empty.hidden = models.length > 0;
    list.hidden = models.length === 0;
    keyed(rows, grouped(models), (model) => `${model.name}/${model.version}`, (model) => row(model, refresh));
  };
  upload.changed = refresh;
  await page.every(2000, refresh);
}

/** Newest version first, and what the rows of one model have in common. */
function grouped(models) {
  const groups = Map.groupBy(models, (model) => model.name);
  return [...groups.values()].flatMap((versions) => {
    const answers = versions.some((version) => version.module !== null);
    return versions.toReversed().map((version, at) => ({ ...version, first: at === 0, answers, alone: versions.length === 1 }));
  });
}

function row(model, refresh) {
  const cell = (label, kind) => el('td', { 'data-label': label, class: kind });
  const name = el('th', { scope: 'row' }, el('a', { href: modelLink(model) }, model.name));
  const [version, source] = [cell('Version', 'number'), cell('Source')];
  const state = badge('');
  const reason = el('span', { class: 'reason' });
  const [memory, answered, failed, waiting] = ['Memory', 'Answered', 'Failed', 'Waiting'].map((label) => cell(label, 'number'));
  const actions = modelActions(refresh);
  const node = el('tr', {}, name, version, el('td', { 'data-label': 'State' }, state, reason), source, memory, answered,
    failed, waiting, el('td', { class: 'actions' }, actions.node));
  return {
    node,
    update(model) {
      node.classList.toggle('first', model.first);
      setText(version, [model.version, ...model.labels].join(' · '));
      setText(source, `${model.source} · ${model.file}`);
      setBadge(state, model.state);
      setText(reason, model.reason);
      setText(memory, model.module ? bytes(model.module.in_memory ? model.module.resident_bytes : 0) : '–');
      setText(answered, count(model.requests.answered));
      setText(failed, count(model.requests.failed));
      setText(waiting, count(model.requests.waiting));
      actions.update(model);
    },
  };
}

export function modelLink({ name, version }) {
  return `#/models/${encodeURIComponent(name)}/${encodeURIComponent(version)}`;
}

/** The buttons that change a model; `{ node, update(model) }`. `model.answers`: one of its versions does. */
export function modelActions(refresh) {
  let model;
  const act = (button, doing, done, work) => async () => {
    const { name, version } = model;
    button().disabled = true;
    say(`${doing} ${name}…`);
    try {
      if (await work(name, version) !== false) say(`${name}: ${done}.`);
      else say('');
    } catch (error) {
      say(error.message);
    } finally {
      button().disabled = false;
    }
    await refresh().catch(() => {});
  };
  const load = el('button', { type: 'button', onclick: act(() => load, 'Loading', 'loaded', (name) => (
    send('POST', address('v2', 'repository', 'models', name, 'load')))) }, 'Load');
  const unload = el('button', { type: 'button', onclick: act(() => unload, 'Unloading', 'unloaded', async (name) => (
    await confirm(`Unload ${name}?`, 'Requests that are inside end first; later ones are refused until it is loaded again.', 'Unload')
      ? send('POST', address('v2', 'repository', 'models', name, 'unload')) : false)) }, 'Unload');
  const remove = el('button', { type: 'button', class: 'danger', onclick: act(() => remove, 'Deleting', 'deleted', async (name, version) => (
    await confirm(`Delete ${name}, version ${version}?`, 'Its files are removed from this server. That cannot be taken back.', 'Delete')
      ? send('DELETE', modelAddress('v1', name, version)) : false)) }, 'Delete');
  const node = el('div', { class: 'row', hidden: true }, load, unload, remove);
  return {
    node,
    update(now) {
      model = now;
      node.hidden = false;
      load.hidden = !now.first;
      unload.hidden = !now.first || !now.answers;
      remove.hidden = now.source !== 'upload';
      for (const [button, word] of [[load, 'Load'], [unload, 'Unload'], [remove, 'Delete']]) {
        button.setAttribute('aria-label', `${word} ${now.name}${button === remove ? `, version ${now.version}` : ''}`);
      }
      setText(load, now.answers ? 'Reload' : 'Load');
    },
  };
}

/** Files dropped anywhere on the page are to be uploaded. */
function acceptDrops(content, upload, signal) {
  const over = (event) => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    content.classList.toggle('dropping', event.type === 'dragover');
    if (event.type === 'drop' && event.dataTransfer.files.length > 0) upload.offer(event.dataTransfer.files[0]);
  };
  for (const kind of ['dragover', 'dragleave', 'drop']) window.addEventListener(kind, over, { signal });
}
