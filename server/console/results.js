// What a model answered: the highest of scores, small tensors as they are, what is to be said of large ones.

import { meter } from './charts.js';
import { el, facts, table } from './dom.js';
import { count, duration, number, shape as shapeText } from './format.js';
import * as npz from './npz.js';
import { decode, elements, isFloat, shown, statistics } from './tensors.js';

/** Larger tensors are not shown element by element. */
const SHOWN = 256;
/** More classes than this are ranked, fewer are all there to see. */
const FEW = 3;
const TOP = 5;
const ROWS = 8;

/** Names of classes, by model. */
const labels = new Map();

export function results(model, id, { version, outputs, took }) {
  const blocks = el('div');
  const render = () => blocks.replaceChildren(...outputs.map((each) => output(each, labels.get(model) ?? [])));
  const picker = el('input', { type: 'file', accept: '.txt,text/plain', hidden: true, 'aria-label': 'Labels' });
  picker.addEventListener('change', async () => {
    labels.set(model, (await picker.files[0].text()).split('\n').map((line) => line.trim()));
    render();
  });
  render();
  return el('div', { class: 'results' },
    el('p', {}, `Version ${version} answered in ${duration(took * 1e6)}. `,
      el('a', { href: `#/requests/${encodeURIComponent(id)}?model=${encodeURIComponent(model)}` }, 'Where the time went')),
    blocks,
    el('div', { class: 'row' },
      el('button', { type: 'button', onclick: () => download(`${model}.npz`, npz.write(outputs)) }, 'Download as .npz'),
      el('button', { type: 'button', onclick: () => picker.click() }, 'Names of classes…'), picker));
}

function download(name, bytes) {
  const url = URL.createObjectURL(new Blob([bytes]));
  el('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function output({ name, datatype, shape, bytes }, names) {
  const values = decode(datatype, bytes);
  const ranked = isScores(datatype, shape);
  const elementwise = elements(shape) <= SHOWN ? grid(values, shape)
    : datatype === 'BYTES' ? grid(values.slice(0, SHOWN), [SHOWN]) : summary(values);
  return el('section', { class: 'output' },
    el('h3', {}, el('code', {}, name), el('span', { class: 'quiet' }, ` ${datatype} ${shapeText(shape)}`)),
    ranked ? ranking(values, shape, names) : null,
    ranked ? el('details', {}, el('summary', {}, 'All elements'), elementwise) : elementwise);
}

function isScores(datatype, shape) {
  return isFloat(datatype) && shape.length > 0 && shape.length <= 2 && shape.at(-1) > FEW && elements(shape) > 0;
}

/** The highest of each row, with a bar where they are parts of one. */
function ranking(values, shape, names) {
  const classes = shape.at(-1);
  const rows = elements(shape) / classes;
  const blocks = [];
  for (let row = 0; row < Math.min(rows, ROWS); row += 1) {
    const scores = values.slice(row * classes, (row + 1) * classes);
    const best = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]).slice(0, TOP);
    const sum = scores.reduce((total, score) => total + score, 0);
    const parts = Math.abs(sum - 1) < 0.01 && scores.every((score) => score >= 0);
    const lines = best.map((index, rank) => el('tr', { class: rank === 0 ? 'best' : null },
      el('th', { scope: 'row' }, names[index] || String(index)),
      el('td', { class: 'number' }, number(scores[index])),
      el('td', {}, parts ? meter(scores[index], 1) : null)));
    blocks.push(table([rows > 1 ? `Row ${row}` : 'Class', ['Score', 'number'], ''], el('tbody', {}, lines), { class: 'ranking' }));
  }
  const more = rows > ROWS ? el('p', { class: 'quiet' }, `${count(rows - ROWS)} more rows are in the download.`) : null;
  return el('div', { class: 'rankings' }, blocks, more);
}

/** Each element, rows of the last dimension one below the other. */
function grid(values, shape) {
  if (elements(shape) === 0) return el('p', { class: 'quiet' }, 'no elements');
  const columns = shape.at(-1) ?? 1;
  const rows = [];
  for (let at = 0; at < elements(shape); at += columns) {
    rows.push(el('tr', {}, Array.from(values.slice(at, at + columns), (value) => el('td', { class: 'number' }, shown(value)))));
  }
  return el('div', { class: 'scroll' }, el('table', { class: 'grid' }, el('tbody', {}, rows)));
}

function summary(values) {
  const { count: finite, nan, infinite, least, most, mean, deviation } = statistics(values);
  return facts([
    ['Least', finite > 0 && number(least)],
    ['Most', finite > 0 && number(most)],
    ['Mean', finite > 0 && number(mean)],
    ['Deviation', finite > 0 && number(deviation)],
    ['NaN', nan > 0 && count(nan)],
    ['Infinite', infinite > 0 && count(infinite)],
    ['Begins with', Array.from(values.slice(0, 8), shown).join(', ')],
  ].map(([term, value]) => [term, value === false ? null : value]), 'wide');
}
