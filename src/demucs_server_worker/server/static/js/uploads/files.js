// What was dropped or chosen, as a list of files: folders are walked, and what cannot be a song in them is left out.

/** @typedef {{file: File, folder: string}} Found folder: the dropped folder that it was in, or "" */

/** Endings that files beside songs have. Whatever else there is, the server may judge. */
const NO_SONG = /\.(jpe?g|png|gif|bmp|webp|svg|pdf|txt|nfo|md|log|cue|m3u8?|pls|ini|db|json|xml|html?|zip|rar|7z|lrc|sfv)$/i;

/**
 * @param {DataTransfer} data of a drop event, read before the event is over
 * @returns {Promise<Found[]>}
 */
export async function dropped(data) {
  const entries = [...data.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  if (entries.length === 0) return [...data.files].map((file) => ({ file, folder: "" }));
  const found = await Promise.all(entries.map((entry) => walk(entry, entry.isDirectory ? entry.name : "")));
  return found.flat();
}

/**
 * @param {FileList} files of an input
 * @returns {Found[]}
 */
export function chosen(files) {
  const found = [...files].map((file) => ({ file, folder: file.webkitRelativePath.split("/").slice(0, -1)[0] ?? "" }));
  return found.filter(({ file, folder }) => !folder || mayBeSong(file.name));
}

/**
 * @param {FileSystemEntry} entry
 * @param {string} folder the dropped folder that it is in, or ""
 * @returns {Promise<Found[]>}
 */
async function walk(entry, folder) {
  if (entry.isFile) {
    if (folder && !mayBeSong(entry.name)) return [];
    const file = await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject));
    return [{ file, folder }];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  /** @type {Found[]} */
  const found = [];
  for (;;) {
    // A reader gives its entries in portions, and an empty one at the end.
    const portion = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (portion.length === 0) return found;
    for (const each of portion) found.push(...(await walk(each, folder)));
  }
}

/** @param {string} name */
function mayBeSong(name) {
  return !name.startsWith(".") && !NO_SONG.test(name);
}
