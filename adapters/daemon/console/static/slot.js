// A place for an input file. The file is uploaded to the daemon as soon as it is chosen.

import { button, h, icon, named, put, say, show } from "/dom.js";
import { preview } from "/previews.js";
import { refused } from "/sentences.js";
import { bearer, call, Refusal, renewed } from "/session.js";
import { bytes, duration, percent, t } from "/words.js";

const WINDOW = 5000;
const TRIES = 5;

const AT_ONCE = 3;
const queue = [];
let busy = 0;

/** Runs `work` when fewer than `AT_ONCE` uploads run: a browser has only six connections to the daemon. */
async function inTurn(work) {
  if (busy < AT_ONCE) busy += 1;
  else await new Promise((go) => { queue.push(go); });
  try {
    return await work();
  } finally {
    const next = queue.shift();
    if (next) next();
    else busy -= 1;
  }
}

/** The media types of a file, the likely one first; `media` are the endings of each. */
function mediaOf(file, media) {
  const found = Object.keys(media).filter((kind) => media[kind].includes(endingOf(file.name)));
  return found.sort((one, other) => Number(file.type.startsWith(`${other}/`)) - Number(file.type.startsWith(`${one}/`)));
}

const endingOf = (name) => (/\.[a-z0-9]{1,10}$/i.exec(name)?.[0] ?? "").toLowerCase();

/** How well a file fits a slot, 0 is best; -1: not at all. */
export function rank(file, accepts, media) {
  const ending = endingOf(file.name);
  if (!ending) return -1;
  if (!accepts.length) return 1000;
  if (accepts.includes(ending)) return 0;
  const kinds = mediaOf(file, media);
  const at = accepts.findIndex((each) => kinds.includes(each));
  return at < 0 ? -1 : 10 * at + kinds.indexOf(accepts[at]);
}

/**
 * A slot of a kind's input: `kind` is the kind's name, `slot` the input, `media` the endings of each media type, `words`
 * the texts `title`, `hint` and `choose`. `changed()` is called when it has or loses its file.
 */
