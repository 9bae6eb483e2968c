// Pictures as inputs: decoded and resized by the browser, laid out as a model wants them.

/** How the values of pixels, 0 to 255, become those of a tensor: `(value / 255 - mean) / deviation` of each channel. */
export const SCALES = {
  '0 to 255': [[0, 0, 0], [1 / 255, 1 / 255, 1 / 255]],
  '0 to 1': [[0, 0, 0], [1, 1, 1]],
  '−1 to 1': [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]],
  ImageNet: [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]],
};

/** Where a shape has channels, height and width; null where it is no picture's. */
export function layout(shape) {
  const dims = shape.map(Number);
  const channels = (dim) => [1, 3].includes(dim);
  if (dims.length === 4 && channels(dims[1])) return { kind: 'NCHW', channels: dims[1], height: dims[2], width: dims[3] };
  if (dims.length === 4 && channels(dims[3])) return { kind: 'NHWC', channels: dims[3], height: dims[1], width: dims[2] };
  if (dims.length === 3 && channels(dims[0])) return { kind: 'CHW', channels: dims[0], height: dims[1], width: dims[2] };
  if (dims.length === 3 && channels(dims[2])) return { kind: 'HWC', channels: dims[2], height: dims[0], width: dims[1] };
  return null;
}

/** Draws a picture into a canvas of this size, whole or filling it. */
export async function draw(file, canvas, width, height, fill) {
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    throw new Error(`The browser cannot read ${file.name} as a picture.`);
  }
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.imageSmoothingQuality = 'high';
  let [x, y, w, h] = [0, 0, picture.width, picture.height];
  if (fill) {
    const scale = Math.min(w / width, h / height);
    [x, y, w, h] = [(w - width * scale) / 2, (h - height * scale) / 2, width * scale, height * scale];
  }
  context.drawImage(picture, x, y, w, h, 0, 0, width, height);
  picture.close();
}

/** The tensor of a canvas: its shape, with a first dimension of one picture where the layout has it, and its numbers. */
export function pixels(canvas, { kind, channels }, { mean, deviation, bgr, invert }) {
  const { width, height } = canvas;
  const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
  const values = new Float32Array(channels * width * height);
  const first = kind.includes('CH');
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    const rgb = [data[4 * pixel], data[4 * pixel + 1], data[4 * pixel + 2]];
    const of = channels === 1 ? [0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]] : bgr ? rgb.toReversed() : rgb;
    for (let channel = 0; channel < channels; channel += 1) {
      const value = (invert ? 255 - of[channel] : of[channel]) / 255;
      const at = first ? channel * width * height + pixel : pixel * channels + channel;
      values[at] = (value - mean[channel]) / deviation[channel];
    }
  }
  const shape = first ? [channels, height, width] : [height, width, channels];
  return { shape: kind.startsWith('N') ? [1, ...shape] : shape, values };
}
