// What has been handed to the audio clock: which part of the song sounds at which frame of the context. Pure but for
// the nodes it keeps, which are stopped together.

/**
 * @typedef {object} Entry
 * @property {number} song first frame in the song
 * @property {number} context the context's frame at which it sounds
 * @property {number} frames
 * @property {AudioScheduledSourceNode[]} nodes one a stem
 */

export class Schedule {
  /** @type {Entry[]} in the order of the context's frames */
  entries = [];

  /** The context's frame behind the last entry; 0 when there is none. */
  get end() {
    const last = this.entries.at(-1);
    return last ? last.context + last.frames : 0;
  }

  /** @param {Entry} entry */
  add(entry) {
    this.entries.push(entry);
  }

  /**
   * The song's frame that sounds at a frame of the context; in a gap the one that comes next.
   * @param {number} frame
   * @returns {number | null} null when nothing is scheduled there or later
   */
  songFrameAt(frame) {
    const entry = this.entries.find((each) => frame < each.context + each.frames);
    return entry ? entry.song + Math.max(0, frame - entry.context) : null;
  }

  /**
   * Ends everything at a frame of the context.
   * @param {number} frame
   * @param {number} sampleRate
   */
  cut(frame, sampleRate) {
    for (const entry of this.entries) {
      if (frame < entry.context + entry.frames) entry.nodes.forEach((node) => node.stop(frame / sampleRate));
    }
    this.entries = this.entries.filter((entry) => entry.context < frame);
    const last = this.entries.at(-1);
    if (last) last.frames = Math.min(last.frames, frame - last.context);
  }

  /**
   * Forgets what has been heard.
   * @param {number} frame of the context
   */
  forgetBefore(frame) {
    this.entries = this.entries.filter((entry) => entry.context + entry.frames > frame);
  }
}
