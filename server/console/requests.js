// Requests that the server keeps, and where the time of one went.

import { ApiError, address, get } from './api.js';
import { el, facts, failure, keyed, setText, table } from './dom.js';
import { duration, time } from './format.js';
import { timeline } from './timeline.js';

export async function show(content, page, [id], options) {
  const model = options.get('model') ?? '';
  if (id !== undefined) await one(content, page, id, model);
  else await all(content, page, model);
}

async function all(content, page, model) {
  page.title('Requests');
  const list = recent(model, 200);
  const kept = 'Kept are the newest requests that were traced, that failed or that were slow, as the server’s settings say.';
  const only = model === '' ? [] : [' Shown are those of ', el('strong', {}, model), '; ', el('a', { href: '#/requests' }, 'show all'), '.'];
  content.append(
    el('div', { class: 'heading' }, el('h1', {}, 'Requests')),
    el('p', { class: 'quiet' }, kept, only),
    el('section', { class: 'card' }, list.node));
  await page.every(2000, () => list.refresh(page.signal));
}

/** The newest requests of a model, or of all; `{ node, refresh(signal) }`. */
export function recent(model = '', limit = 10) {
  const rows = el('tbody');
  const heads = ['Started', ...(model === '' ? ['Model'] : []), 'Request', ['Took', 'number'], 'Outcome'];
  const list = table(heads, rows, { class: 'stack' });
  const told = el('p', { class: 'quiet' }, 'None is kept.');
  list.hidden = true;
  return {
    node: el('div', {}, list, told),
    async refresh(signal) {
      const url = new URL(address('v1', 'requests'));
      if (model !== '') url.searchParams.set('model', model);
      url.searchParams.set('limit', String(limit));
      const { requests } = await get(url, signal);
      list.hidden = requests.length === 0;
      told.hidden = requests.length > 0;
      keyed(rows, requests, ({ id, started }) => `${started} ${id}`, (request) => row(request, model === ''));
    },
  };
}

function row({ id, model, version, started, duration_ns: took, outcome }, named) {
  const node = el('tr', { class: outcome === 'ok' ? null : 'bad' },
    el('td', { 'data-label': 'Started' }, time(new Date(started))),
    named ? el('td', { 'data-label': 'Model' }, `${model} ${version}`) : null,
    el('th', { scope: 'row' }, el('a', { href: requestLink(id, named ? '' : model) }, id)),
    el('td', { 'data-label': 'Took', class: 'number' }, duration(took)),
    el('td', { 'data-label': 'Outcome' }, outcome));
  return { node, update() {} };
}

export function requestLink(id, model) {
  return `#/requests/${encodeURIComponent(id)}${model ? `?model=${encodeURIComponent(model)}` : ''}`;
}

async function one(content, page, id, model) {
  page.title(`Request ${id}`);
  const back = model === '' ? ['#/requests', 'Requests'] : [`#/models/${encodeURIComponent(model)}`, model];
  content.append(
    el('p', { class: 'crumb' }, el('a', { href: back[0] }, back[1])),
    el('div', { class: 'heading' }, el('h1', {}, 'Request'), el('code', {}, id)));
  const request = await keptSoon(id, page.signal);
  if (request === null) {
    content.append(el('p', {}, 'This request is not kept. The server keeps those that are traced, that fail or that are slow; older ones make room for newer ones.'));
    return;
  }
  const spans = [...request.spans];
  if (spans.length === 0) spans.push({ name: 'request', start_ns: 0, end_ns: request.duration_ns, attributes: {} });
  const rows = spans.slice(0, 500).map((span, index) => step(span, index, (chosen) => picture.select(chosen)));
  const picture = timeline(spans, (chosen) => rows.forEach((each, index) => each.classList.toggle('chosen', index === chosen)));
  content.append(
    el('section', { class: 'card' }, facts([
      ['Model', el('a', { href: `#/models/${encodeURIComponent(request.model)}/${encodeURIComponent(request.version)}` }, `${request.model}, version ${request.version}`)],
      ['Started', new Date(request.started).toLocaleString()],
      ['Took', duration(request.duration_ns)],
      ['Outcome', request.outcome],
      ['Trace', request.trace_id && el('code', {}, request.trace_id)],
    ], 'wide'), request.error ? failure(request.error) : null),
    el('section', { class: 'card' }, el('h2', {}, 'Where the time went'), picture.node),
    el('section', { class: 'card' }, el('details', {}, el('summary', {}, el('h2', {}, `All ${spans.length} steps`)),
      table(['Step', ['From', 'number'], ['Took', 'number'], ['Thread', 'number']], el('tbody', {}, rows)),
      spans.length > rows.length ? el('p', { class: 'quiet' }, `${spans.length - rows.length} more are in the picture.`) : null)));
}

/** A request, which may be kept only a moment after its answer has come; null where it is not. */
export async function keptSoon(id, signal) {
  for (let again = 3; ; again -= 1) {
    try {
      return await get(address('v1', 'requests', id), signal);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      if (again === 0) return null;
      await new Promise((resolve) => { setTimeout(resolve, 200); });
    }
  }
}

function step(span, index, chosen) {
  const name = el('button', { type: 'button', class: 'plain', onclick: () => chosen(index) });
  setText(name, span.name);
  return el('tr', {}, el('th', { scope: 'row' }, name),
    el('td', { class: 'number' }, duration(span.start_ns)),
    el('td', { class: 'number' }, duration(span.end_ns - span.start_ns)),
    el('td', { class: 'number' }, span.thread === undefined ? '–' : String(span.thread)));
}
