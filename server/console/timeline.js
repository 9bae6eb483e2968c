// Spans over time: steps below one another, dispatches in a lane for each thread. Zoom, drag, and look at one.

import { el, facts, svg } from './dom.js';
import { duration, instant, number } from './format.js';

const [ROW, BAR, AXIS, LABELS] = [26, 20, 22, 92];
/** A span that is narrower is drawn together with its neighbours. */
const LEAST = 1.5;
/** Characters that are about this wide are written into a bar that has room for them. */
const CHARACTER = 6.6;
const HUES = 8;

/** A picture of `spans`, of which the first is the whole; `{ node, select(index) }`. */
export function timeline(spans, chosen = () => {}) {
  const lanes = arrange(spans);
  const height = AXIS + lanes.length * ROW + 4;
  const whole = [Math.min(...spans.map((span) => span.start_ns)), Math.max(...spans.map((span) => span.end_ns), 1)];
  let [from, to] = whole;
  let [width, selected, drag] = [800, 0, null];
  const picture = svg('svg', { class: 'timeline', height, tabindex: 0, role: 'group', 'aria-label': 'Timeline: arrows move, + and − zoom, 0 shows all' });
  const detail = el('div', { class: 'detail', 'aria-live': 'polite' });

  const x = (ns) => LABELS + ((ns - from) / (to - from)) * (width - LABELS);
  const draw = () => {
    picture.setAttribute('viewBox', `0 0 ${width} ${height}`);
    picture.replaceChildren(
      ...axis(from, to, x, height),
      ...lanes.flatMap(({ label, spans: mine }, at) => [
        ...bars(mine, at, { from, to, x, selected }),
        svg('rect', { class: 'label-back', x: 0, y: AXIS + at * ROW, width: LABELS - 6, height: ROW }),
        svg('text', { class: 'lane', x: 0, y: AXIS + at * ROW + 15 }, label),
      ]));
  };
  const view = (start, end) => {
    const size = Math.min(Math.max(end - start, 100), whole[1] - whole[0] || 1);
    from = Math.max(whole[0], Math.min(start, whole[1] - size));
    to = from + size;
    draw();
  };
  const zoom = (factor, at = (from + to) / 2) => view(at - (at - from) * factor, at + (to - at) * factor);
  const move = (part) => view(from + (to - from) * part, to + (to - from) * part);
  const fit = () => {
    const { start_ns: start, end_ns: end } = spans[selected];
    view(start - (end - start) * 0.05, end + (end - start) * 0.05);
  };
  const select = (index) => {
    selected = index;
    detail.replaceChildren(...about(spans[index]));
    draw();
    chosen(index);
  };

  const time = (event) => {
    const box = picture.getBoundingClientRect();
    return from + (((event.clientX - box.left) * (width / box.width) - LABELS) / (width - LABELS)) * (to - from);
  };
  const at = (event) => event.target.closest?.('[data-span]')?.dataset.span;
  picture.addEventListener('wheel', (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(1.0015 ** event.deltaY, time(event));
  }, { passive: false });
  picture.addEventListener('pointerdown', (event) => {
    drag = { x: event.clientX, from, to, moved: false };
    picture.setPointerCapture(event.pointerId);
  });
  picture.addEventListener('pointermove', (event) => {
    if (!drag) return;
    const off = ((drag.x - event.clientX) / picture.getBoundingClientRect().width) * (width / (width - LABELS)) * (drag.to - drag.from);
    drag.moved ||= Math.abs(drag.x - event.clientX) > 3;
    if (drag.moved) view(drag.from + off, drag.to + off);
  });
  picture.addEventListener('pointerup', (event) => {
    const span = document.elementFromPoint(event.clientX, event.clientY)?.closest?.('[data-span]')?.dataset.span;
    if (drag && !drag.moved && span !== undefined) select(Number(span));
    drag = null;
  });
  picture.addEventListener('dblclick', fit);
  picture.addEventListener('pointercancel', () => { drag = null; });
  picture.addEventListener('pointerover', (event) => {
    if (!drag && at(event) !== undefined) detail.replaceChildren(...about(spans[Number(at(event))]));
  });
  picture.addEventListener('pointerout', () => detail.replaceChildren(...about(spans[selected])));
  picture.addEventListener('keydown', (event) => {
    const act = { ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), '+': () => zoom(0.5), '=': () => zoom(0.5), '-': () => zoom(2), 0: () => view(...whole) }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  new ResizeObserver(([entry]) => {
    width = Math.max(320, Math.round(entry.contentRect.width));
    draw();
  }).observe(picture);

  const button = (label, text, act) => el('button', { type: 'button', 'aria-label': label, title: label, onclick: act }, text);
  const node = el('div', {},
    el('div', { class: 'row tools' },
      button('Zoom in', '+', () => zoom(0.5)), button('Zoom out', '−', () => zoom(2)), button('Show all', 'All', () => view(...whole)),
      button('Show only the chosen step', 'Step', () => fit()),
      button('Earlier', '←', () => move(-0.2)), button('Later', '→', () => move(0.2)),
      el('span', { class: 'quiet' }, 'Ctrl and the wheel zoom, dragging moves.')),
    picture, detail);
  select(0);
  return { node, select };
}

/** Lanes `{ label, spans: [[index, span], …] }`: steps by depth, below one another where they overlap; then threads. */
function arrange(spans) {
  const [steps, threads, depths] = [[], new Map(), []];
  spans.forEach((span, index) => {
    depths.push(span.parent === undefined ? (index === 0 ? 0 : 1) : (depths[span.parent] ?? 0) + 1);
    if (span.thread !== undefined) {
      if (!threads.has(span.thread)) threads.set(span.thread, []);
      threads.get(span.thread).push([index, span]);
      return;
    }
    let row = depths[index];
    const free = (lane) => !lane || lane.every(([, other]) => other.end_ns <= span.start_ns || span.end_ns <= other.start_ns);
    while (!free(steps[row])) row += 1;
    while (steps.length <= row) steps.push([]);
    steps[row].push([index, span]);
  });
  const lanes = steps.filter((lane) => lane.length > 0).map((lane, at) => ({ label: at === 0 ? 'request' : at === 1 ? 'steps' : '', spans: lane }));
  const ordered = [...threads].sort(([a], [b]) => Number(a) - Number(b));
  for (const [thread, lane] of ordered) lanes.push({ label: `thread ${thread}`, spans: lane });
  for (const lane of lanes) lane.spans.sort(([, a], [, b]) => a.start_ns - b.start_ns);
  return lanes;
}

function bars(lane, row, { from, to, x, selected }) {
  const y = AXIS + row * ROW + 1;
  const shown = [];
  let crowd = null;
  const flush = () => {
    if (crowd) shown.push(svg('rect', { class: 'crowd', x: crowd.left, y, width: Math.max(0.5, crowd.right - crowd.left), height: BAR }));
    crowd = null;
  };
  for (const [index, span] of lane) {
    if (span.end_ns < from || span.start_ns > to) continue;
    const left = Math.max(LABELS, x(Math.max(span.start_ns, from)));
    const right = x(Math.min(span.end_ns, to));
    if (right - left < LEAST && lane.length > 50) {
      if (crowd && left - crowd.right > 1) flush();
      crowd = { left: crowd?.left ?? left, right: Math.max(crowd?.right ?? 0, right, left + 0.5) };
      continue;
    }
    flush();
    const size = Math.max(1, right - left);
    const room = Math.floor((size - 8) / CHARACTER);
    // Threads run nothing but dispatches.
    const name = span.thread === undefined ? span.name : span.name.replace(/^dispatch /, '');
    shown.push(svg('g', { 'data-span': index, class: `span hue-${hue(span.name)}${index === selected ? ' selected' : ''}` },
      svg('title', {}, `${span.name}: ${duration(span.end_ns - span.start_ns)}`),
      svg('rect', { x: left, y, width: size, height: BAR, rx: Math.min(3, size / 2) }),
      room >= 3 ? svg('text', { x: left + 5, y: y + 14 }, name.length > room ? `${name.slice(0, room - 1)}…` : name) : null));
  }
  flush();
  return shown;
}

/** The same for the same name, whatever else is shown. */
export function hue(name) {
  let hash = 7;
  for (let i = 0; i < name.length; i += 1) hash = (hash * 31 + name.charCodeAt(i)) >>> 0;
  return hash % HUES;
}

function axis(from, to, x, height) {
  const rough = (to - from) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    ticks.push(svg('line', { class: 'axis', x1: x(at), x2: x(at), y1: AXIS - 4, y2: height }),
      svg('text', { class: 'tick', x: x(at), y: AXIS - 8, 'text-anchor': at > to - step / 2 ? 'end' : 'middle' }, instant(at, step)));
  }
  return ticks;
}

function about(span) {
  const apart = (span.end_ns - span.start_ns) / 100;
  const value = (found) => (typeof found === 'number' ? number(found) : String(found));
  return [
    el('h3', {}, el('span', { class: `swatch hue-${hue(span.name)}` }), span.name),
    facts([
      ['Took', duration(span.end_ns - span.start_ns)],
      ['From', `${instant(span.start_ns, apart)} to ${instant(span.end_ns, apart)}`],
      ['Thread', span.thread === undefined ? null : String(span.thread)],
      ...Object.entries(span.attributes ?? {}).map(([name, found]) => [name, value(found)]),
      ['Ran with', span.links?.length > 1 ? `${span.links.length - 1} other traced requests` : null],
    ], 'wide'),
  ];
}
