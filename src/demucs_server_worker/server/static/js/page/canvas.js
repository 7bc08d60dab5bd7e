// A canvas with as many pixels as the screen has where it lies: sharp at any zoom and on any screen.

/** @type {Set<() => void>} */
const painters = new Set();

export class SharpCanvas {
  /**
   * @param {HTMLCanvasElement} canvas sized by CSS
   * @param {() => void} draw called after each change of its size
   */
  constructor(canvas, draw) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    this.ratio = window.devicePixelRatio;
    const observer = new ResizeObserver(([entry]) => {
      const exact = entry.devicePixelContentBoxSize?.[0];
      this.ratio = window.devicePixelRatio;
      canvas.width = pixels(entry.contentRect.width * this.ratio, exact?.inlineSize);
      canvas.height = pixels(entry.contentRect.height * this.ratio, exact?.blockSize);
      draw();
    });
    try {
      observer.observe(canvas, { box: "device-pixel-content-box" });
    } catch {
      observer.observe(canvas); // Safari knows no device pixels here
    }
    painters.add(draw);
    this.close = () => {
      observer.disconnect();
      painters.delete(draw);
    };
  }

  get width() {
    return this.canvas.width;
  }

  get height() {
    return this.canvas.height;
  }
}

// A canvas does not follow the colours of the page by itself.
const repaint = () => painters.forEach((draw) => draw());
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-theme"] });

/**
 * Pixels of the screen: as the browser tells them, since the product of a CSS size and the ratio may lie beside whole ones.
 * Where a screen is only imitated (developer tools), what it tells is of the real one, and the product holds.
 * @param {number} product
 * @param {number | undefined} told
 */
function pixels(product, told) {
  return told !== undefined && Math.abs(told - product) < 1 ? told : Math.round(product);
}
