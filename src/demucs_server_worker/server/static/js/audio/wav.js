// Reading a WAV file's header, its samples in pieces, and writing one. Pure: bytes in, values out.

/**
 * @typedef {object} WavLayout
 * @property {number} sampleRate hertz
 * @property {number} channels
 * @property {number} bits of one sample: 16, 24 or 32
 * @property {boolean} float whether samples are floating point (32 bits)
 * @property {number} dataStart where the samples begin, in bytes from the start of the file
 * @property {number} frames samples of each channel
 */

const PCM = 1;
const FLOAT = 3;
const EXTENSIBLE = 0xfffe;
export const WAV_HEADER_BYTES = 44;

/**
 * Reads the header. Layout after the "Multimedia Programming Interface and Data Specifications 1.0" (RIFF WAVE) and,
 * for EXTENSIBLE, Microsoft's WAVEFORMATEXTENSIBLE, whose sub-format begins with the plain format's number.
 * @param {ArrayBuffer} bytes the file's beginning, up to the data chunk at least
 * @param {number} fileBytes size of the whole file: bounds a data chunk that a streaming writer left open
 * @returns {WavLayout}
 */
export function readHeader(bytes, fileBytes) {
  const view = new DataView(bytes);
  if (bytes.byteLength < 12 || text(view, 0) !== "RIFF" || text(view, 8) !== "WAVE") throw new Error("not a WAV file");
  /** @type {Omit<WavLayout, "dataStart" | "frames"> | null} */
  let format = null;
  for (let at = 12; at + 8 <= bytes.byteLength; ) {
    const [name, size] = [text(view, at), view.getUint32(at + 4, true)];
    if (name === "fmt ") format = readFormat(view, at + 8);
    if (name === "data" && format) {
      const frameBytes = (format.channels * format.bits) / 8;
      const available = Math.min(size, fileBytes - at - 8);
      return { ...format, dataStart: at + 8, frames: Math.floor(available / frameBytes) };
    }
    at += 8 + size + (size % 2); // chunks are padded to even sizes
  }
  throw new Error("the WAV file has no data chunk within its first bytes");
}

/**
 * @param {DataView} view
 * @param {number} at
 */
function readFormat(view, at) {
  const tag = view.getUint16(at, true);
  const kind = tag === EXTENSIBLE ? view.getUint16(at + 24, true) : tag;
  const bits = view.getUint16(at + 14, true);
  const known = (kind === PCM && (bits === 16 || bits === 24)) || (kind === FLOAT && bits === 32);
  if (!known) throw new Error(`WAV format ${kind} with ${bits} bits is not read here`);
  return {
    sampleRate: view.getUint32(at + 4, true),
    channels: view.getUint16(at + 2, true),
    bits,
    float: kind === FLOAT,
  };
}

/**
 * @param {DataView} view
 * @param {number} at
 */
function text(view, at) {
  return String.fromCharCode(...new Uint8Array(view.buffer, view.byteOffset + at, 4));
}

/**
 * Interleaved samples as one array a channel, full scale at 1.
 * @param {ArrayBuffer} bytes whole frames
 * @param {Pick<WavLayout, "channels" | "bits" | "float">} layout
 * @returns {Float32Array<ArrayBuffer>[]} (channels, frames)
 */
export function decodeFrames(bytes, { channels, bits, float }) {
  const frames = Math.floor(bytes.byteLength / ((channels * bits) / 8));
  const sample = sampleReader(bytes, frames * channels, bits, float);
  return Array.from({ length: channels }, (_, channel) => {
    const samples = new Float32Array(frames);
    for (let frame = 0, at = channel; frame < frames; frame++, at += channels) samples[frame] = sample(at);
    return samples; // (frames)
  });
}

/**
 * @param {ArrayBuffer} bytes
 * @param {number} count
 * @param {number} bits
 * @param {boolean} float
 * @returns {(index: number) => number}
 */
function sampleReader(bytes, count, bits, float) {
  if (float) {
    const samples = new Float32Array(bytes, 0, count);
    return (index) => samples[index];
  }
  if (bits === 16) {
    const samples = new Int16Array(bytes, 0, count);
    return (index) => samples[index] / 32_768;
  }
  const octets = new Uint8Array(bytes);
  return (index) => {
    const at = index * 3;
    // Shifted to the top of 32 bits first, so that the sign is the number's own.
    return ((octets[at] << 8) | (octets[at + 1] << 16) | (octets[at + 2] << 24)) / 2_147_483_648;
  };
}

/**
 * The header of a 16-bit stereo WAV file.
 * @param {number} frames
 * @param {number} sampleRate hertz
 * @returns {ArrayBuffer}
 */
export function writeHeader(frames, sampleRate) {
  const [channels, frameBytes] = [2, 4];
  const header = new DataView(new ArrayBuffer(WAV_HEADER_BYTES));
  const put = (/** @type {number} */ at, /** @type {string} */ name) => {
    for (let i = 0; i < name.length; i++) header.setUint8(at + i, name.charCodeAt(i));
  };
  put(0, "RIFF");
  header.setUint32(4, WAV_HEADER_BYTES - 8 + frames * frameBytes, true);
  put(8, "WAVE");
  put(12, "fmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, PCM, true);
  header.setUint16(22, channels, true);
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, sampleRate * frameBytes, true);
  header.setUint16(32, frameBytes, true);
  header.setUint16(34, 16, true);
  put(36, "data");
  header.setUint32(40, frames * frameBytes, true);
  return header.buffer;
}

/**
 * Two channels as interleaved 16-bit samples, rounded, and held within full scale.
 * @param {Float32Array} left
 * @param {Float32Array} right
 * @param {number} gain
 * @returns {Int16Array<ArrayBuffer>}
 */
export function encodeFrames(left, right, gain) {
  const samples = new Int16Array(left.length * 2);
  for (let frame = 0; frame < left.length; frame++) {
    samples[2 * frame] = toInt16(left[frame] * gain);
    samples[2 * frame + 1] = toInt16(right[frame] * gain);
  }
  return samples;
}

/** @param {number} value */
function toInt16(value) {
  return Math.max(-32_768, Math.min(32_767, Math.round(value * 32_768)));
}
