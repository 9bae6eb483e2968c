// Elements of tensors: the protocol's types as bytes, and numbers as people write them.

import { number } from './format.js';

/** Bytes of an element, and the array that holds it as it is; BYTES has neither. */
const TYPES = {
  BOOL: [1, Uint8Array], UINT8: [1, Uint8Array], INT8: [1, Int8Array],
  UINT16: [2, Uint16Array], INT16: [2, Int16Array], FP16: [2, Uint16Array], BF16: [2, Uint16Array],
  UINT32: [4, Uint32Array], INT32: [4, Int32Array], FP32: [4, Float32Array],
  UINT64: [8, BigUint64Array], INT64: [8, BigInt64Array], FP64: [8, Float64Array],
  BYTES: [0, null],
};

/** The integers that each type has. */
const RANGES = {
  BOOL: [0n, 1n], UINT8: [0n, 255n], INT8: [-128n, 127n], UINT16: [0n, 65535n], INT16: [-32768n, 32767n],
  UINT32: [0n, 2n ** 32n - 1n], INT32: [-(2n ** 31n), 2n ** 31n - 1n], UINT64: [0n, 2n ** 64n - 1n], INT64: [-(2n ** 63n), 2n ** 63n - 1n],
};

export const isFloat = (datatype) => ['FP16', 'BF16', 'FP32', 'FP64'].includes(datatype);
export const elementBytes = (datatype) => TYPES[datatype]?.[0] ?? 0;
export const elements = (shape) => shape.reduce((product, dim) => product * Number(dim), 1);

/** Bytes of elements that are numbers (texts for BYTES), little-endian as every machine that browsers run on. */
export function encode(datatype, values) {
  if (datatype === 'BYTES') return encodeTexts(values);
  const [, array] = known(datatype);
  const out = new array(values.length);
  const convert = { FP16: halfBits, BF16: brainBits }[datatype] ?? (elementBytes(datatype) === 8 && !isFloat(datatype) ? BigInt : Number);
  for (let i = 0; i < values.length; i += 1) out[i] = convert(values[i]);
  return new Uint8Array(out.buffer);
}

/** The elements of bytes: numbers, 64-bit integers as BigInt, texts. */
export function decode(datatype, bytes) {
  if (datatype === 'BYTES') return decodeTexts(bytes);
  const [size, array] = known(datatype);
  const whole = new array(bytes.slice(0, bytes.length - (bytes.length % size)).buffer);
  if (datatype === 'FP16') return Float32Array.from(whole, halfValue);
  if (datatype === 'BF16') return Float32Array.from(whole, brainValue);
  return whole;
}

function known(datatype) {
  const type = TYPES[datatype];
  if (!type) throw new Error(`The console does not know datatype ${datatype}.`);
  return type;
}

function encodeTexts(texts) {
  const parts = texts.map((text) => (typeof text === 'string' ? new TextEncoder().encode(text) : text));
  const out = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    out.set(part, at + 4);
    at += 4 + part.length;
  }
  return out;
}

/** Texts, or the bytes where they are none. */
function decodeTexts(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const out = [];
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = view.getUint32(at, true);
    const part = bytes.subarray(at + 4, at + 4 + length);
    try {
      out.push(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(part));
    } catch {
      out.push(part.slice());
    }
    at += 4 + length;
  }
  return out;
}

const scratch = new DataView(new ArrayBuffer(4));

