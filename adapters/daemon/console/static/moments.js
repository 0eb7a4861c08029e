// The timeline's rows in lanes: the hub connection, each GPU, messages in and out, and each job.

export const STAGE_AFTER = {
  "job.accept": "wait", retrying: "wait", granted: "check", online: "check", checked: "upload", uploaded: "render", rendered: "download",
  storing: "upload", stored: "wait", delivered: "download",
};
const STEADY = new Set(["waking", "running", "uploading", "downloading", "report", "health", "resolve", "gpu.status.query",
  "gpu.status.response", "gpu.task.active", "connected", "upload", "download", "storing", "remote", "put", "get", "gpu.depot.progress"]);
const ENDS = new Set(["done", "failed", "timed_out", "cancelled"]);
const MOST = 6000;
const POWER = { "gpu.power.online": "online", "gpu.power.booted": "booted" };

/** All known rows, with times in UNIX seconds. */
export class Moments {
  constructor() {
    this.boot = "";
    this.seq = 0;
    this.rows = [];
    this.link = [];
    this.power = new Map();
    this.jobs = new Map();
  }

  /** The last row; the daemon sends the rows after it. */
  get last() {
    return this.boot ? `${this.boot}-${this.seq}` : "";
  }

  /** Rows of a run of the daemon that began at `epoch`. */
  add(boot, epoch, rows) {
    if (boot !== this.boot) {
      if (this.boot && rows.length) this.change(this.link, epoch, "down");
      for (const job of this.jobs.values()) job.to ??= epoch; // rows of jobs that still run are sent again
      this.boot = boot;
      this.epoch = epoch;
      this.seq = 0;
    }
    for (const row of rows) {
      if (row.seq <= this.seq) continue;
      this.seq = row.seq;
      this.take({ ...row, at: epoch + row.t });
    }
    if (this.rows.length > MOST) this.forget();
  }

  /** Removes the oldest rows, and keeps the state at their end. */
  forget() {
    this.rows = this.rows.slice(-MOST * 0.75);
    const since = this.rows[0].at;
    this.link = after(this.link, since);
    for (const [name, changes] of this.power) this.power.set(name, after(changes, since));
    for (const [id, job] of this.jobs) {
      if (job.to !== null && job.to < since) this.jobs.delete(id);
      job.changes = after(job.changes, since);
      job.marks = job.marks.filter((row) => row.at >= since);
    }
  }

  take(row) {
    this.rows.push(row);
    if (row.kind === "conn" && (row.label === "up" || row.label === "down")) this.change(this.link, row.at, row.label);
    const state = row.dir === "in" && (row.label === "gpu.power.state" ? row.state : POWER[row.label]);
    if (state && row.gpu) this.change(this.gpu(row.gpu), row.at, state);
    if (row.job && (row.label === "job.accept" || row.kind === "event" || (row.fault && this.jobs.has(row.job)))) this.ofJob(row);
  }

  gpu(name) {
    if (!this.power.has(name)) this.power.set(name, []);
    return this.power.get(name);
  }

  change(changes, at, word) {
    const last = changes.at(-1);
    if (!last || last.word !== word) changes.push({ at: last ? Math.max(at, last.at) : at, word });
  }

  ofJob(row) {
    if (!this.jobs.has(row.job)) this.jobs.set(row.job, { id: row.job, from: row.at, to: null, end: "", changes: [{ at: row.at, word: "wait" }], marks: [] });
    const job = this.jobs.get(row.job);
    if (!job.end) job.to = null;
    const stage = row.kind === "event" || row.label === "job.accept" ? STAGE_AFTER[row.label] : "";
    if (stage) this.change(job.changes, row.at, stage);
    if (row.kind === "event" && ENDS.has(row.label)) {
      job.to = row.at;
      job.end = row.label;
    }
    if (row.fault || (!STEADY.has(row.label) && row.label !== "job.accept")) job.marks.push(row);
  }

  /** The phase of a GPU since `at`, from the hub's status: not all changes arrive as messages. */
  told(name, state, at) {
    const changes = this.gpu(name);
    if (!changes.length || changes.at(-1).at < at) this.change(changes, at, state);
  }

  /** The last rows up to `to` that show a change, newest first. */
  latest(most, to = Infinity, fits = () => true) {
    const found = [];
    for (let at = this.rows.length - 1; at >= 0 && found.length < most; at -= 1) {
      const row = this.rows[at];
      if (row.at <= to && (row.fault || !STEADY.has(row.label)) && fits(row.job)) found.push(row);
    }
    return found;
  }

  /** The lanes from `from` to `to`, with spans and marks. At most `most` jobs that `fits(id)` allows; running jobs first. */
  lanes(from, to, most, now, fits = () => true) {
    const seen = this.rows.filter((row) => row.at >= from && row.at <= to);
    const frames = seen.filter((row) => row.kind === "frame" && !STEADY.has(row.label) && fits(row.job));
    const lanes = [{ kind: "link", name: "", spans: spans(this.link, now), marks: [] }];
    for (const [name, changes] of this.power) lanes.push({ kind: "power", name, spans: spans(changes, now), marks: [] });
    for (const dir of ["in", "out"]) lanes.push({ kind: dir, name: "", spans: [], marks: frames.filter((row) => row.dir === dir) });
    const jobs = [...this.jobs.values()].filter((job) => job.from <= to && (job.to === null || job.to >= from) && fits(job.id));
    // Leaves out jobs that ended long ago first, then the last ones in the queue.
    const recent = (job) => job.to === null || job.to > to - (to - from) / 8;
    const chosen = [...jobs.filter(recent), ...jobs.filter((job) => !recent(job)).reverse()].slice(0, most);
    for (const job of jobs.filter((one) => chosen.includes(one))) {
      lanes.push({ kind: "job", name: job.id, spans: spans(job.changes, job.to ?? now), marks: job.marks, end: job.end });
    }
    return { lanes, messages: frames.length, jobs: jobs.length, hidden: Math.max(0, jobs.length - most) };
  }
}

/** The changes from `since` on, and the last one before. */
function after(changes, since) {
  return changes.slice(Math.max(0, changes.findLastIndex((change) => change.at <= since)));
}

function spans(changes, end) {
  return changes.map((change, at) => ({ from: change.at, to: at + 1 < changes.length ? changes[at + 1].at : end, word: change.word }));
}

/** The mark of a row. */
export function shape(row) {
  if (row.fault) return "fault";
  if (row.kind === "event") return { retrying: "retry", done: "done", failed: "failed", timed_out: "failed", cancelled: "cancelled" }[row.label] || "event";
  return row.dir;
}