export class Slot {
  constructor(kind, slot, media, words, changed) {
    Object.assign(this, { slot, media, words, changed });
    this.key = `${kind}.${slot.name}`;
    this.name = slot.name;
    this.accepts = slot.accepts ?? [];
    this.required = slot.required !== false;
    this.upload = null;
    this.before = null;
    this.listed = ""; // the last upload in the daemon's list of unused files
    this.gone = new Set(); // uploads that were used or removed on this page
    this.request = null;
    this.coming = null;
    this.samples = [];
    this.turn = 0;
    const id = `slot-${slot.name}`;
    this.root = h("div", { class: "slot", id });
    const accept = this.accepts.flatMap((each) => (each in media ? [...media[each], ...(["video", "audio", "image"].includes(each) ? [`${each}/*`] : [])] : [each]));
    this.input = h("input", { type: "file", class: "hide", id: `pick-${slot.name}`, accept: accept.join(",") || null,
      "aria-label": words.choose, "aria-describedby": `${id}-text ${id}-wrong`, onchange: () => this.picked() });
    this.shown = h("span", { class: "slot-name" });
    this.text = h("span", { class: "slot-text", id: `${id}-text` });
    this.drawing = ["video", "audio", "image", "text"].find((each) => each === this.accepts[0]) ?? "file";
    this.icon = h("span", { class: "slot-icon" });
    this.label = h("label", { class: "slot-label", for: `pick-${slot.name}` }, this.icon, h("span", { class: "slot-words" }, this.shown, this.text));
    this.fill = h("span");
    this.bar = h("div", { class: "slot-bar", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": words.title, hidden: true }, this.fill);
    this.away = button("", "close", () => this.drop(), "quiet icon");
    this.wrong = h("p", { class: "wrong", id: `${id}-wrong`, role: "alert" });
    this.root.append(this.input, this.label, this.away, this.bar, this.wrong);
    this.showEmpty();
  }

  get sending() {
    return this.root.dataset.slot === "sending";
  }

  picked() {
    const [file] = this.input.files;
    if (file) this.take(file);
    this.input.value = "";
  }

  /** The file is checked here first; one that does not fit is not sent. */
  async take(file) {
    const fault = this.faultOf(file);
    if (fault) return this.complain(fault);
    this.stop();
    this.before ??= this.upload;
    this.upload = null;
    const turn = ++this.turn;
    this.showName(file.name, t("slot.sending", { percent: percent(0), size: bytes(file.size) }), "sending");
    this.changed();
    try {
      const upload = await inTurn(() => (turn === this.turn ? this.whole(file, turn) : null));
      if (turn !== this.turn) return;
      this.upload = upload;
      this.coming = null;
      this.showUpload();
      this.replaced();
    } catch (error) {
      if (turn !== this.turn) return;
      [this.upload, this.before] = [this.before, null];
      if (this.upload) this.showUpload();
      else this.showEmpty();
      this.complain(refused(error, file.name));
    } finally {
      this.changed();
    }
  }

  faultOf(file) {
    if (rank(file, this.accepts, this.media) >= 0) return file.size ? "" : t("bad.empty");
    if (!endingOf(file.name)) return t("bad.no_ending", { name: file.name });
    const known = this.accepts.flatMap((each) => this.media[each] ?? [each]).map((each) => each.slice(1)).sort().join(", ");
    return t("bad.wrong_file", { name: file.name, slot: this.words.title, known });
  }

  /** What the daemon looks for in the file: pictures, sound, or nothing. */
  contentOf(file) {
    const [first] = this.accepts;
    const still = this.media.image.includes(endingOf(file.name)) && !this.media.video.includes(endingOf(file.name));
    return (first === "video" || first === "audio") && !still ? first : "file";
  }

  /** Uploads the file. After a disconnect it is uploaded again, since the page still has it. */
  async whole(file, turn) {
    for (let broken = 0; ;) {
      const shown = bearer().Authorization;
      try {
        const given = await call("POST", "/console/uploads", { kind: this.contentOf(file), name: file.name, size: file.size, accepts: this.accepts, slot: this.key });
        if (turn !== this.turn) return null;
        return await this.send(given, file, turn);
      } catch (error) {
        if (turn === this.turn && error.status === 401) { // sessions end when the daemon stops
          say(this.text, t("slot.again"));
          await renewed(shown);
          if (turn !== this.turn) return null;
          continue;
        }
        if (error.code === "broken") broken += 1;
        if (turn !== this.turn || (error.status && error.code !== "broken") || broken >= TRIES) throw error;
        await file.slice(0, 1).arrayBuffer().catch(() => { throw new Refusal(499, { code: "unreadable" }); });
        this.progress(0, file.size);
        say(this.text, t("slot.again"));
        await new Promise((go) => { setTimeout(go, 1500); });
        if (turn !== this.turn) return null;
      }
    }
  }

  send(given, file, turn) {
    this.samples = [];
    this.coming = given.id;
    return new Promise((done, failed) => {
      const request = new XMLHttpRequest();
      this.request = request;
      request.open("PUT", `/console/uploads/${given.id}`);
      for (const [name, value] of Object.entries(bearer())) request.setRequestHeader(name, value);
      request.upload.onprogress = (event) => { if (turn === this.turn) this.progress(event.loaded, file.size); };
      request.onload = () => {
        let plain = {};
        try { plain = JSON.parse(request.responseText); } catch { /* the answer is not JSON */ }
        if (request.status === 200) done(plain);
        else failed(new Refusal(request.status, plain));
      };
      request.onerror = () => failed(new Refusal(499, { code: "broken" }));
      request.onabort = request.onerror;
      request.onloadend = () => { if (this.request === request) this.request = null; };
      request.send(file);
    });
  }

  progress(sent, size) {
    const part = size ? sent / size : 0;
    this.fill.style.width = `${100 * part}%`;
    put(this.bar, "aria-valuenow", Math.floor(100 * part));
    say(this.text, [t("slot.sending", { percent: percent(part), size: bytes(size) }), ...this.pace(sent, size)].join("  ·  "));
  }

  /** The speed and the time left, as soon as they are known. */
  pace(sent, size) {
    const now = performance.now();
    this.samples.push([now, sent]);
    while (this.samples.length > 2 && now - this.samples[0][0] > WINDOW) this.samples.shift();
    const [[since, before]] = this.samples;
    const rate = (1000 * (sent - before)) / (now - since);
    if (now - since < 800 || !(rate > 0)) return [];
    return [t("card.rate", { rate: bytes(rate) }), t("card.eta", { left: duration((size - sent) / rate) })];
  }

  /** Applies the daemon's list, which may be older than the last action on this page. */
  settle(uploads) {
    if (this.sending) return;
    const others = uploads.filter((one) => one.slot === this.key && !this.gone.has(one.id));
    if (this.upload && uploads.some((one) => one.id === this.upload.id)) this.listed = this.upload.id;
    else if (this.upload && this.listed === this.upload.id) this.clear();
    else if (!this.upload && others.length && this.root.dataset.slot === "empty") {
      this.upload = others.at(-1);
      this.listed = this.upload.id;
      this.showUpload();
    }
  }

  drop() {
    const upload = this.upload;
    this.stop();
    this.clear();
    this.forget(upload);
    this.replaced();
    this.input.focus();
  }

  /** Removes the previous file. */
  replaced() {
    this.forget(this.before);
    this.before = null;
  }

  forget(upload) {
    if (!upload) return;
    this.gone.add(upload.id);
    call("DELETE", `/console/uploads/${upload.id}`).catch(() => {});
  }

  /** Hands the file over to a job. */
  give() {
    const upload = this.upload;
    this.gone.add(upload.id);
    this.clear();
    return upload;
  }

  /** Takes the file back after the job was refused, unless another file was chosen since. */
  takeBack(upload) {
    this.gone.delete(upload.id);
    if (this.upload || this.sending) return;
    this.upload = upload;
    this.showUpload();
  }

  stop() {
    this.turn += 1;
    if (this.request) this.request.abort();
    if (this.coming) this.gone.add(this.coming); // the upload may be complete already
    this.request = this.coming = null;
  }

  clear() {
    this.upload = null;
    this.showEmpty();
    this.changed();
  }

  complain(text) {
    say(this.wrong, text);
  }

  showEmpty() {
    put(this.root, "data-slot", "empty");
    this.shown.replaceChildren(h("strong", { text: this.words.title }), this.required ? "" : h("span", { class: "field-optional", text: t("field.optional") }));
    say(this.text, this.words.hint);
    this.icon.replaceChildren(icon(this.drawing));
    say(this.wrong, "");
    show(this.bar, false);
    show(this.away, false);
  }

  showUpload() {
    const { name, size, seconds } = this.upload;
    this.showName(name, [...(this.words.ours ? [] : [this.words.title]), bytes(size), ...(seconds ? [duration(seconds)] : [])].join("  ·  "), "ready");
    this.showPreview(this.upload);
  }

  /** The picture and the format of the file, as soon as the daemon knows them. */
  async showPreview(upload) {
    const found = await preview(`/console/previews/uploads/${upload.id}`, true);
    if (!found || this.upload !== upload || this.root.dataset.slot !== "ready") return;
    if (found.image) this.icon.replaceChildren(h("img", { src: found.image, alt: "" }));
    if (found.format.length) say(this.text, [this.text.textContent, ...found.format].join("  ·  "));
  }

  showName(name, text, state) {
    put(this.root, "data-slot", state);
    this.shown.replaceChildren(named(name));
    say(this.text, text);
    this.icon.replaceChildren(icon(this.drawing));
    say(this.wrong, "");
    this.fill.style.width = "0";
    show(this.bar, state === "sending");
    show(this.away, true);
    put(this.away, "aria-label", t("slot.remove", { name }));
  }
}
