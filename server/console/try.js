// A form to run a model: for each input a field made from its metadata.

import { infer, random } from './api.js';
import { el, failure, setText } from './dom.js';
import { shape as shapeText } from './format.js';
import { SCALES, draw, layout, pixels } from './image.js';
import * as npz from './npz.js';
import * as profiles from './profile.js';
import { results } from './results.js';
import { elementBytes, elements, encode, fitShape, isFloat, parse, parseShape } from './tensors.js';

/** More than this is no use in a form. */
const MOST_BYTES = 1 << 30;

/** `ran()` is told when there is an answer. */
export function tryForm({ name, inputs }, version, signal, ran) {
  const fields = inputs.map((input, at) => field(input, at));
  const answer = el('div', { 'aria-live': 'polite' });
  const run = el('button', { class: 'primary' }, 'Run');
  const profile = el('button', { title: 'Run, and time each kernel' }, 'Profile');
  const arrays = el('input', { type: 'file', accept: '.npz,.npy', id: 'arrays', hidden: true });
  const told = el('span', { class: 'quiet' });
  const parameters = el('textarea', { rows: 2, spellcheck: 'false', placeholder: '{"sequence_id": 1, "sequence_start": true}' });
  const fill = async (file) => {
    try {
      const found = await npz.read(file);
      const placed = found.filter((array) => place(array, fields, found));
      const done = placed.length > 0 ? `filled ${placed.map((array) => array.name).join(', ')}` : 'no array has the name of an input';
      setText(told, `${file.name}: ${done}`);
    } catch (error) {
      told.replaceChildren(failure(error));
    }
  };
  arrays.addEventListener('change', () => arrays.files.length > 0 && fill(arrays.files[0]));
  const submit = async (event) => {
    event.preventDefault();
    run.disabled = profile.disabled = true;
    try {
      const tensors = [];
      for (const each of fields) tensors.push(await each.tensor());
      const id = `console-${random(8)}`;
      const request = { id, inputs: tensors, parameters: given(parameters.value) };
      const once = () => infer(name, version, request, signal);
      if (event.submitter === profile) {
        const { got, profile: found } = await profiles.profiled(name, version, once, signal);
        answer.replaceChildren(results(name, id, got), await profiles.shown(name, id, found, signal));
      } else {
        answer.replaceChildren(results(name, id, await once()));
      }
      ran();
    } catch (error) {
      if (!signal.aborted) answer.replaceChildren(failure(error));
    } finally {
      run.disabled = profile.disabled = false;
    }
  };
  return el('form', { class: 'try', onsubmit: submit },
    fields.map((each) => each.node),
    el('details', {}, el('summary', {}, 'Parameters'), labelled('parameters', 'A JSON object', parameters)),
    el('div', { class: 'row' }, run, profile,
      el('button', { type: 'button', onclick: () => arrays.click() }, 'Fill from .npz…'), arrays, told),
    answer);
}

function given(text) {
  if (text.trim() === '') return {};
  try {
    const value = JSON.parse(text);
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) return value;
  } catch { /* It is none. */ }
  throw new Error('The parameters are no JSON object.');
}

/** Gives an array to the input of its name, or to the only one. */
function place(array, fields, all) {
  const found = fields.find((each) => each.name === array.name) ?? (fields.length === 1 && all.length === 1 ? fields[0] : null);
  found?.put(array);
  return found !== null;
}

