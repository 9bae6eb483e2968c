// NumPy's .npz and .npy: named tensors to and from files.

import { decode, elements } from './tensors.js';

const NUMPY = {
  b1: 'BOOL', u1: 'UINT8', i1: 'INT8', u2: 'UINT16', i2: 'INT16', f2: 'FP16', u4: 'UINT32', i4: 'INT32', f4: 'FP32',
  u8: 'UINT64', i8: 'INT64', f8: 'FP64',
};

/** The tensors of a file, by their names; that of a .npy is the file's. */
export async function read(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[0] === 0x93) return [{ name: file.name.replace(/\.npy$/, ''), ...array(bytes) }];
  const found = [];
  for (const entry of await unzip(bytes)) {
    if (entry.name.endsWith('.npy')) found.push({ name: entry.name.slice(0, -4), ...array(entry.bytes) });
  }
  return found;
}

function array(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 12 || new TextDecoder('latin1').decode(bytes.subarray(1, 6)) !== 'NUMPY') throw new Error('This is not a .npy file.');
  const wide = bytes[6] > 1;
  const start = wide ? 12 : 10;
  const length = wide ? view.getUint32(8, true) : view.getUint16(8, true);
  const head = new TextDecoder().decode(bytes.subarray(start, start + length));
  const field = (pattern) => {
    const match = pattern.exec(head);
    if (!match) throw new Error(`Cannot read the header “${head.slice(0, 100)}”.`);
    return match[1];
  };
  const descriptor = field(/'descr':\s*'([^']*)'/);
  const columns = field(/'fortran_order':\s*(True|False)/) === 'True';
  const shape = field(/'shape':\s*\(([^)]*)\)/).split(',').filter((dim) => dim.trim() !== '').map(Number);
  const data = bytes.slice(start + length);
  const [order, kind] = [descriptor[0], descriptor.slice(1)];
  const size = Number(kind.slice(1)) * (kind[0] === 'U' ? 4 : 1);
  const expected = size * elements(shape);
  if (!(data.length >= expected)) throw new Error(`An array of ${expected} bytes has only ${data.length}.`);
  let plain = data.subarray(0, expected);
  if (order === '>') plain = swapped(plain, kind[0] === 'U' ? 4 : size);
  if (columns && shape.length > 1) plain = byRows(plain, size, shape);
  if (kind[0] === 'U' || kind[0] === 'S') return { datatype: 'BYTES', shape, values: texts(plain, size, kind[0]) };
  // What NumPy calls bf16 when it knows none.
  const datatype = kind === 'V2' ? 'BF16' : NUMPY[kind];
  if (!datatype) throw new Error(`The console does not read arrays of type “${descriptor}”.`);
  return { datatype, shape, bytes: plain.slice() };
}

function swapped(bytes, size) {
  const out = new Uint8Array(bytes.length);
  for (let i = 0; i < bytes.length; i += 1) out[i - (i % size) + size - 1 - (i % size)] = bytes[i];
  return out;
}

/** Elements in the order of rows, which they have in the order of columns. */
function byRows(bytes, size, shape) {
  const out = new Uint8Array(bytes.length);
  const place = shape.map(() => 0);
  const strides = shape.map((_, at) => elements(shape.slice(0, at)));
  for (let to = 0; to < bytes.length; to += size) {
    const from = size * place.reduce((sum, index, at) => sum + index * strides[at], 0);
    out.set(bytes.subarray(from, from + size), to);
    for (let at = shape.length - 1; at >= 0; at -= 1) {
      place[at] += 1;
      if (place[at] < shape[at]) break;
      place[at] = 0;
    }
  }
  return out;
}

function texts(bytes, size, kind) {
  const out = [];
  for (let at = 0; size > 0 && at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    if (kind === 'S') {
      let end = part.length;
      while (end > 0 && part[end - 1] === 0) end -= 1;
      out.push(part.slice(0, end));
    } else {
      const points = new Uint32Array(part.slice().buffer);
      out.push(Array.from(points, (point) => (point === 0 ? '' : String.fromCodePoint(point))).join(''));
    }
  }
  return out;
}

