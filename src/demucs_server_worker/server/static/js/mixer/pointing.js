// The pointer on a waveform: a click seeks, a drag marks a loop.

/** Less is a click of an unsteady hand; CSS pixels. */
const DRAG_PIXELS = 5;

/**
 * @param {HTMLElement} area what stands for the whole song, left to right
 * @param {{seek: (part: number) => void, drag: (from: number, to: number) => void,
 *   release: (from: number, to: number) => void}} acts with parts of the song, 0 to 1, `from` before `to`
 */
export function followPointer(area, { seek, drag, release }) {
  /** @type {{x: number, dragging: boolean} | null} */
  let down = null;
  const part = (/** @type {number} */ x) => {
    const { left, width } = area.getBoundingClientRect();
    return Math.max(0, Math.min(1, (x - left) / width));
  };
  const ordered = (/** @type {number} */ a, /** @type {number} */ b) =>
    /** @type {[number, number]} */ ([part(Math.min(a, b)), part(Math.max(a, b))]);

  area.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    area.setPointerCapture(event.pointerId);
    down = { x: event.clientX, dragging: false };
  });
  area.addEventListener("pointermove", (event) => {
    if (!down) return;
    down.dragging ||= Math.abs(event.clientX - down.x) > DRAG_PIXELS;
    if (down.dragging) drag(...ordered(down.x, event.clientX));
  });
  area.addEventListener("pointerup", (event) => {
    if (down?.dragging) release(...ordered(down.x, event.clientX));
    else if (down) seek(part(event.clientX));
    down = null;
  });
  // The browser took the pointer for scrolling: nothing was meant.
  area.addEventListener("pointercancel", () => (down = null));
}
