// A place for an input file. The file is uploaded to the daemon as soon as it is chosen.

import { button, h, icon, named, put, say, show } from "/dom.js";
import { offer, preview } from "/previews.js";
import { refused } from "/sentences.js";
import { call } from "/session.js";
import { Copy, Transfer } from "/transfer.js";
import { bytes, duration, percent, t } from "/words.js";

/** The media types of a file, the likely one first; `media` are the endings of each. */
function mediaOf(file, media) {
  const found = Object.keys(media).filter((kind) => media[kind].includes(endingOf(file.name)));
  return found.sort((one, other) => Number(file.type.startsWith(`${other}/`)) - Number(file.type.startsWith(`${one}/`)));
}

const previewPath = (upload) => `/console/previews/uploads/${upload.id}`;

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

let made = 0;

/**
 * A slot of a kind's input: `kind` is the kind's name, `slot` the input, `media` the endings of each media type, `words`
 * the texts `title`, `hint` and `choose`. `changed()` is called when it has or loses its file, `many(files)` when several
 * files were chosen.
 */
export class Slot {
  constructor(kind, slot, media, words, changed, many, list = null) {
    Object.assign(this, { slot, media, words, changed, many, list });
    this.key = `${kind}.${slot.name}`;
    this.name = slot.name;
    this.accepts = slot.accepts ?? [];
    this.required = slot.required !== false;
    this.upload = null;
    this.file = null; // the upload's file, if it was chosen on this page
    this.before = null;
    this.listed = ""; // the last upload in the daemon's list of unused files
    this.gone = list?.gone ?? new Set(); // uploads that were used or removed on this page
    this.transfer = null;
    const own = list ? `${slot.name}-${(made += 1)}` : slot.name;
    const id = `slot-${own}`;
    this.root = h("div", { class: "slot", id });
    const accept = this.accepts.flatMap((each) => (each in media ? [...media[each], ...(["video", "audio", "image"].includes(each) ? [`${each}/*`] : [])] : [each]));
    this.input = h("input", { type: "file", multiple: true, class: "hide", id: `pick-${own}`, accept: accept.join(",") || null,
      "aria-label": words.choose, "aria-describedby": `${id}-text ${id}-wrong`, onchange: () => this.picked() });
    this.shown = h("span", { class: "slot-name" });
    this.text = h("span", { class: "slot-text", id: `${id}-text` });
    this.drawing = ["video", "audio", "image", "text"].find((each) => each === this.accepts[0]) ?? "file";
    this.icon = h("span", { class: "slot-icon" });
    this.label = h("label", { class: "slot-label", for: `pick-${own}` }, this.icon, h("span", { class: "slot-words" }, this.shown, this.text));
    this.fill = h("span");
    this.bar = h("div", { class: "slot-bar", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": words.title, hidden: true }, this.fill);
    this.away = button("", "close", () => this.drop(), "quiet icon");
    this.wrong = h("p", { class: "wrong", id: `${id}-wrong`, role: "alert" });
    this.source = h("input", { type: "text", class: "slot-source", autocomplete: "off", spellcheck: "false", dir: "ltr", placeholder: t("slot.source"),
      "aria-label": `${words.title}: ${t("slot.source")}`, "aria-describedby": `${id}-wrong`, onkeydown: (event) => { if (event.key === "Enter") this.named(); }, onchange: () => this.named() });
    this.root.append(this.input, this.label, this.away, this.source, this.bar, this.wrong);
    this.showEmpty();
  }

  /** Gives a slot of a list the name and the title of its place. */
  call(name, title) {
    this.name = name;
    if (this.words.title === title) return;
    this.words = { ...this.words, title };
    if (!this.full) this.showEmpty();
    else if (this.upload) this.showUpload();
  }

  /** Whether it has a file, or one is on its way. */
  get full() {
    return this.upload !== null || this.sending;
  }

  get sending() {
    return this.transfer !== null;
  }

  picked() {
    const files = [...this.input.files];
    if (this.list && !this.full) this.list.take(files);
    else if (files.length > 1) this.many(files, this);
    else if (files.length) this.take(files[0]);
    this.input.value = "";
  }

  /** The file is checked here first; one that does not fit is not sent. */
  take(file) {
    const fault = this.faultOf(file);
    if (fault) return this.complain(fault);
    this.stop();
    this.before ??= this.upload;
    this.upload = null;
    return this.adopt(this.transferOf(file));
  }

  named() {
    const source = this.source.value.trim();
    this.source.value = "";
    if (source) this.takeSource(source);
  }

  transferOf(file) {
    return new Transfer(file, { kind: this.contentOf(file), accepts: this.accepts, slot: this.key });
  }

  /** Lets the daemon copy a file from a path or a URL. */
  takeSource(source) {
    this.stop();
    this.before ??= this.upload;
    this.upload = null;
    this.complain("");
    return this.adopt(new Copy(source, { kind: this.contentOf({ name: source.split(/[?#]/)[0] }), accepts: this.accepts, slot: this.key }));
  }

  async adopt(transfer) {
    this.transfer = transfer;
    this.showName(transfer.name, transfer.size ? t("slot.sending", { percent: percent(0), size: bytes(transfer.size) }) : t("slot.looking"), "sending");
    transfer.watch = () => this.progress(transfer);
    this.changed();
    try {
      const upload = await transfer.copied();
      if (this.transfer !== transfer) return;
      [this.upload, this.transfer, this.file] = [upload, null, transfer.file];
      offer(previewPath(upload), transfer.file);
      this.showUpload();
      this.replaced();
    } catch (error) {
      if (this.transfer !== transfer) return;
      [this.upload, this.before, this.transfer] = [this.before, null, null];
      if (this.upload) this.showUpload();
      else this.showEmpty();
      this.complain(refused(error, transfer.name));
    } finally {
      this.changed();
    }
  }

  faultOf(file) {
    if (rank(file, this.accepts, this.media) >= 0) return file.size ? "" : t("bad.empty");
    if (!endingOf(file.name)) return t("bad.no_ending", { name: file.name });
    const known = [...new Set(this.accepts.flatMap((each) => this.media[each] ?? [each]))].map((each) => each.slice(1)).sort().join(", ");
    return t("bad.wrong_file", { name: file.name, slot: this.words.title, known });
  }

  /** What the daemon looks for in the file: pictures, sound, or nothing. */
  contentOf(file) {
    const [first] = this.accepts;
    const still = this.media.image.includes(endingOf(file.name)) && !this.media.video.includes(endingOf(file.name));
    return (first === "video" || first === "audio") && !still ? first : "file";
  }

  progress(transfer) {
    if (this.transfer !== transfer) return;
    const { name, sent, size, pace } = transfer;
    if (this.shown.textContent !== name) this.showName(name, "", "sending");
    const part = size ? sent / size : 0;
    this.fill.style.width = `${100 * part}%`;
    put(this.bar, "aria-valuenow", Math.floor(100 * part));
    if (!size) return say(this.text, t("slot.looking"));
    const left = pace ? [t("card.rate", { rate: bytes(pace.rate) }), t("card.eta", { left: duration(pace.left) })] : [];
    say(this.text, transfer.waits ? t("slot.again") : [t("slot.sending", { percent: percent(part), size: bytes(size) }), ...left].join("  ·  "));
  }

  /** Applies the daemon's list, which may be older than the last action on this page. */
  settle(uploads) {
    if (this.sending) return;
    const others = uploads.filter((one) => one.slot === this.key && !this.gone.has(one.id));
    if (this.upload && uploads.some((one) => one.id === this.upload.id)) this.listed = this.upload.id;
    else if (this.upload && this.listed === this.upload.id) this.clear();
    else if (!this.upload && others.length && this.root.dataset.slot === "empty") {
      [this.upload, this.file] = [others.at(this.list ? 0 : -1), null];
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
    (this.list?.slots.at(-1) ?? this).input.focus();
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

  /** Hands the file over to a job, also one that is still copied. */
  give() {
    const transfer = this.transfer ?? Transfer.of(this.upload, this.file);
    this.gone.add(transfer.id);
    transfer.watch = () => {};
    this.transfer = null;
    this.replaced();
    this.clear();
    return transfer;
  }

  /** Takes the file back after the job was refused, unless another file was chosen since. */
  takeBack(transfer) {
    this.gone.delete(transfer.id);
    if (this.upload || this.sending) return void (transfer.upload || transfer.stop());
    if (!transfer.upload) return void this.adopt(transfer);
    [this.upload, this.file] = [transfer.upload, transfer.file];
    this.showUpload();
  }

  stop() {
    if (!this.transfer) return;
    this.gone.add(this.transfer.id); // the upload may be complete already
    this.transfer.stop();
    this.transfer = null;
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
    show(this.source, true);
  }

  showUpload() {
    const { name, size, seconds } = this.upload;
    this.showName(name, [...(this.words.ours ? [] : [this.words.title]), bytes(size), ...(seconds ? [duration(seconds)] : [])].join("  ·  "), "ready");
    this.showPreview(this.upload);
  }

  /** The picture and the format of the file, as soon as the daemon knows them. */
  async showPreview(upload) {
    const found = await preview(previewPath(upload), true);
    if (!found || this.upload !== upload || this.root.dataset.slot !== "ready") return;
    if (found.image) this.icon.replaceChildren(h("img", { src: found.image, alt: "" }));
    const lasts = found.seconds && !upload.seconds ? [duration(found.seconds)] : [];
    if (lasts.length || found.format.length) say(this.text, [this.text.textContent, ...lasts, ...found.format].join("  ·  "));
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
    show(this.source, false);
    put(this.away, "aria-label", t("slot.remove", { name }));
  }
}