async function unzip(bytes) {
  const view = new DataView(bytes.buffer);
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end -= 1;
  if (end < 0) throw new Error('This is neither a .npz nor a .npy file.');
  const entries = [];
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left -= 1) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== 0x02014b50) throw new Error('The .npz file is damaged.');
    const [method, packed, plain] = [view.getUint16(at + 10, true), view.getUint32(at + 20, true), view.getUint32(at + 24, true)];
    const [nameLength, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const place = view.getUint32(at + 42, true);
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    if ([packed, plain, place].includes(0xffffffff)) throw new Error('Files of 4 GiB and more are too large for the console.');
    if (place + 30 > bytes.length) throw new Error('The .npz file is damaged.');
    const start = place + 30 + view.getUint16(place + 26, true) + view.getUint16(place + 28, true);
    entries.push({ name, bytes: await unpack(bytes.subarray(start, start + packed), method, plain) });
    at += 46 + nameLength + extra + comment;
  }
  return entries;
}

async function unpack(bytes, method, plain) {
  if (method === 0) return bytes;
  if (method !== 8) throw new Error(`The .npz file is packed in a way (${method}) that the console does not know.`);
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw')).getReader();
  const out = new Uint8Array(plain);
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return out.subarray(0, at);
    if (at + value.length > plain) throw new Error('The .npz file is damaged.');
    out.set(value, at);
    at += value.length;
  }
}

/** A .npz file of tensors `{ name, datatype, shape, bytes }`. NumPy knows no bf16: that becomes f32. */
export function write(tensors) {
  return zip(tensors.map((tensor) => [`${tensor.name}.npy`, file(tensor)]));
}

function file({ datatype, shape, bytes }) {
  let [descriptor, data] = [Object.keys(NUMPY).find((kind) => NUMPY[kind] === datatype), bytes];
  if (datatype === 'BF16') [descriptor, data] = ['f4', new Uint8Array(decode('BF16', bytes).buffer)];
  if (datatype === 'BYTES') [descriptor, data] = textData(decode('BYTES', bytes));
  const tuple = `(${shape.join(', ')}${shape.length === 1 ? ',' : ''})`;
  const order = ['b', 'u1', 'i1', 'S'].some((kind) => descriptor.startsWith(kind)) ? '|' : '<';
  let head = `{'descr': '${order}${descriptor}', 'fortran_order': False, 'shape': ${tuple}, }`;
  head += `${' '.repeat(63 - ((10 + head.length) % 64))}\n`;
  const start = new Uint8Array([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, head.length & 255, head.length >> 8]);
  return joined([start, new TextEncoder().encode(head), data]);
}

function textData(values) {
  if (values.every((value) => typeof value === 'string')) {
    const points = values.map((value) => Array.from(value, (character) => character.codePointAt(0)));
    const width = Math.max(1, ...points.map((each) => each.length));
    const data = new Uint32Array(width * values.length);
    points.forEach((each, at) => data.set(each, at * width));
    return [`U${width}`, new Uint8Array(data.buffer)];
  }
  const raw = values.map((value) => (typeof value === 'string' ? new TextEncoder().encode(value) : value));
  const width = Math.max(1, ...raw.map((each) => each.length));
  const data = new Uint8Array(width * values.length);
  raw.forEach((each, at) => data.set(each, at * width));
  return [`S${width}`, data];
}

function joined(parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

function zip(files) {
  const [parts, directory] = [[], []];
  let at = 0;
  for (const [path, data] of files) {
    const name = new TextEncoder().encode(path);
    // Version 2.0, names in UTF-8, stored, 1980-01-01.
    const shared = [20, 0x0800, 0, 0, 0x21];
    const sizes = [checksum(data), data.length, data.length];
    const local = record([[4, 0x04034b50], ...shared.map((value) => [2, value]), ...sizes.map((value) => [4, value]), [2, name.length], [2, 0]]);
    directory.push(record([[4, 0x02014b50], [2, 20], ...shared.map((value) => [2, value]), ...sizes.map((value) => [4, value]),
      [2, name.length], [2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, at]]), name);
    parts.push(local, name, data);
    at += local.length + name.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = record([[4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, at], [2, 0]]);
  return joined([...parts, ...directory, end]);
}

/** Fields `[bytes, value]`, little-endian. */
function record(fields) {
  const out = new Uint8Array(fields.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return out;
}

const CHECKSUMS = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function checksum(bytes) {
  let value = 0xffffffff;
  for (const byte of bytes) value = CHECKSUMS[(value ^ byte) & 255] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
