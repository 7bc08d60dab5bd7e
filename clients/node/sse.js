/** Server-Sent Events from text as it comes, by the rules of the HTML standard. */
export class SseParser {
  #rest = "";
  #kind = "";
  #data = [];

  /** @param {string} lastId as far as earlier connections got */
  constructor(lastId = "") {
    this.lastId = lastId;
  }

  /** The events that `text` completes: `{kind, data}`. */
  *feed(text) {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (this.#data.length > 0) yield { kind: this.#kind || "message", data: this.#data.join("\n") };
        this.#kind = "";
        this.#data = [];
        continue;
      }
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "data") this.#data.push(value);
      else if (name === "event") this.#kind = value;
      else if (name === "id" && !value.includes("\0")) this.lastId = value;
    }
  }
}
