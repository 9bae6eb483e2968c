// A request whose dispatches are timed: which kernels take its time, and when each thread ran which.

import { address, call, get, modelAddress } from './api.js';
import { el, failure, table } from './dom.js';
import { count, duration, many, number } from './format.js';
import { keptSoon, requestLink } from './requests.js';
import { timeline } from './timeline.js';

/** Of these there may be many; the picture has them all. */
const ROWS = 50;

/** Has the next execution watched and calls `run()`, which sends a request; what came of both. */
export async function profiled(model, version, run, signal) {
  const ended = new AbortController();
  const either = AbortSignal.any([signal, ended.signal]);
  try {
    const body = JSON.stringify({ executions: 1 });
    // Its head has come: what is sent now is seen.
    const watched = await call('POST', modelAddress('v1', model, version, 'profile'), { body, type: 'application/json', signal: either });
    const got = await run();
    return { got, profile: await watched.json() };
  } finally {
    // A request that failed leaves nothing to wait for.
    ended.abort();
  }
}

/** What a profile says, and the timeline of the request `id`, or of another that was before it. */
export async function shown(model, id, profile, signal) {
  const request = await looked(model, id, signal);
  return el('section', { class: 'profile' },
    el('h3', {}, 'Profile'),
    el('p', {}, `Computed for ${duration(profile.compute_ns)} on ${many(profile.threads, 'thread')}.`),
    kernels(profile),
    request === null ? failure('The request is not kept any more.') : [
      request.id === id ? null : el('p', { class: 'quiet' }, 'Another request was before this one; it is the one that is shown.'),
      timeline(request.spans).node,
      el('p', {}, el('a', { href: requestLink(request.id, model) }, 'All steps of this request')),
    ]);
}

/** The request whose dispatches were timed. */
async function looked(model, id, signal) {
  const timed = (request) => request?.spans.some((span) => span.thread !== undefined) ?? false;
  const own = await keptSoon(id, signal);
  if (timed(own)) return own;
  const url = new URL(address('v1', 'requests'));
  url.searchParams.set('model', model);
  for (const { id: other } of (await get(url, signal)).requests) {
    const found = await get(address('v1', 'requests', other), signal).catch(() => null);
    if (timed(found)) return found;
  }
  return null;
}

function kernels({ dispatches, left_out: left }) {
  const all = dispatches.reduce((sum, { time_ns: time }) => sum + time, 0);
  const rows = dispatches.slice(0, ROWS).map((dispatch) => kernel(dispatch, all));
  const more = dispatches.length - rows.length;
  return [
    table(['Nodes', 'Kernel', 'Result', ['Calls', 'number'], ['Took', 'number'], ['Share', 'number'], ['GFLOP/s', 'number'], ['GB/s', 'number']],
      el('tbody', {}, rows), { class: 'stack' }),
    more > 0 ? el('p', { class: 'quiet' }, `${many(more, 'more kernel')} took less.`) : null,
    left > 0 ? el('p', { class: 'quiet' }, `${many(left, 'short stretch')} of work left out.`) : null,
  ];
}

function kernel({ kernel: name, nodes, result, calls, time_ns: time, operations, bytes }, all) {
  const cell = (label, text) => el('td', { 'data-label': label, class: 'number' }, text);
  // A number each nanosecond is a thousand millions of them each second.
  const rate = (amount) => (amount === null || time === 0 ? '–' : (amount / time).toFixed(1));
  return el('tr', {},
    el('th', { scope: 'row' }, nodes.length === 0 ? '–' : nodes.length === 1 ? nodes[0] : `${nodes[0]} and ${count(nodes.length - 1)} more`),
    el('td', { 'data-label': 'Kernel' }, el('code', {}, name)),
    el('td', { 'data-label': 'Result' }, result || '–'),
    cell('Calls', number(calls)), cell('Took', duration(time)), cell('Share', `${((100 * time) / Math.max(all, 1)).toFixed(1)} %`),
    cell('GFLOP/s', rate(operations)), cell('GB/s', rate(bytes)));
}