function floatBits(value) {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

function bitsFloat(bits) {
  scratch.setUint32(0, bits);
  return scratch.getFloat32(0);
}

/** Rounds bits off, to the nearest and halves to even. */
function rounded(bits, off) {
  const half = 2 ** (off - 1);
  const rest = bits % (2 * half);
  const kept = Math.floor(bits / (2 * half));
  return rest > half || (rest === half && kept % 2 === 1) ? kept + 1 : kept;
}

function brainBits(value) {
  const bits = floatBits(Number(value));
  // A NaN that is rounded could become an infinity.
  return Number.isNaN(Number(value)) ? 0x7fc0 : rounded(bits, 16) & 0xffff;
}

function brainValue(bits) {
  return bitsFloat(bits * 65536);
}

function halfBits(value) {
  const bits = floatBits(Number(value));
  const sign = (bits >>> 31) << 15;
  const exponent = (bits >>> 23) & 0xff;
  const fraction = bits & 0x7fffff;
  if (exponent === 0xff) return sign | (fraction === 0 ? 0x7c00 : 0x7e00);
  const power = exponent - 112;
  if (power >= 31) return sign | 0x7c00;
  // What a carry makes larger is the next power, up to infinity.
  if (power > 0) return sign | (power * 1024 + rounded(fraction, 13));
  if (power < -10) return sign;
  return sign | rounded(fraction + 0x800000, 14 - power);
}

function halfValue(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >>> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/**
 * Reads numbers or texts: `1, 2 3`, or lists in lists, whose nesting is the shape (null where there is none).
 * Texts are bare words or in quotes, as JSON has them.
 */
export function parse(text, datatype) {
  const token = /\s*(?:([[\],])|("(?:[^"\\]|\\.)*")|([^\s[\],"]+))/y;
  const [values, sizes, counts] = [[], [], []];
  let [nested, depth] = [false, null];
  const ended = (level) => {
    const size = counts.pop();
    if (sizes[level] !== undefined && sizes[level] !== size) throw new Error(`Lists of ${sizes[level]} and of ${size} elements do not make a tensor.`);
    sizes[level] = size;
  };
  const trimmed = text.trimEnd();
  while (token.lastIndex < trimmed.length) {
    const at = token.lastIndex;
    const found = token.exec(trimmed);
    if (!found) throw new Error(`Cannot read “${trimmed.slice(at, at + 20)}”.`);
    const [, sign, quoted, bare] = found;
    if (sign === '[') {
      if (nested && counts.length === 0) throw new Error('There is more after the end of the list.');
      nested = true;
      if (counts.length > 0) counts[counts.length - 1] += 1;
      counts.push(0);
    } else if (sign === ']') {
      if (counts.length === 0) throw new Error('A “]” closes no list.');
      ended(counts.length - 1);
    } else if (sign !== ',') {
      if (nested && counts.length === 0) throw new Error('There is more after the end of the list.');
      if (counts.length > 0) counts[counts.length - 1] += 1;
      depth ??= counts.length;
      if (depth !== counts.length) throw new Error('Numbers and lists are mixed.');
      values.push(element(quoted ? JSON.parse(quoted) : bare, datatype));
    }
  }
  if (counts.length > 0) throw new Error('A list is not closed.');
  if (nested && sizes.reduce((product, size) => product * size, 1) !== values.length) throw new Error('Numbers and lists are mixed.');
  return { values, shape: nested ? sizes : null };
}

function element(text, datatype) {
  if (datatype === 'BYTES') return text;
  const lower = text.toLowerCase();
  if (datatype === 'BOOL' && ['true', 'false'].includes(lower)) return lower === 'true' ? 1 : 0;
  if (isFloat(datatype)) {
    const value = { nan: NaN, inf: Infinity, '+inf': Infinity, '-inf': -Infinity }[lower] ?? Number(text);
    if (Number.isNaN(value) && lower !== 'nan') throw new Error(`“${text}” is not a number.`);
    return value;
  }
  if (!/^[+-]?\d+$/.test(text)) throw new Error(`“${text}” is not an integer; the input is ${datatype}.`);
  const value = BigInt(text.replace('+', ''));
  const [least, most] = RANGES[datatype];
  if (value < least || value > most) throw new Error(`${text} is out of the range of ${datatype}, ${least} to ${most}.`);
  return value;
}

/** Reads `1 × 3 × ?`; what is no number is null. */
export function parseShape(text) {
  const parts = text.trim() === '' || text.trim() === 'scalar' ? [] : text.trim().split(/[\s,x×]+/).filter((part) => part !== '');
  return parts.map((part) => {
    if (part === '?' || part === '-1') return null;
    if (!/^\d+$/.test(part)) throw new Error(`“${part}” is not a size; a shape is like 1 × 3 × 224.`);
    return Number(part);
  });
}

/** The shape with its one unknown size, if any, found from the number of elements. */
export function fitShape(shape, count) {
  const unknown = shape.filter((dim) => dim === null).length;
  const known = elements(shape.filter((dim) => dim !== null));
  if (unknown > 1) throw new Error('Only one size can be found from the number of elements; fill in the others.');
  if (unknown === 1 && (known === 0 || count % known !== 0)) throw new Error(`${count} elements do not fill rows of ${known}.`);
  const fitted = shape.map((dim) => dim ?? count / known);
  if (elements(fitted) !== count) throw new Error(`The shape has ${elements(fitted)} elements; ${count} are given.`);
  return fitted;
}

/** What is to be said of many numbers. */
export function statistics(values) {
  let [count, nan, infinite, least, most, sum, squares] = [0, 0, 0, Infinity, -Infinity, 0, 0];
  for (const element of values) {
    const value = Number(element);
    if (Number.isNaN(value)) nan += 1;
    else if (!Number.isFinite(value)) infinite += 1;
    else {
      count += 1;
      [least, most] = [Math.min(least, value), Math.max(most, value)];
      sum += value;
      squares += value * value;
    }
  }
  const mean = sum / count;
  return { count, nan, infinite, least, most, mean, deviation: Math.sqrt(Math.max(0, squares / count - mean * mean)) };
}

/** An element for people. */
export function shown(value) {
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return typeof value === 'string' ? JSON.stringify(value) : number(typeof value === 'bigint' ? String(value) : value);
}
