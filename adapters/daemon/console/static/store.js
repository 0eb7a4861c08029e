// The state of each job, computed from its events.

import { kindTitle } from "/kinds.js";
import { number, t } from "/words.js";

export const STAGES = ["wake", "check", "upload", "render", "download"];
export const STATES = ["open", "waiting", "cancelling", "done", "failed", "timed_out", "cancelled"];
const ENDS = new Set(STATES.slice(3));

const TITLED = 2;

/** What a job is called: the names of its input files; of a job without any, its kind. */
export const names = (job) => (job.inputs.length ? job.inputs.map((one) => one.file) : [kindTitle(job.kind)]);

/** The names for a title, and the words for those that it leaves out. */
export function title(job) {
  const all = names(job);
  return [all.slice(0, TITLED), all.length > TITLED ? t("job.more", { count: number(all.length - TITLED) }) : ""];
}

/** The title as one text. */
export const titleText = (job, and = " + ") => title(job).flat().filter(Boolean).join(and);

const AFTER = {
  accepted: 0, queued: 0, waking: 0, retrying: 0, granted: 1, online: 1, checked: 2, uploading: 2, uploaded: 3, submitted: 3,
  running: 3, rendered: 4, downloading: 4, storing: 2, stored: 3, remote: 3, delivered: 4, done: 5,
};
const KEPT = { submit: 0, wake: 0, check: 1, upload: 2, render: 3, download: 4 };
const WINDOW = 8;

/** The state of a job from the daemon's card; `before` is the state of the job so far, if any. */
export function begin(card, before) {
  const job = { ...card, stage: KEPT[card.stage] ?? 0, last: null, saved: 0, samples: [], seen: {}, note: null, eta: null, frame: null };
  for (const event of card.events || []) take(job, event);
  delete job.events;
  if (job.outcome && job.outcome.event === "done") job.stage = 5;
  if (before && before.stage === job.stage) goOn(job, before.samples);
  return job;
}

/** Keeps the speed across cards: of events that count bytes, a card has only the last one. */
function goOn(job, samples) {
  const mine = job.samples;
  job.samples = samples.filter(([at]) => !mine.length || at < mine[0][0]);
  for (const [at, value] of mine) sample(job, at, value);
}

/** Applies an event of the job. */
export function take(job, event) {
  const kind = event.event;
  if (ENDS.has(kind)) return;
  if (kind === "note") {
    job.note = event;
    if (event.data?.direct) job.last = null;
    return;
  }
  if (!(kind in AFTER)) return; // the page has no words for it
  job.note = null;
  if (event.eta) job.eta = { ...event.eta, at: event.at };
  if (kind === "waking" && byDepot(job) && !event.phase.startsWith("hub_")) return; // what its files do says more
  const stage = AFTER[kind];
  if (stage !== job.stage || kind === "retrying" || event.step !== job.last?.step) job.samples = [];
  job.stage = stage;
  job.last = event;
  job.seen[stage] ??= event.at;
  if (kind === "uploaded") job.saved = event.saved;
  const part = progress(job);
  if (part && part.value !== null) sample(job, event.at, part.value);
}

/** Whether its files are on their way to the depot, or there. */
const byDepot = (job) => ["storing", "stored", "remote"].includes(job.last?.event);

function sample(job, at, value) {
  job.samples.push([at, value]);
  while (job.samples.length > 2 && (at - job.samples[0][0] > WINDOW || job.samples.length > 60)) job.samples.shift();
}

/** The progress of the current stage: `part` (0 to 1, or null), `value` of `all`, `rate` per second, `left` in seconds. */
export function progress(job, now = Date.now() / 1000, hub = null) {
  const last = job.last;
  if (!last || job.outcome) return null;
  switch (last.event) {
    case "storing":
    case "uploading": return paced(job, last.bytes, last.of, "bytes");
    case "remote": return last.percent == null ? { part: null, value: null } : paced(job, last.percent, 100, "percent");
    case "downloading": return paced(job, last.bytes, last.of, "bytes");
    case "submitted": return behind(job) ? { part: null, value: null, place: last.position } : { part: null, value: null };
    case "running":
      if (behind(job)) return { part: null, value: null, place: last.position };
      return { ...paced(job, last.percent, 100, "percent"), frame: last.frames ? last.frame : null, frames: last.frames };
    case "queued":
    case "waking": {
      const waited = job.seen[0] ? now - job.seen[0] : last.waited || 0;
      const eta = etaOf(hub, job.eta);
      const left = eta ? eta.p50 - (now - eta.at) : null;
      return { part: left > 0 ? Math.min(0.95, waited / (waited + left)) : null, value: null, left, waited };
    }
    default: return { part: null, value: null };
  }
}

/** Whether the hub cannot say anything now. */
export const isAway = (hub) => /down|refused/.test(hub?.hub);

/** When a GPU is expected for waiting jobs: the hub's estimate, else the one a job received; null if none can come. */
export function etaOf(hub, told) {
  if (isAway(hub) || hub?.stuck) return null;
  return hub?.hub === "up" && hub.eta_s ? { ...hub.eta_s, at: hub.ts } : told;
}

function paced(job, value, all, unit) {
  const [first] = job.samples;
  const last = job.samples.at(-1);
  const rate = first && last && last[0] - first[0] >= 0.4 ? (last[1] - first[1]) / (last[0] - first[0]) : null;
  const left = rate > 0 && all ? (all - value) / rate : null;
  return { part: all ? value / all : null, value, all, unit, rate: rate > 0 ? rate : null, left };
}

/** Whether the job waits in the worker's queue. */
export function behind(job) {
  return Boolean(job.last && job.stage === 3 && job.last.position > 0 && !job.last.percent);
}

/** Whether its files wait in the depot for a GPU. */
const stored = (job) => job.last?.event === "stored" || (job.last?.event === "remote" && job.last.step === "wait");

/** Whether the job pauses until its next try. */
export function pauses(job) {
  return Boolean(job.note?.data?.rests) && job.state === "open";
}

/** Whether its work can be done once more: it is done, and its files are still there. */
export function canRemake(job) {
  return job.outcome?.event === "done" && job.inputs.every((file) => file.here);
}

/** What the job waits for; empty if it does not wait. */
export function waitOf(job) {
  if (!waits(job)) return "";
  if (job.copying) return "copy";
  const said = job.note?.data ?? {};
  if (said.waits) return "turn";
  if (said.rests) return "rests";
  return said.after ? "after" : behind(job) ? "behind" : stored(job) ? "depot" : "gpu";
}

/** Whether the job can be moved among those that wait: the GPU does not have it yet. */
export function movable(job) {
  return ["gpu", "rests", "after"].includes(waitOf(job)) || (waitOf(job) === "turn" && job.stage < 4);
}

/** The state in a word for the texts and the styles. */
export function stateOf(job) {
  if (job.outcome) return job.outcome.event;
  if (job.copying) return "copying";
  return job.state === "cancelling" ? "cancelling" : waits(job) ? "waiting" : "open";
}

/** Whether the job is waiting. */
export function waits(job) {
  const said = job.note?.data;
  return !job.outcome && (Boolean(job.copying || said?.waits || said?.rests) || job.stage === 0 || behind(job) || stored(job));
}
