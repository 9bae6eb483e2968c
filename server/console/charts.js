// Small pictures of numbers.

import { el, svg } from './dom.js';
import { count, duration } from './format.js';

const [WIDTH, HEIGHT] = [240, 64];

/**
 * How durations are distributed: bars for buckets `{ up_to_ns, count }`, each about twice as wide as the one before, the
 * last without an end.
 */
export function histogram(step, buckets) {
  const used = buckets.flatMap((bucket, at) => (bucket.count > 0 ? [at] : []));
  if (used.length === 0) return el('p', { class: 'quiet' }, 'none');
  const [first, last] = [Math.max(0, used[0] - 1), Math.min(buckets.length - 1, used.at(-1) + 1)];
  const shown = buckets.slice(first, last + 1);
  const most = Math.max(...shown.map((bucket) => bucket.count));
  const width = WIDTH / shown.length;
  const bars = shown.map((bucket, at) => {
    const height = bucket.count === 0 ? 0 : Math.max(2, (bucket.count / most) * HEIGHT);
    const from = buckets[first + at - 1]?.up_to_ns ?? 0;
    const range = bucket.up_to_ns === null ? `over ${duration(from)}` : `${duration(from)} to ${duration(bucket.up_to_ns)}`;
    return svg('rect', { x: at * width + 0.5, y: HEIGHT - height, width: Math.max(1, width - 1), height, rx: 1, class: 'bar' },
      svg('title', {}, `${range}: ${count(bucket.count)}`));
  });
  const title = `${step}: half within ${duration(quantile(buckets, 0.5))}, 99 % within ${duration(quantile(buckets, 0.99))}`;
  return el('figure', { class: 'histogram' },
    svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT + 1}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': title },
      svg('line', { x1: 0, x2: WIDTH, y1: HEIGHT + 0.5, y2: HEIGHT + 0.5, class: 'axis' }), bars),
    el('figcaption', {},
      el('span', {}, duration(buckets[first - 1]?.up_to_ns ?? 0)),
      el('span', {}, shown.at(-1).up_to_ns === null ? 'more' : duration(shown.at(-1).up_to_ns))));
}

/** The duration that such a part of the requests took no longer than, as far as the buckets tell. */
export function quantile(buckets, part) {
  const total = buckets.reduce((sum, bucket) => sum + bucket.count, 0);
  let before = 0;
  let from = 0;
  for (const bucket of buckets) {
    if (before + bucket.count >= part * total && bucket.count > 0) {
      const to = bucket.up_to_ns ?? from;
      return from + (to - from) * ((part * total - before) / bucket.count);
    }
    before += bucket.count;
    from = bucket.up_to_ns ?? from;
  }
  return from;
}

/** A line of what was measured one after the other, newest last, with room for so many. */
export function sparkline(values, room, label) {
  const most = Math.max(1e-9, ...values);
  const x = (at) => ((room - values.length + at) / Math.max(1, room - 1)) * WIDTH;
  const y = (value) => 38 - (value / most) * 34;
  const points = values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
  return svg('svg', { class: 'sparkline', viewBox: `0 0 ${WIDTH} 40`, preserveAspectRatio: 'none', role: 'img', 'aria-label': label },
    points.length > 1 ? svg('polygon', { class: 'area', points: `${x(0).toFixed(1)},40 ${points.join(' ')} ${WIDTH},40` }) : null,
    points.length > 1 ? svg('polyline', { class: 'line', points: points.join(' ') }) : null);
}

/** A part of a whole as a bar; `high` from where it is worth a look. */
export function meter(used, of, label, high = Infinity) {
  const part = of > 0 ? Math.max(0, Math.min(1, used / of)) : 0;
  const bar = el('div');
  bar.style.width = `${100 * part}%`;
  const spoken = { role: 'meter', 'aria-label': label, 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': Math.round(100 * part) };
  return el('div', { class: part > high ? 'meter high' : 'meter', ...(label ? spoken : { 'aria-hidden': 'true' }) }, bar);
}
