// Making and changing elements. Texts become text nodes: what a server says is never read as markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An element with attributes (`onclick` and the like listen) and children; what is null or false is left out. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for a picture's elements. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked') node[name] = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  const there = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  node.append(...there.map((child) => (child instanceof Node ? child : visible(String(child)))));
  return node;
}

export function setText(node, text) {
  const shown = visible(text);
  if (node.textContent !== shown) node.textContent = shown;
}

/** A text whose control characters are to be seen: some of them turn around what is written after them. */
function visible(text) {
  const controls = /[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
  return text.replace(controls, (character) => `\\u{${character.codePointAt(0).toString(16)}}`);
}

/**
 * Keeps the children of `parent` in step with `items`, each of which keeps its element by its key: focus and
 * selection outlive a refresh. `make(item)` gives `{ node, update(item) }`.
 */
export function keyed(parent, items, key, make) {
  const before = parent.keyedRows ?? new Map();
  const after = new Map();
  let at = parent.firstElementChild;
  for (const item of items) {
    const row = before.get(key(item)) ?? make(item);
    row.update(item);
    after.set(key(item), row);
    if (row.node === at) at = at.nextElementSibling;
    else parent.insertBefore(row.node, at);
  }
  for (const [name, row] of before) if (!after.has(name)) row.node.remove();
  parent.keyedRows = after;
}

/** A table's frame, which scrolls by itself where it is too wide. */
export function table(headings, body = el('tbody'), attributes = {}) {
  const cells = headings.map((heading) => {
    const [text, kind] = Array.isArray(heading) ? heading : [heading, null];
    return el('th', { scope: 'col', class: kind }, text);
  });
  return el('div', { class: 'scroll' }, el('table', attributes, el('thead', {}, el('tr', {}, cells)), body));
}

/** Terms and what they are, `wide` beside one another; pairs whose second is null are left out. */
export function facts(pairs, kind = '') {
  const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return el('dl', { class: `facts ${kind}` }, known.map(([term, value]) => el('div', {}, el('dt', {}, term), el('dd', {}, value))));
}

export function badge(word) {
  const node = el('span', { class: 'badge' });
  setBadge(node, word);
  return node;
}

export function setBadge(node, word) {
  node.dataset.state = word.toLowerCase();
  setText(node, word.toLowerCase());
}

/** Says it to those who see and to those who listen. */
export function say(text) {
  const said = document.getElementById('said');
  setText(said, text);
  clearTimeout(said.timer);
  said.timer = setTimeout(() => setText(said, ''), 6000);
}

/** An error where it happened. */
export function failure(error) {
  return el('p', { class: 'failure', role: 'alert' }, error instanceof Error ? error.message : String(error));
}

/** Asks before something that cannot be taken back; resolves to whether to do it. */
export function confirm(question, explanation, action) {
  return dialog((close) => [
    el('h2', {}, question),
    el('p', {}, explanation),
    el('div', { class: 'row end' },
      el('button', { type: 'button', onclick: () => close(false) }, 'Cancel'),
      el('button', { type: 'button', class: 'danger', autofocus: true, onclick: () => close(true) }, action)),
  ]);
}

/** A dialog of what `content(close)` gives; resolves to what it was closed with, undefined for Escape. */
export function dialog(content) {
  return new Promise((resolve) => {
    let answer;
    const box = el('dialog', {});
    const close = (value) => { answer = value; box.close(); };
    box.append(...content(close));
    box.setAttribute('aria-label', box.querySelector('h2')?.textContent ?? '');
    box.addEventListener('close', () => { box.remove(); resolve(answer); });
    document.body.append(box);
    box.showModal();
  });
}
