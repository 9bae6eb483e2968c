// One version of a model: what it is, how it does, and a form to try it.

import { address, get, modelAddress } from './api.js';
import { histogram, quantile } from './charts.js';
import { compilation } from './compile.js';
import { badge, el, facts, setBadge, setText, table } from './dom.js';
import { ago, bytes, count, duration, many, shape } from './format.js';
import { modelActions, modelLink } from './models.js';
import { recent } from './requests.js';
import { tryForm } from './try.js';

export async function show(content, page, [name, chosen]) {
  page.title(name);
  const { signal } = page;
  const state = badge('');
  const versions = el('nav', { class: 'versions', 'aria-label': 'Versions' });
  const reason = el('p', { class: 'failure', hidden: true });
  const about = el('section', { class: 'card' });
  const inside = el('div');
  const watched = compilation();
  const compile = el('button', { type: 'button', hidden: true, onclick: () => look(true) }, 'Compile');
  const compiling = el('section', { class: 'card', hidden: true }, el('h2', {}, 'Compilation'), watched.node);
  let [busy, built, model] = [false, null, null];

  const look = async (asked) => {
    if (busy) return;
    busy = true;
    compiling.hidden = false;
    compile.disabled = true;
    // Who only looks on need not hear that they may not.
    if (await watched.run(name, model.version, signal) === null && !asked) compiling.hidden = true;
    busy = false;
    compile.disabled = false;
    await refresh().catch(() => {});
  };

  const refresh = async () => {
    const all = (await get(address('v1', 'models'), signal)).models.filter((version) => version.name === name);
    const found = chosen ? all.find((version) => version.version === chosen) : all.findLast(answers) ?? all.at(-1);
    if (!found) throw new Error(all.length === 0 ? `There is no model “${name}”.` : `“${name}” has no version ${chosen}.`);
    const loading = found.state === 'LOADING' && model?.state !== 'LOADING';
    model = { ...found, first: true, answers: all.some(answers) };
    setBadge(state, model.state);
    setText(reason, model.reason);
    reason.hidden = model.reason === '';
    actions.update(model);
    compile.hidden = model.file.endsWith('.irm');
    versions.replaceChildren(...(all.length > 1 ? all.toReversed().map((version) => el('a', {
      href: modelLink(version), 'aria-current': version.version === model.version ? 'page' : null }, `version ${version.version}`)) : []));
    about.replaceChildren(el('h2', {}, `Version ${model.version}`), overview(model));
    // Who loads it waits for its compilation; so may one who only looks.
    if (loading && !busy && !compile.hidden) look(false);
    await refreshInside();
  };

  /** What only a version that answers has. */
  const refreshInside = async () => {
    const key = answers(model) ? `${model.version} ${model.digest}` : null;
    if (key === null) {
      if (built !== null) inside.replaceChildren();
      built = null;
      return;
    }
    if (built?.key !== key) {
      built = { key, ...await sections(model, page) };
      inside.replaceChildren(...built.nodes);
    }
    await built.refresh();
  };

  const actions = modelActions(refresh);
  content.append(
    el('p', { class: 'crumb' }, el('a', { href: '#/' }, 'Models')),
    el('div', { class: 'heading' }, el('h1', {}, name), state, el('div', { class: 'row end' }, compile, actions.node)),
    versions, reason, compiling, el('div', { class: 'columns' }, about, inside));
  await page.every(2000, refresh);
}

/** Also while its successor is loading. */
const answers = (version) => version.module !== null;

