// Numbers as people read them.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

export function bytes(count) {
  let [size, unit] = [count, 0];
  while (size >= 1024 && unit < UNITS.length - 1) [size, unit] = [size / 1024, unit + 1];
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toPrecision(3)} ${UNITS[unit]}`;
}

const TIMES = [[1e9, 's'], [1e6, 'ms'], [1e3, 'µs'], [1, 'ns']];

/** A duration in nanoseconds, to three digits. */
export function duration(ns) {
  const [size, unit] = TIMES.find(([size]) => ns >= size) ?? TIMES[3];
  const value = ns / size;
  return `${value >= 100 ? Math.round(value) : Number(value.toPrecision(3))} ${unit}`;
}

/** A point in time in nanoseconds, told apart from others so far away. */
export function instant(ns, apart) {
  const [size, unit] = TIMES.find(([size]) => ns >= size) ?? TIMES[3];
  const digits = Math.min(9, Math.max(0, Math.ceil(Math.log10(size / Math.max(apart, 1)))));
  return `${Number((ns / size).toFixed(digits))} ${unit}`;
}

export function count(number) {
  return number.toLocaleString('en');
}

/** So many of a thing. */
export function many(number, thing) {
  return `${count(number)} ${thing}${number === 1 ? '' : 's'}`;
}

/** A rate, to two digits where it is small. */
export function rate(perSecond) {
  return perSecond >= 10 ? count(Math.round(perSecond)) : String(Number(perSecond.toFixed(1)));
}

export function number(value) {
  if (typeof value !== 'number') return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-4 || size >= 1e7) ? value.toExponential(3) : String(Number(value.toPrecision(5)));
}

/** `[-1, 3, 8]` as `? × 3 × 8`. */
export function shape(dims) {
  return dims.length === 0 ? 'scalar' : dims.map((dim) => (Number(dim) < 0 ? '?' : String(dim))).join(' × ');
}

export function time(date) {
  return date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 });
}

export function ago(ms) {
  const seconds = Math.max(0, Math.round((Date.now() - ms) / 1000));
  if (seconds < 5) return 'just now';
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return new Date(ms).toLocaleString();
}