/** `{ name, node, tensor(), put(array) }` of an input. */
function field({ name, datatype, shape: dims }, at) {
  const id = `input-${at}`;
  const picture = datatype === 'BYTES' ? null : layout(dims);
  const ways = {
    numbers: ['Numbers', numbers(id, datatype, dims)],
    ...(picture ? { image: ['Image', image(id, datatype, picture)] } : {}),
    ...(datatype === 'BYTES' ? {} : { made: ['Random', made(id, datatype, dims)] }),
    array: ['Array', array(id, datatype)],
  };
  const pick = el('select', { id: `${id}-way`, 'aria-label': `How to give ${name}` },
    Object.entries(ways).map(([value, [label]]) => el('option', { value }, label)));
  const turn = () => {
    for (const [value, [, way]] of Object.entries(ways)) way.node.hidden = value !== pick.value;
  };
  pick.addEventListener('change', turn);
  turn();
  return {
    name,
    node: el('fieldset', {}, el('legend', {}, el('code', {}, name), ` ${datatype} ${shapeText(dims)}`), pick,
      Object.values(ways).map(([, way]) => way.node)),
    async tensor() {
      try {
        const { shape, bytes } = await ways[pick.value][1].tensor();
        return { name, datatype, shape, bytes };
      } catch (error) {
        throw new Error(`${name}: ${error.message}`, { cause: error });
      }
    },
    put(found) {
      ways.array[1].put(found);
      pick.value = 'array';
      turn();
    },
  };
}

const plainShape = (dims, unknown) => dims.map((dim) => (Number(dim) < 0 ? unknown : String(dim))).join(' × ');

function labelled(id, label, input, kind) {
  input.id = id;
  return el('div', { class: kind ?? 'labelled' }, el('label', { for: id }, label), input);
}

function numbers(id, datatype, dims) {
  const free = dims.filter((dim) => Number(dim) < 0).length;
  const shape = el('input', { value: plainShape(dims, free === 1 ? '?' : '1'), spellcheck: 'false', autocomplete: 'off' });
  const example = datatype === 'BYTES' ? 'one, two or ["one", "two"]' : '1, 2, 3 or [[1, 2], [3, 4]]';
  const text = el('textarea', { rows: 3, placeholder: example, spellcheck: 'false', autocomplete: 'off' });
  return {
    node: el('div', { class: 'way' },
      labelled(`${id}-numbers`, datatype === 'BYTES' ? 'Texts' : 'Numbers', text),
      labelled(`${id}-shape`, 'Shape of what is no nested list', shape)),
    async tensor() {
      const found = parse(text.value, datatype);
      const nested = found.shape && found.shape.length > 1 ? found.shape : null;
      return { shape: nested ?? fitShape(parseShape(shape.value), found.values.length), bytes: encode(datatype, found.values) };
    },
  };
}

function image(id, datatype, picture) {
  const size = (dim) => (dim > 0 ? dim : 224);
  const file = el('input', { type: 'file', accept: 'image/*' });
  const canvas = el('canvas', { class: 'preview', width: 1, height: 1, role: 'img', 'aria-label': 'What the model is given' });
  const [width, height] = [picture.width, picture.height].map((dim) => (
    el('input', { type: 'number', min: 1, max: 8192, value: size(dim), readonly: dim > 0 })));
  const fit = el('select', {}, el('option', { value: 'whole' }, 'whole, stretched'), el('option', { value: 'fill' }, 'middle, cropped'));
  const scale = el('select', {}, Object.keys(SCALES).concat('own').map((each) => el('option', {}, each)));
  const [mean, deviation] = ['0, 0, 0', '1, 1, 1'].map((value) => el('input', { value, autocomplete: 'off' }));
  const own = el('div', { class: 'row', hidden: true },
    labelled(`${id}-mean`, 'Mean of 0 to 1', mean), labelled(`${id}-deviation`, 'Deviation', deviation));
  const bgr = el('input', { type: 'checkbox' });
  const invert = el('input', { type: 'checkbox' });
  scale.value = isFloat(datatype) ? '0 to 1' : '0 to 255';
  scale.addEventListener('change', () => { own.hidden = scale.value !== 'own'; });
  const render = () => draw(file.files[0], canvas, Number(width.value), Number(height.value), fit.value === 'fill');
  for (const each of [file, width, height, fit]) {
    each.addEventListener('change', () => file.files.length > 0 && render().catch(() => {}));
  }
  const channels = (input) => {
    const values = input.value.split(/[\s,]+/).filter((text) => text !== '').map(Number);
    if (values.some(Number.isNaN) || ![1, 3].includes(values.length)) throw new Error('Mean and deviation are one number or three.');
    return values.length === 1 ? [values[0], values[0], values[0]] : values;
  };
  return {
    node: el('div', { class: 'way' },
      el('div', { class: 'row' }, labelled(`${id}-file`, 'Picture', file), canvas),
      el('div', { class: 'row' },
        labelled(`${id}-width`, 'Width', width), labelled(`${id}-height`, 'Height', height),
        labelled(`${id}-fit`, 'Fit', fit), labelled(`${id}-scale`, 'Values', scale)),
      own,
      el('div', { class: 'row' },
        picture.channels === 3 ? labelled(`${id}-bgr`, 'Blue first', bgr, 'check') : null,
        labelled(`${id}-invert`, 'Invert', invert, 'check'),
        el('span', { class: 'quiet' }, `as ${picture.kind}`))),
    async tensor() {
      if (file.files.length === 0) throw new Error('Choose a picture.');
      await render();
      const [m, d] = scale.value === 'own' ? [channels(mean), channels(deviation)] : SCALES[scale.value];
      const { shape, values } = pixels(canvas, picture, { mean: m, deviation: d, bgr: bgr.checked, invert: invert.checked });
      return { shape, bytes: encode(datatype, isFloat(datatype) ? values : values.map(Math.round)) };
    },
  };
}

