// The shapes that travel: as the HTTP API gives them, and as modules hand them to one another. Types only.

/** @typedef {"queued" | "running" | "completed" | "failed" | "cancelled"} TaskState */

/**
 * @typedef {object} Stem
 * @property {string} name
 * @property {string} format
 * @property {number} sampleRate hertz
 * @property {number} channels
 * @property {number} durationSeconds
 * @property {number} bytes
 * @property {number} peak the largest absolute sample
 */

/**
 * @typedef {object} Task
 * @property {string} id
 * @property {string | null} projectName
 * @property {string} priority
 * @property {TaskState} state
 * @property {number} attempt
 * @property {number} maxAttempts
 * @property {number} progress 0 to 1
 * @property {string} stage
 * @property {number | null} queuePosition 1 is next
 * @property {number | null} etaSeconds
 * @property {string} createdAt
 * @property {string | null} startedAt
 * @property {string | null} finishedAt
 * @property {string} inputName
 * @property {number | null} durationSeconds
 * @property {{model: string, format: string, stems: string[] | null, twoStems: string | null}} options
 * @property {Stem[]} stems
 * @property {{code: string, message: string, retryable: boolean} | null} error
 * @property {boolean} [cached] answered from an earlier result
 */

/**
 * @typedef {object} WorkerStatus
 * @property {string} id
 * @property {string} state starting, idle, busy, stopping or dead
 * @property {string | null} device
 * @property {string | null} taskId
 * @property {number} progress 0 to 1
 * @property {number} tasksDone
 * @property {number} restarts
 * @property {number | null} rssBytes
 * @property {number | null} cpuPercent of one core
 */

/**
 * @typedef {object} Status
 * @property {string} version
 * @property {boolean} accepting
 * @property {{queued: number, running: number, byPriority: Record<string, number>}} queue
 * @property {{completed: number, failed: number, cancelled: number, retried: number}} totals
 * @property {WorkerStatus[]} workers
 * @property {{cpuPercent: number | null, memoryTotalBytes: number | null, memoryAvailableBytes: number | null}} machine
 * @property {{ok: boolean, problems: string[]}} health
 */

/**
 * @typedef {object} Model
 * @property {string} name
 * @property {string[] | null} stems null where only loading it would tell
 * @property {boolean} onDisk otherwise it is fetched first
 */

/**
 * What a user chose for the songs to come.
 * @typedef {object} Choices
 * @property {string} model
 * @property {string} stems "all", "karaoke", or the name of one stem
 * @property {string} format
 * @property {string} priority
 */

/**
 * One channel of the mixer. `fader` is 0 to 1, of which gains.js makes a gain; `pan` is -1 (left) to 1.
 * @typedef {object} Channel
 * @property {string} name
 * @property {number} fader
 * @property {number} pan
 * @property {boolean} muted
 * @property {boolean} solo
 */

/**
 * A part of the song, in frames (one sample of each channel): from `start` up to, not with, `end`.
 * @typedef {{start: number, end: number}} Region
 */

export {};
