// What models run on, who waits for it, and where memory goes.

import { ApiError, address, get } from './api.js';
import { meter, sparkline } from './charts.js';
import { el, facts, failure, keyed, setText, table } from './dom.js';
import { bytes, count, duration, rate } from './format.js';
import { modelLink } from './models.js';

const EVERY = 1500;
/** Measurements of each line: three minutes. */
const ROOM = 120;

export async function show(content, page) {
  page.title('Machine');
  const [overall, devices, rows] = [el('div', { class: 'cards' }), el('div'), el('tbody')];
  const queues = table(
    ['Model', ['Process', 'number'], ['Started again', 'number'], ['Memory', 'number'], ['Inside', 'number'], ['Waiting', 'number'],
      ['Expected wait', 'number'], ['Answers/s', 'number'], ['', 'chart']],
    rows, { class: 'stack' });
  const none = el('p', { class: 'quiet' }, 'No model is loaded.');
  content.append(
    el('div', { class: 'heading' }, el('h1', {}, 'Machine')), overall,
    el('section', { class: 'card' }, el('h2', {}, 'Queues and processes'), none, queues),
    el('section', { class: 'card' }, el('h2', {}, 'Devices'), devices));
  const rates = new Map();

  await page.every(EVERY, async () => {
    const [status, { models }, { devices: found }] = await Promise.all([
      overview(page.signal), get(address('v1', 'models'), page.signal), get(address('v1', 'devices'), page.signal)]);
    overall.replaceChildren(...status);
    const loaded = models.filter((model) => model.module !== null);
    none.hidden = loaded.length > 0;
    queues.hidden = loaded.length === 0;
    const now = performance.now();
    for (const model of loaded) measure(rates, model, now);
    keyed(rows, loaded, (model) => `${model.name}/${model.version}`, (model) => row(model, rates));
    keyed(devices, found, (device) => device.id, device);
  });
}

/** Cards of the whole server, for those who may see all of it. */
async function overview(signal) {
  let status;
  try {
    status = await get(address('v1', 'status'), signal);
  } catch (error) {
    if (error instanceof ApiError && error.status === 403) return [failure(error)];
    throw error;
  }
  const { memory, requests, compile, cache, models } = status;
  return [
    card('Memory for models', meter(memory.promised_bytes, memory.budget_bytes, 'Memory that is promised', 0.9),
      `${bytes(memory.promised_bytes)} of ${bytes(memory.budget_bytes)}`,
      [['Made room', times(models.evictions)], ['Loaded again', times(models.reloads)], ['The daemon itself', bytes(memory.daemon_bytes)]]),
    card('Memory of the machine', meter(memory.machine_used_bytes, memory.machine_bytes, 'Memory in use', 0.9),
      `${bytes(memory.machine_used_bytes)} of ${bytes(memory.machine_bytes)}`,
      [['Requests inside', bytes(requests.inside_bytes)], ['At most', bytes(requests.limit_bytes)], ['Requests waiting', count(requests.waiting)]]),
    card('Compilations', meter(compile.running, compile.slots, 'Compile slots in use'),
      `${count(compile.running)} of ${count(compile.slots)} running`,
      [['Waiting', `${count(compile.waiting)} of ${count(compile.queue)}`], ['Crashes', count(compile.crashes)]]),
    card('Compiled modules', meter(cache.bytes, cache.limit_bytes, 'Cache in use', 0.9),
      `${bytes(cache.bytes)} of ${bytes(cache.limit_bytes)}`,
      [['Modules', count(cache.modules)], ['Found', times(cache.hits)], ['Compiled', times(cache.misses)], ['Removed for room', count(cache.evictions)]]),
  ];
}

function times(number) {
  return number === 1 ? 'once' : `${count(number)} times`;
}

function card(title, picture, text, more) {
  return el('section', { class: 'card' }, el('h2', {}, title), el('p', { class: 'large' }, text), picture, facts(more));
}

/** Notes how many answers a second a version gave since the last time. */
function measure(rates, { name, version, requests }, now) {
  const key = `${name}/${version}`;
  const { at, answered, values } = rates.get(key) ?? { at: now, answered: requests.answered, values: [] };
  const passed = (now - at) / 1000;
  if (passed > 0) values.push(Math.max(0, requests.answered - answered) / passed);
  if (values.length > ROOM) values.shift();
  rates.set(key, { at: now, answered: requests.answered, values });
}

function row(model, rates) {
  const cell = (label) => el('td', { 'data-label': label, class: 'number' });
  const name = el('th', { scope: 'row' }, el('a', { href: modelLink(model) }, model.name), el('span', { class: 'quiet' }, ` ${model.version}`));
  const [pid, restarts, memory, inside, waiting, wait, speed] = ['Process', 'Started again', 'Memory', 'Inside', 'Waiting', 'Expected wait', 'Answers/s'].map(cell);
  const line = el('td', { class: 'chart' });
  return {
    node: el('tr', {}, name, pid, restarts, memory, inside, waiting, wait, speed, line),
    update({ name, version, module, requests }) {
      const { values } = rates.get(`${name}/${version}`);
      setText(pid, module.processes.map((process) => process.pid ?? '–').join(', '));
      setText(restarts, count(module.restarts));
      setText(memory, module.in_memory ? bytes(module.resident_bytes) : 'made room');
      setText(inside, count(requests.inside));
      setText(waiting, count(requests.waiting));
      setText(wait, requests.expected_wait_ns === null ? '–' : duration(requests.expected_wait_ns));
      setText(speed, values.length > 0 ? rate(values.at(-1)) : '–');
      line.replaceChildren(sparkline(values, ROOM, `Answers a second of ${name}, the last three minutes`));
    },
  };
}

function device({ id }) {
  const node = el('div', { class: 'device' });
  return {
    node,
    update({ name, driver, triple, features, units, memory_bytes: memory, models, groups }) {
      // The features do not change; what is open stays open.
      if (node.childElementCount === 0) {
        node.append(el('h3', {}, el('code', {}, id), ` ${name}`), el('div'),
          el('details', {}, el('summary', {}, `${features.length} features`), el('p', { class: 'features' }, features.join(' '))));
      }
      node.children[1].replaceChildren(facts([
        ['Driver', driver], ['Target', triple], ['Units', count(units)], ['Memory', bytes(memory)],
        ['Groups', groups.map((group) => `${group.name} (${group.cores})`).join(', ')],
        ['Models', models.length > 0 ? models.join(', ') : 'none'],
      ], 'wide'));
    },
  };
}
