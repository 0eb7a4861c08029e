// A new job: two files that are uploaded to the daemon as soon as they are chosen, and the start button.

import { by, button, h, icon, named, put, say, show } from "/dom.js";
import { refused } from "/sentences.js";
import { bearer, call, Refusal, renewed } from "/session.js";
import { bytes, duration, percent, t } from "/words.js";

const WINDOW = 5000;
const TRIES = 5;

const KINDS = {
  video: "mp4 mov m4v mkv webm avi mpg mpeg ts flv wmv mxf 3gp gif".split(" "),
  audio: "wav mp3 m4a aac flac ogg oga opus wma aif aiff amr ac3 caf webm".split(" "),
};

/** Connects the form. `toast(text)` shows a message, `started(job id)` is called for each new job. */
export function composer({ toast, started }) {
  const slots = { video: new Slot("video", changed), audio: new Slot("audio", changed) };
  const start = by("start");
  let starting = false;

  function changed() {
    const { video, audio } = slots;
    const ready = Boolean(video.upload && audio.upload);
    start.disabled = !ready || starting;
    const busy = video.sending || audio.sending;
    const key = starting ? "starting" : ready ? "ready" : busy ? "sending" : video.upload ? "video" : audio.upload ? "audio" : "none";
    say(by("new-hint"), t(`new.hint.${key}`));
  }

  start.addEventListener("click", async () => {
    starting = true;
    changed();
    const random = crypto.getRandomValues(new Uint8Array(8));
    const id = `ws-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    const given = { video: slots.video.give(), audio: slots.audio.give() };
    try {
      await call("POST", "/console/jobs", { id, video: given.video.id, audio: given.audio.id });
      started(id);
    } catch (error) {
      toast(refused(error), true);
      for (const [kind, upload] of Object.entries(given)) slots[kind].takeBack(upload);
    } finally {
      starting = false;
      changed();
    }
  });

  addEventListener("beforeunload", (event) => { if (slots.video.sending || slots.audio.sending) event.preventDefault(); });
  dropping(slots, toast);
  changed();
  return {
    /** The daemon's list of unused files, which includes uploads of other pages. */
    settle(uploads) {
      for (const slot of Object.values(slots)) slot.settle(uploads.filter((upload) => upload.kind === slot.kind));
      changed();
    },
  };
}

function kindOf(file) {
  const ending = file.name.split(".").pop().toLowerCase();
  if (ending === "webm" && file.type.startsWith("audio/")) return "audio";
  return Object.keys(KINDS).find((kind) => KINDS[kind].includes(ending)) || "";
}

function dropping(slots, toast) {
  let depth = 0;
  const veil = (shown) => show(by("veil"), shown);
  const carries = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  addEventListener("dragenter", (event) => { if (carries(event)) { depth += 1; veil(true); } });
  addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) veil(false); });
  addEventListener("dragover", (event) => { if (carries(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth = 0;
    veil(false);
    const over = event.target.closest && event.target.closest(".slot");
    take([...event.dataTransfer.files], over ? over.id.replace("slot-", "") : "");
  });

  function take(files, wanted) {
    if (files.length === 1 && wanted) return void slots[wanted].take(files[0]);
    const taken = {};
    for (const file of files) {
      const kind = kindOf(file);
      if (!kind) toast(t("bad.kind", { name: file.name }), true);
      else if (taken[kind]) toast(t("toast.two"));
      else taken[kind] = file;
    }
    for (const [kind, file] of Object.entries(taken)) slots[kind].take(file);
  }
}

class Slot {
  constructor(kind, changed) {
    this.kind = kind;
    this.changed = changed;
    this.upload = null;
    this.before = null;
    this.listed = ""; // the last upload in the daemon's list of unused files
    this.gone = new Set(); // uploads that were used or removed on this page
    this.request = null;
    this.coming = null;
    this.samples = [];
    this.turn = 0;
    this.root = by(`slot-${kind}`);
    this.input = h("input", { type: "file", class: "hide", id: `pick-${kind}`, accept: KINDS[kind].map((ending) => `.${ending}`).concat(`${kind}/*`).join(","),
      "aria-label": t(`slot.choose.${kind}`), "aria-describedby": `slot-${kind}-text`, onchange: () => this.picked() });
    this.name = h("span", { class: "slot-name" }, h("strong", { text: t(`slot.${kind}`) }));
    this.text = h("span", { class: "slot-text", id: `slot-${kind}-text`, text: t(`slot.${kind}.hint`) });
    this.label = h("label", { class: "slot-label", for: `pick-${kind}` }, h("span", { class: "slot-icon" }, icon(kind)), h("span", { class: "slot-words" }, this.name, this.text));
    this.fill = h("span");
    this.bar = h("div", { class: "slot-bar", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": t(`slot.${kind}`), hidden: true }, this.fill);
    this.away = button("", "close", () => this.drop(), "quiet icon");
    this.wrong = h("p", { class: "wrong", role: "alert" });
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

  async take(file) {
    this.stop();
    this.before ??= this.upload;
    this.upload = null;
    const turn = ++this.turn;
    this.showName(file.name, t("slot.sending", { percent: percent(0), size: bytes(file.size) }), "sending");
    this.changed();
    try {
      const upload = await this.whole(file, turn);
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

  /** Uploads the file. After a disconnect it is uploaded again, since the page still has it. */
  async whole(file, turn) {
    for (let broken = 0; ;) {
      const shown = bearer().Authorization;
      try {
        const given = await call("POST", "/console/uploads", { kind: this.kind, name: file.name, size: file.size });
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
    const others = uploads.filter((one) => !this.gone.has(one.id));
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
    this.name.replaceChildren(h("strong", { text: t(`slot.${this.kind}`) }));
    say(this.text, t(`slot.${this.kind}.hint`));
    say(this.wrong, "");
    show(this.bar, false);
    show(this.away, false);
  }

  showUpload() {
    const { name, size, seconds } = this.upload;
    this.showName(name, [bytes(size), ...(seconds ? [duration(seconds)] : [])].join("  ·  "), "ready");
  }

  showName(name, text, state) {
    put(this.root, "data-slot", state);
    this.name.replaceChildren(named(name));
    say(this.text, text);
    say(this.wrong, "");
    this.fill.style.width = "0";
    show(this.bar, state === "sending");
    show(this.away, true);
    put(this.away, "aria-label", t("slot.remove", { name }));
  }
}