function overview({ labels, source, file, bytes: size, digest, module, requests, last_inference_ms: last }) {
  const features = module?.features ?? [];
  return facts([
    ['Labels', labels.length > 0 && labels.join(', ')],
    ['Source', `${source}, ${file}, ${bytes(size)}`],
    ['Digest', digest && el('code', { class: 'digest' }, digest)],
    ['Compiled for', module?.triple],
    ['Features', features.length > 0 && el('details', {}, el('summary', {}, String(features.length)), features.join(' '))],
    ['Module', module && bytes(module.module_bytes)],
    ['Memory', module && (module.in_memory ? bytes(module.resident_bytes) : `made room; ${bytes(module.resident_bytes)} when it is used`)],
    ['Process', module?.worker_pid && module.processes.map(process).join('; ')],
    ['Requests', `${count(requests.answered)} answered, ${count(requests.failed)} failed`],
    ['Now', `${count(requests.inside)} inside, ${count(requests.waiting)} of them waiting`],
    ['Expected wait', requests.expected_wait_ns === null ? null : duration(requests.expected_wait_ns)],
    ['Last answer', last > 0 && ago(last)],
  ].map(([term, value]) => [term, value === false ? null : value]));
}

function process({ pid, device_group: group, restarts }) {
  const place = group === null ? '' : ` on ${group}`;
  return `${pid ?? 'none'}${place}${restarts > 0 ? `, started again ${count(restarts)} times` : ''}`;
}

async function sections(model, page) {
  const { name, version } = model;
  const metadata = await get(modelAddress('v2', name, version), page.signal);
  const config = await get(modelAddress('v2', name, version, 'config'), page.signal);
  const latency = el('div', { class: 'latency' });
  const requests = recent(name);
  const nodes = [
    el('section', { class: 'card' }, el('h2', {}, 'Inputs and outputs'), signature(metadata)),
    el('section', { class: 'card' }, el('h2', {}, 'Try it'), tryForm(metadata, version, page.signal, () => refresh().catch(() => {}))),
    el('section', { class: 'card' }, el('h2', {}, 'Latency'), latency),
    el('section', { class: 'card' }, el('h2', {}, 'Recent requests'), requests.node,
      el('p', {}, el('a', { href: `#/requests?model=${encodeURIComponent(name)}` }, 'All that are kept'))),
    el('section', { class: 'card' }, el('details', {}, el('summary', {}, el('h2', {}, 'Configuration')),
      el('pre', {}, JSON.stringify(config, null, 2)))),
  ];
  const refresh = async () => {
    const [{ model_stats: [stats] }, { steps }] = await Promise.all([
      get(modelAddress('v2', name, version, 'stats'), page.signal),
      get(modelAddress('v1', name, version, 'latency'), page.signal),
    ]);
    const any = steps.some((step) => step.count > 0);
    latency.replaceChildren(...(any ? [batches(stats), ...steps.map(stepOf)] : [el('p', { class: 'quiet' }, 'No request was answered yet.')]));
    await requests.refresh(page.signal);
  };
  return { nodes, refresh };
}

function signature({ inputs, outputs }) {
  const row = (kind) => ({ name, datatype, shape: dims }) => el('tr', {},
    el('td', { 'data-label': 'Kind' }, kind),
    el('th', { scope: 'row' }, el('code', {}, name)),
    el('td', { 'data-label': 'Type' }, datatype),
    el('td', { 'data-label': 'Shape' }, shape(dims)));
  return table(['', 'Name', 'Type', 'Shape'], el('tbody', {}, inputs.map(row('input')), outputs.map(row('output'))), { class: 'stack' });
}

/** How long a step takes: half, most, and all in a picture. */
function stepOf({ step, count: times, sum_ns: sum, buckets }) {
  const value = (label, text) => el('div', {}, el('dt', {}, label), el('dd', {}, text));
  return el('div', { class: 'step' },
    el('h3', {}, step),
    histogram(step, buckets),
    el('dl', { class: 'numbers' },
      value('mean', times > 0 ? duration(sum / times) : '–'),
      value('p50', times > 0 ? duration(quantile(buckets, 0.5)) : '–'),
      value('p99', times > 0 ? duration(quantile(buckets, 0.99)) : '–')));
}

function batches({ inference_count: rows, execution_count: runs }) {
  return el('p', { class: 'quiet' }, `${many(rows, 'inference')} in ${many(runs, 'execution')}.`);
}

