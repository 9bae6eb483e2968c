// REST: addresses, credentials, errors, streams of lines, and inference with binary tensors.

const TOKEN = 'ired.token';

/** What the server refused, in its own words. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const credentials = {
  get token() { return sessionStorage.getItem(TOKEN); },
  set token(token) {
    if (token) sessionStorage.setItem(TOKEN, token);
    else sessionStorage.removeItem(TOKEN);
  },
  /** Set by the page: asks a person for a token; resolves to whether there is another one now. */
  ask: async () => false,
};

/** An address of the server: parts of a path, which may contain anything. */
export function address(...parts) {
  // An address would take these for folders, however they are written.
  const folder = parts.find((part) => part === '.' || part === '..');
  if (folder) throw new Error(`“${folder}” is no name.`);
  return new URL(parts.map(encodeURIComponent).join('/'), document.baseURI).href;
}

/** `models/NAME` or `models/NAME/versions/VERSION`, below `v1` or `v2`. */
export function modelAddress(api, model, version, ...rest) {
  const versions = version ? ['versions', version] : [];
  return address(api, 'models', model, ...versions, ...rest);
}

function headers(more = {}) {
  const { token } = credentials;
  return token ? { authorization: `Bearer ${token}`, ...more } : more;
}

/** The answer to a call; asks for credentials where they are missing. */
export async function call(method, url, { body, type, signal, more } = {}) {
  for (;;) {
    const { token } = credentials;
    const send = headers({ ...(type ? { 'content-type': type } : {}), ...more });
    let response;
    try {
      response = await fetch(url, { method, body, signal, headers: send, cache: 'no-store' });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError(0, 'The server cannot be reached.');
    }
    if (response.ok) return response;
    const error = await refusal(response);
    // Somebody else may have been asked meanwhile.
    const again = error.status === 401 && (credentials.token !== token || await credentials.ask(error.message));
    if (!again || signal?.aborted) throw error;
  }
}

async function refusal(response) {
  const text = await response.text().catch(() => '');
  return new ApiError(response.status, told(text) || `The server answered ${response.status}.`);
}

function told(text) {
  try {
    return String(JSON.parse(text).error);
  } catch {
    return text.slice(0, 2000);
  }
}

export async function get(url, signal) {
  return (await call('GET', url, { signal })).json();
}

/** Sends JSON; the answer's JSON, or null where it has none. */
export async function send(method, url, value, signal) {
  const response = await call(method, url, { body: JSON.stringify(value ?? {}), type: 'application/json', signal });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/** The lines of an answer as they come, each JSON. */
export async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split('\n');
      rest = parts.pop();
      for (const line of parts) if (line) yield JSON.parse(line);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Sends a file and tells how far it is, which `fetch` does not; `progress(sent, of)`. */
export async function upload(url, file, progress, signal) {
  for (;;) {
    const { token } = credentials;
    const { status, text } = await transfer(url, file, progress, signal);
    if (status >= 200 && status < 300) return JSON.parse(text);
    const message = told(text) || (status ? `The server answered ${status}.` : 'The upload broke off.');
    const again = status === 401 && (credentials.token !== token || await credentials.ask(message));
    if (!again || signal?.aborted) throw new ApiError(status, message);
  }
}

function transfer(url, file, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', url);
    for (const [name, value] of Object.entries(headers({ 'content-type': 'application/octet-stream' }))) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => progress(event.loaded, event.total);
    request.onloadend = () => resolve({ status: request.status, text: request.responseText });
    request.onabort = () => reject(new DOMException('given up', 'AbortError'));
    signal?.addEventListener('abort', () => request.abort());
    request.send(file);
  });
}

/** So many random bytes, in hex. */
export function random(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Runs a model, traced. `inputs` are `{ name, datatype, shape, bytes }`, and so are the outputs of the answer, which also
 * says how long it took.
 */
export async function infer(model, version, { id, inputs, parameters }, signal) {
  const described = inputs.map(({ name, datatype, shape, bytes }) => (
    { name, datatype, shape, parameters: { binary_data_size: bytes.length } }));
  const request = JSON.stringify({ id, inputs: described, parameters: { ...parameters, binary_data_output: true } });
  const head = new TextEncoder().encode(request);
  const started = performance.now();
  const response = await call('POST', modelAddress('v2', model, version, 'infer'), {
    body: new Blob([head, ...inputs.map((input) => input.bytes)]),
    type: 'application/octet-stream',
    more: { 'inference-header-content-length': String(head.length), traceparent: `00-${random(16)}-${random(8)}-01` },
    signal,
  });
  const body = new Uint8Array(await response.arrayBuffer());
  const took = performance.now() - started;
  const length = Number(response.headers.get('inference-header-content-length') ?? body.length);
  const answer = JSON.parse(new TextDecoder().decode(body.subarray(0, length)));
  let at = length;
  const outputs = answer.outputs.map(({ name, datatype, shape, parameters }) => {
    const size = parameters?.binary_data_size ?? 0;
    at += size;
    return { name, datatype, shape, bytes: body.slice(at - size, at) };
  });
  return { version: answer.model_version, outputs, took };
}