function made(id, datatype, dims) {
  const shape = el('input', { value: plainShape(dims, '1'), spellcheck: 'false', autocomplete: 'off' });
  const float = isFloat(datatype);
  const [least, most] = [0, float || datatype === 'BOOL' ? 1 : 9].map((value) => el('input', { type: 'number', step: 'any', value }));
  return {
    node: el('div', { class: 'way row' },
      labelled(`${id}-made-shape`, 'Shape', shape),
      labelled(`${id}-least`, 'From', least), labelled(`${id}-most`, float ? 'To' : 'To and with', most)),
    async tensor() {
      const sizes = parseShape(shape.value).map((dim) => dim ?? 1);
      if (elements(sizes) * elementBytes(datatype) > MOST_BYTES) throw new Error('That is more than a GiB.');
      const [from, to] = [Number(least.value), Number(most.value)];
      if (!(from <= to)) throw new Error('“From” is not the smaller number.');
      const value = () => (float ? from + Math.random() * (to - from) : Math.floor(from + Math.random() * (to - from + 1)));
      return { shape: sizes, bytes: encode(datatype, Array.from({ length: elements(sizes) }, value)) };
    },
  };
}

function array(id, datatype) {
  let found = null;
  const file = el('input', { type: 'file', accept: '.npz,.npy' });
  const which = el('select', { hidden: true, 'aria-label': 'Which array' });
  const told = el('p', { class: 'quiet' }, 'A .npy file, or one array of a .npz file.');
  const put = (next) => {
    found = next;
    setText(told, `${found.name}: ${found.datatype} ${shapeText(found.shape)}`);
  };
  file.addEventListener('change', async () => {
    if (file.files.length === 0) return;
    try {
      const arrays = await npz.read(file.files[0]);
      if (arrays.length === 0) throw new Error('The file has no arrays.');
      which.replaceChildren(...arrays.map(({ name }, at) => el('option', { value: at }, name)));
      which.hidden = arrays.length === 1;
      which.onchange = () => put(arrays[Number(which.value)]);
      put(arrays[0]);
    } catch (error) {
      found = null;
      told.replaceChildren(failure(error));
    }
  });
  return {
    node: el('div', { class: 'way' }, el('div', { class: 'row' }, labelled(`${id}-array`, 'File', file), which), told),
    put,
    async tensor() {
      if (!found) throw new Error('Choose a file.');
      if (found.datatype !== datatype) throw new Error(`The array is ${found.datatype}; the input is ${datatype}.`);
      return { shape: found.shape, bytes: found.bytes ?? encode('BYTES', found.values) };
    },
  };
}
