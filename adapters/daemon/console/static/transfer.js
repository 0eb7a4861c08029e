// Copies files into the daemon, three at a time, and starts jobs whose files may still be copied.

import { inputPath, offer } from "/previews.js";
import { bearer, call, Refusal, renewed } from "/session.js";

const TRIES = 5;
const WINDOW = 5000;
const AT_ONCE = 3;
const queue = [];
let busy = 0;

/** The transfers of this page by the id of their upload. */
export const transfers = new Map();

/** Whether closing the page would stop a copy. */
export const isCopying = () => [...transfers.values()].some((one) => one.running && !one.isOver && !one.source);

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

/** A file on its way to the daemon. `about` is what is announced beside its name and size: `kind`, `accepts`, `slot`. */
export class Transfer {
  constructor(file, about) {
    Object.assign(this, { file, about, name: file.name, size: file.size });
    this.id = "";
    this.upload = null;
    this.error = null;
    this.sent = 0;
    this.waits = false; // the connection broke, and the copy begins again
    this.samples = [];
    this.posts = new Set(); // start the jobs that use it
    this.stopped = false;
    this.watch = () => {};
  }

  /** A file that is at the daemon. */
  static of(upload, file) {
    const done = new Transfer(file ?? { name: upload.name, size: upload.size }, {});
    return Object.assign(done, { id: upload.id, upload, sent: upload.size, asking: Promise.resolve(upload.id) });
  }

  get isOver() {
    return this.upload !== null || this.stopped || this.error !== null;
  }

  /** The id of its upload, which is announced once. */
  announced() {
    this.asking ??= this.announce().catch((error) => {
      this.asking = null;
      throw error;
    });
    return this.asking;
  }

  async announce() {
    const given = await call("POST", "/console/uploads", { name: this.name, size: this.size, ...this.about });
    this.id = given.id;
    transfers.set(this.id, this);
    return this.id;
  }

  /** Copies it; null when it was stopped. After a disconnect it is copied again, since the page still has it. */
  copied() {
    if (this.upload) return Promise.resolve(this.upload);
    this.running ??= inTurn(() => (this.stopped ? null : this.whole()));
    return this.running;
  }

  async whole() {
    for (let broken = 0; ;) {
      const shown = bearer().Authorization;
      try {
        const isNew = !this.asking && this.id;
        await this.announced();
        if (isNew) await this.postAgain();
        if (this.stopped) return null;
        const upload = await this.send();
        if (this.stopped) return null;
        this.upload = upload;
        this.posts.clear();
        transfers.delete(this.id);
        return upload;
      } catch (error) {
        if (this.stopped) return null;
        this.asking = null;
        if (error.status === 401) { // sessions end when the daemon stops
          this.pause();
          await renewed(shown);
          continue;
        }
        if (["broken", "unknown_upload"].includes(error.code)) broken += 1;
        else if (error.status) throw this.failed(error);
        if (broken >= TRIES) throw this.failed(error);
        await this.file.slice(0, 1).arrayBuffer().catch(() => { throw this.failed(new Refusal(499, { code: "unreadable" })); });
        this.pause();
        await new Promise((go) => { setTimeout(go, 1500); });
      }
      if (this.stopped) return null;
    }
  }

  failed(error) {
    this.error = error;
    return error;
  }

  pause() {
    this.sent = 0;
    this.waits = true;
    this.watch();
  }

  /** Sends its new id to the jobs that wait for it. Those whose other files are new as well follow with them. */
  async postAgain() {
    for (const post of this.posts) {
      await post().catch((error) => { if (error.code !== "unknown_upload") throw error; });
    }
  }

  send() {
    this.samples = [];
    return new Promise((done, failed) => {
      const request = new XMLHttpRequest();
      this.request = request;
      request.open("PUT", `/console/uploads/${this.id}`);
      for (const [name, value] of Object.entries(bearer())) request.setRequestHeader(name, value);
      request.upload.onprogress = (event) => {
        [this.sent, this.waits] = [event.loaded, false];
        if (!this.stopped) this.watch();
      };
      request.onload = () => {
        let plain = {};
        try { plain = JSON.parse(request.responseText); } catch { /* the answer is not JSON */ }
        if (request.status === 200) done(plain);
        else failed(new Refusal(request.status, plain));
      };
      request.onerror = () => failed(new Refusal(499, { code: "broken" }));
      request.onabort = request.onerror;
      request.onloadend = () => { if (this.request === request) this.request = null; };
      request.send(this.file);
    });
  }

  /** The speed and the seconds left, as soon as they are known. */
  get pace() {
    const now = performance.now();
    this.samples.push([now, this.sent]);
    while (this.samples.length > 2 && now - this.samples[0][0] > WINDOW) this.samples.shift();
    const [[since, before]] = this.samples;
    const rate = (1000 * (this.sent - before)) / (now - since);
    return now - since < 800 || !(rate > 0) ? null : { rate, left: (this.size - this.sent) / rate };
  }

  stop() {
    this.stopped = true;
    this.request?.abort();
    this.request = null;
  }
}

/** A file that the daemon copies by itself, from a path or a URL; it goes on when the page is closed. */
export class Copy extends Transfer {
  constructor(source, about) {
    super({ name: source.split(/[/\\]/).at(-1) || source, size: 0 }, about);
    this.source = source;
  }

  copied() {
    this.running ??= this.whole();
    return this.running;
  }

  async whole() {
    for (;;) {
      const shown = bearer().Authorization;
      try {
        await this.announced();
        const plain = await call("GET", `/console/copies/${this.id}`);
        if (this.stopped) return null;
        if (plain.failed) throw new Refusal(409, plain.failed);
        Object.assign(this, { sent: plain.sent ?? this.sent, name: plain.name ?? this.name, size: plain.size ?? this.size });
        if (plain.complete) {
          transfers.delete(this.id);
          this.upload = plain;
          return plain;
        }
        this.watch();
        await new Promise((go) => { setTimeout(go, 300); });
      } catch (error) {
        if (this.stopped) return null;
        if (error.status === 401) await renewed(shown); // sessions end when the daemon stops, and a job's copies go on
        else if (!error.status && this.id) await new Promise((go) => { setTimeout(go, 1500); });
        else throw this.failed(error);
      }
    }
  }

  async announce() {
    const given = await call("POST", "/console/copies", { source: this.source, ...this.about });
    Object.assign(this, { id: given.id, name: given.name, size: given.size });
    transfers.set(this.id, this);
    if (this.stopped) this.stop();
    this.watch();
    return this.id;
  }

  stop() {
    super.stop();
    if (this.id) call("DELETE", `/console/copies/${this.id}`).catch(() => {});
  }
}

/** A new id of a job. */
export function newId() {
  const random = crypto.getRandomValues(new Uint8Array(8));
  return `ws-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** Starts a job, which begins when its files are copied; `inputs` are transfers by input. */
export async function startJob(job, inputs) {
  const given = Object.entries(inputs);
  for (const [name, transfer] of given) offer(inputPath(job.id, name), transfer.file);
  for (const [, transfer] of given) await transfer.announced();
  const post = () => call("POST", "/console/jobs", { ...job, inputs: Object.fromEntries(given.map(([name, transfer]) => [name, transfer.id])) });
  await post();
  for (const [, transfer] of given) {
    if (transfer.upload) continue;
    transfer.posts.add(post);
    transfer.copied().catch(() => {}); // the card of the job says it
  }
}
