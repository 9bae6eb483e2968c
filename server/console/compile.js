// A compilation as it happens, and what the compiler found.

import { call, lines, modelAddress } from './api.js';
import { meter } from './charts.js';
import { el, facts, failure, setText, table } from './dom.js';
import { bytes, duration } from './format.js';

/** `{ node, run(name, version, signal) }`; `run` resolves to whether there is a module, null for who may not know. */
export function compilation() {
  const told = el('p', { role: 'status' });
  const bar = el('progress', { max: 1, 'aria-label': 'Compilation' });
  const result = el('div');
  const node = el('div', { class: 'compilation' }, told, bar, result);
  return {
    node,
    async run(name, version, signal) {
      result.replaceChildren();
      bar.hidden = false;
      bar.removeAttribute('value');
      setText(told, 'Compiling…');
      try {
        const url = modelAddress('v1', name, version, 'compile');
        const response = await call('POST', url, { body: '{}', type: 'application/json', signal });
        for await (const event of lines(response)) {
          const end = step(event, told, bar, result);
          if (end !== null) return end;
        }
        throw new Error('The compilation broke off.');
      } catch (error) {
        if (!signal.aborted) {
          setText(told, 'Not compiled.');
          result.append(failure(error));
        }
        return error.status === 403 ? null : false;
      } finally {
        bar.hidden = true;
      }
    },
  };
}

/** Shows an event; whether there is a module once that is known, else null. */
function step(event, told, bar, result) {
  switch (event.event) {
    case 'queued':
      setText(told, `Waiting for a compile slot behind ${event.ahead} others…`);
      return null;
    case 'started':
      setText(told, `Compiling in process ${event.pid}…`);
      return null;
    case 'progress': {
      const of = event.total > 0 ? ` ${event.done} of ${event.total}` : '';
      setText(told, `Compiling: ${event.phase}${of}${event.detail ? `, ${event.detail}` : ''}`);
      if (event.total > 0) bar.value = event.done / event.total;
      else bar.removeAttribute('value');
      return null;
    }
    case 'retrying':
      setText(told, `The compiler crashed (${event.reason}) and tries once more…`);
      return null;
    case 'elsewhere':
      setText(told, `Waiting for another replica, ${event.replica}, which compiles it…`);
      return null;
    case 'done':
      setText(told, event.cached ? 'The module was in the cache.' : `Compiled in ${duration(event.wall_us * 1000)}.`);
      result.append(report(event), found(event.warnings));
      return true;
    case 'failed':
      setText(told, `Not compiled: ${event.kind}.`);
      result.append(...(event.diagnostics.length > 0 ? [found(event.diagnostics)] : [failure(event.error)]));
      return false;
    default:
      return null;
  }
}

function report(done) {
  const longest = Math.max(1, ...done.phases.map((phase) => phase.wall_us));
  const phases = done.phases.map((phase) => el('tr', {},
    el('th', { scope: 'row' }, phase.phase),
    el('td', { class: 'number' }, duration(phase.wall_us * 1000)),
    el('td', {}, meter(phase.wall_us, longest))));
  return el('details', {}, el('summary', {}, 'What it took'),
    facts([
      ['Module', bytes(done.module_bytes)],
      ['Memory at most', bytes(done.peak_rss_bytes)],
      ['Cache key', el('code', { class: 'digest' }, done.key)],
    ], 'wide'),
    phases.length > 0 ? table(['Phase', ['Time', 'number'], ''], el('tbody', {}, phases)) : '');
}

/** What the compiler has to say, each with its place in the model. */
function found(diagnostics) {
  if (diagnostics.length === 0) return '';
  const rows = diagnostics.map(({ severity, location, message, hint }) => el('tr', { 'data-severity': severity },
    el('td', { 'data-label': 'Severity' }, severity),
    el('td', { 'data-label': 'Place' }, el('code', {}, location || '–')),
    el('td', { 'data-label': 'What' }, message, hint ? el('p', { class: 'quiet' }, hint) : null)));
  return table(['Severity', 'Place', 'What'], el('tbody', {}, rows), { class: 'stack diagnostics' });
}
