// One sentence for each job and each GPU: why it waits, what it does, how it ended.

import { behind, etaOf, isAway, progress, stateOf, titleText } from "/store.js";
import { bytes, duration, knows, lang, moment, number, t } from "/words.js";

const LONG = 110;

/** What the page knows: the name of another job, and the job itself if it is shown. */
export const known = { nameOf: (id) => id, jobOf: () => undefined };

/** Why a job waits, or what it does; `hub` is the state that the GPU panel shows. */
export function why(job, hub = null) {
  if (job.outcome) return ended(job);
  if (job.state === "cancelling") return t("why.cancelling");
  if (job.note) return noted(job.note, job);
  const last = job.last;
  if (!last) return t(job.stage > 0 ? "why.resumed" : "why.accepted");
  switch (last.event) {
    case "queued":
    case "waking": return waking(last, etaOf(hub, job.eta), hub);
    case "checked": return checked(last);
    case "stored":
    case "remote": {
      const { step = "wait" } = last;
      return [t(`why.remote.${step}`, { gpu: last.gpu || "GPU" }), step === "wait" && obstacle(hub), t(last.local ? "why.pc.here" : "why.pc.off")].filter(Boolean).join(" ");
    }
    case "uploaded": return last.saved ? t("why.uploaded.saved", { saved: bytes(last.saved) }) : t("why.uploaded");
    case "submitted":
    case "running":
      if (last.why) return `${sentence(last.why)}.`;
      if (last.position > 0 && !last.percent) return t("why.behind", { position: number(last.position) });
      return t(last.event === "running" ? "why.running" : "why.submitted");
    case "retrying":
      return t("why.retrying", { why: sentence(brief(last.why), job), delay: duration(last.delay - passed(last)), attempt: number(last.attempt) });
    default: return t(`why.${last.event}`);
  }
}

function noted(note, job) {
  const data = note.data || {};
  if (data.waits) return t(data.limit === 1 ? "why.turn.one" : "why.turn", { limit: number(data.limit), before: number(job.ahead ?? data.before) });
  if (data.after) return t("why.after", { jobs: data.after.map((id) => known.nameOf(id)).join(t("list.comma")) });
  if (data.same_as) return t("why.same");
  if (data.direct) return t("why.direct", { why: sentence(brief(data.why)) });
  if (data.starts) return t(data.starts > 1 ? "why.starts" : "why.start", { starts: number(data.starts), why: sentence(brief(data.why)), time: duration(data.rests - passed(note)) });
  if (data.rests) return t("why.rests", { tries: number(data.tries), why: sentence(brief(data.why)), time: duration(data.rests) });
  return note.text;
}

function waking(last, eta, hub) {
  if (last.phase === "connecting") return t("why.connecting");
  if (isHubDown(last)) return t("why.down");
  const [gpu, more] = hub?.gpus ?? [];
  const ofJob = /queued|busy|straight|budget/.test(last.phase);
  if (last.phase !== "budget" && obstacle(hub)) return obstacle(hub);
  if (gpu && !more && !ofJob) { // as its panel says
    if (gpu.phase === "off") return gpuSays(gpu, hub);
    last = { ...last, phase: gpu.phase, why: gpu.why };
  }
  if (last.phase === "draining" || last.phase === "stopping") return t("why.stopping");
  if (last.phase === "booted" && left(eta) >= 1) return t(once("why.booted.left", eta), times(eta));
  if (last.phase === "budget") return t("why.budget", { time: last.until ? moment(last.until) : "–" });
  if (last.phase === "queued" && last.position) return t(left(eta) >= 1 ? "why.place.left" : "why.place", { position: number(last.position), ...(eta ? times(eta) : {}) });
  if (last.phase === "online") return inUse(hub) || t("why.queued");
  if (last.phase === "no_capacity") return noCapacity(retryAt(hub?.gpus) ?? (last.retry_in != null ? last.at + last.retry_in : null)); // the hub's time is one for all jobs
  if (knows(`why.${last.phase}`)) return t(`why.${last.phase}`);
  if (last.phase === "not_ready" || last.phase === "paused") return `${sentence(String(last.why || "").replace(/^.+?(: |：)/, ""))}.`; // the hub begins with the GPU
  if (last.why) return `${sentence(brief(last.why))}.`;
  if (!eta) return t("why.waking.new");
  return left(eta) < 1 ? t("why.waking.late") : t(once("why.waking", eta), times(eta));
}

/** Why no GPU can come for the jobs that wait, as the GPU panel says it; empty if one can, or if that is not known. */
function obstacle(hub) {
  if (isAway(hub)) return t("why.down");
  const gpu = hub?.gpus?.find((one) => one.gpu === hub.stuck);
  return gpu ? `${gpu.gpu}: ${gpuSays(gpu, hub)}` : "";
}

/** When a provider is asked for a machine again, the first of these GPUs. */
function retryAt(gpus = []) {
  const times = gpus.filter((gpu) => gpu.retry_at).map((gpu) => gpu.retry_at);
  return times.length ? Math.min(...times) : null;
}

function noCapacity(at) {
  const time = at - Date.now() / 1000;
  return at && time >= 1 ? t("say.no_capacity.retry", { time: duration(time) }) : t("say.no_capacity");
}

/** Whether the job waits because the hub can't be reached. */
const isHubDown = (event) => event.event === "waking" && event.phase.startsWith("hub_");

/** Seconds since an event. */
const passed = (told) => Date.now() / 1000 - told.at;
const times = (eta) => ({ p50: duration(eta.p50 - passed(eta)), p90: duration(eta.p90 - passed(eta)) });

/** The words of `key` for an estimate that has one start behind it: its quantiles are the same. */
const once = (key, eta) => (eta.p50 === eta.p90 ? `${key}.one` : key);

/** Seconds until a GPU is usually ready; 0 if unknown. */
const left = (eta) => (eta ? eta.p50 - passed(eta) : 0);

function checked(last) {
  const size = last.missing.reduce((sum, file) => sum + file.size, 0);
  const files = Object.values(last.inputs ?? { video: last.video, audio: last.audio });
  const distinct = new Map(files.map((file) => [JSON.stringify(file.digests), file.size]));
  const saved = [...distinct.values()].reduce((sum, each) => sum + each, 0) - size;
  return t(saved > 0 ? "why.checked.saved" : "why.checked", { size: bytes(size), saved: bytes(saved) });
}

function ended(job) {
  const end = job.outcome;
  switch (end.event) {
    case "done": return job.result && !job.result.here ? t("card.gone") : t(`end.done${end.files?.length > 1 ? "s" : ""}${reuse(end)}`, { size: bytes(job.result?.size ?? end.size), count: number(end.files?.length ?? 1) }) + (end.absent ? t("end.absent", { names: end.absent.join(", ") }) : "");
    case "timed_out": return t(knows(`end.timed_out.${end.stage}`) ? `end.timed_out.${end.stage}` : "end.timed_out", { seconds: duration(end.seconds), stage: end.stage });
    case "cancelled": return t("end.cancelled");
    default: return failed(job, end);
  }
}

function failed(job, end) {
  const [, missing] = /^(.*) does not exist\b/.exec(end.why || "") ?? [];
  if (end.code === "file_unusable" && missing) return t("fail.missing", { name: missing.split(/[\\/]/).at(-1) });
  return detail(job) ? t(knows(`fail.${end.code}`) ? `fail.${end.code}` : "fail.other") : `${sentence(end.why, job)}.`;
}

/** What the user can do about a job without a result; empty for other jobs. */
export function todo(job) {
  const end = job.outcome;
  if (!end || end.event === "done" || end.event === "cancelled") return "";
  const key = end.event === "timed_out" ? `todo.timed_out.${end.stage}` : `todo.${end.code}`;
  return t(knows(key) ? key : end.event === "timed_out" ? "todo.timed_out" : "todo.other");
}

/** What a job without a result shows on demand: the reason as the program gave it, and words for a report. */
export function report(job) {
  if (!todo(job)) return detail(job);
  const end = job.outcome;
  const said = end.event === "failed" ? `${end.why}\n` : "";
  return `${said}${t("detail.job", { id: job.id, code: end.code || `${end.event}: ${end.stage}` })}`;
}

/** The suffix of the sentence for a reused result: from the worker, or from another job of this daemon. */
function reuse(end) {
  if (!end.reused) return "";
  return end.reused === "the worker" ? ".at_worker" : ".reused";
}

/** The full reason, where the sentence does not contain it. */
export function detail(job) {
  const told = job.outcome ?? job.last ?? {};
  const said = told.why || "";
  if (job.outcome && told.event !== "failed") return "";
  if (job.note || job.state === "cancelling") return "";
  const translated = job.outcome && lang !== "en" && knows(`fail.${told.code}`);
  return said.length > LONG || isHubDown(told) || translated ? said : "";
}

/** A reason from another program, cut to its first part if it is long. */
export function brief(text) {
  const said = String(text || "").trim();
  if (said.length <= LONG) return said;
  const [head] = said.split(/: | \(| \| |\n/);
  return head.length >= 8 && head.length <= LONG ? head : `${said.slice(0, LONG)}…`;
}

/** Matches a text that begins with the name of a file or program: its first letter stays as it is. */
const NAME = /^\S*[^\p{L}\s,;:'’]\S|^\S+ ended with code /u;

/** A reason from another program with a capital first letter and no full stop; the job's file names stay as they are. */
function sentence(text, job = null) {
  const trimmed = String(text || "").trim().replace(/[.。]+$/, "");
  const files = job ? [...job.inputs, ...job.outputs].map((one) => one.file) : [];
  if (NAME.test(trimmed) || files.some((name) => name && trimmed.startsWith(name))) return trimmed;
  return trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
}

/** What a GPU does, and what that means for jobs; `told` is the estimate that a waiting job received. */
export function gpuSays(gpu, hub, told) {
  const eta = bootOf(gpu, hub, told);
  const planned = planOf(gpu, hub.ts);
  if (planned) return planned;
  const { p50, p90 } = usualBoot(gpu, hub);
  const usual = { p50: duration(p50 || 0), p90: duration(p90 || 0) };
  if (gpu.phase === "booted" && left(eta) >= 1) return t(once("say.starting.left", eta), { left: times(eta).p50, p90: times(eta).p90 });
  const spent = budgetsOf(gpu, hub).filter((budget) => budget.left <= 0);
  if (gpu.phase === "off" && spent.length) return t("say.budget", { time: moment(Math.max(...spent.map((budget) => budget.until))) });
  if ((gpu.phase === "off" || gpu.phase === "failed") && !watched(gpu, hub)) return t("say.monitor");
  if (gpu.phase === "starting") {
    if (!p50) return t("say.starting.new");
    return left(eta) < 1 ? t(p50 === p90 ? "say.starting.late.one" : "say.starting.late", usual) : t(once("say.starting.left", eta), { left: times(eta).p50, p90: times(eta).p90 });
  }
  if (gpu.phase === "online" && gpu.orphan && !gpu.own && !gpu.others) return gpu.orphan.startsWith("its monitor") ? t("say.unwatched") : `${sentence(brief(gpu.orphan))}.`;
  if (gpu.phase === "online" && gpu.warm_until && !gpu.own && !gpu.others) return t("say.warm", { time: moment(gpu.warm_until, hub.zone || "UTC") });
  if (gpu.phase === "online") return occupied(gpu, hub) || t("say.online");
  if (gpu.phase === "off" && (hub.queue || hub.gpus?.length > 1)) return t(p50 ? "say.off.several.eta" : "say.off.several", usual);
  if (gpu.phase === "off" && p50) return t((gpu.boots || hub.boots) === 1 ? "say.off.eta.one" : "say.off.eta", usual);
  if (gpu.phase === "no_capacity") return noCapacity(retryAt([gpu]));
  if (gpu.phase === "failed" && gpu.why) return `${sentence(brief(gpu.why))}.`;
  if (!knows(`say.${gpu.phase}`)) return gpu.why ? `${sentence(brief(gpu.why))}.` : "";
  return t(`say.${gpu.phase}`);
}

/** What the hub plans for a GPU; empty if nothing, or if its phase says it already. `at` is when the hub said it. */
export function planOf(gpu, at) {
  const { do: act, in_s } = gpu.plan ?? {};
  const comes = act === "wake" && (["starting", "booted"].includes(gpu.phase) || (gpu.phase === "no_capacity" && in_s == null));
  if (!act || act === "keep" || comes) return "";
  const time = duration(Math.max(1, (in_s ?? 0) - Math.max(0, Date.now() / 1000 - at)));
  const key = act === "wake" && in_s != null ? `plan.wake.${/upload/.test(gpu.plan.why) ? "upload" : "in"}` : `plan.${act}`;
  return knows(key) ? t(key, { time, name: gpu.gpu }) : `${sentence(brief(gpu.plan.why))}.`;
}

/** Whether a monitor that can start this GPU is connected; an earlier hub only says how many there are. */
export const watched = (gpu, hub) => hub.monitors !== 0 && gpu.watched !== false;

/** How long this GPU's boots took; an earlier hub says it only for all GPUs together. */
const usualBoot = (gpu, hub) => gpu.boot_s || (!hub.gpus?.some((one) => one.boot_s) && hub.boot_s) || {};

/** The budgets that count for this GPU. */
export const budgetsOf = (gpu, hub) => (hub.budgets || []).filter((budget) => !budget.gpu || budget.gpu === gpu.gpu);

/** When a starting GPU is expected: the same for the GPU panel and the cards of waiting jobs. */
export function bootOf(gpu, hub, told) {
  const alone = (hub.gpus ?? [gpu]).length === 1; // the estimate for waiting jobs is that of the first GPU that comes
  const eta = alone ? etaOf(hub, told) : null;
  const boot = usualBoot(gpu, hub);
  return eta || gpu.phase !== "starting" || !boot.p50 ? eta : { ...boot, at: gpu.since };
}

/** What a GPU works on, how many jobs wait for it, and when it is expected to be free; empty if it has no job. */
function occupied(gpu, hub) {
  const alone = (hub.gpus ?? [gpu]).length === 1;
  const own = alone ? Math.max(gpu.own || 0, hub.open || 0) : (gpu.own || 0) + (gpu.waiting ?? hub.queue ?? 0);
  const all = own + (gpu.others || 0);
  if (!all) return "";
  const job = atWork(gpu);
  const left = job && (alone || !gpu.waiting) ? busyFor(job, all - 1, hub) : null; // another GPU may take those that wait
  return `${[
    job ? t(`doing.${job.stage}`, { name: titleText(job) }) : t("say.busy"),
    all > 1 && t("say.waiting", { count: number(all - 1) }),
    left && t("say.free", { time: duration(left) }),
  ].filter(Boolean).join(t("list.clause"))}${t("list.end")}`;
}

/** The same for a waiting job, if there is only one GPU. */
function inUse(hub) {
  const [gpu, ...more] = hub?.gpus ?? [];
  const job = gpu && !more.length && gpu.phase === "online" ? atWork(gpu) : null;
  return job ? t("why.queued.busy", { doing: t(`doing.${job.stage}`, { name: titleText(job) }) }) : "";
}

/** The job that a GPU works on, of those that the page shows: the one that is furthest. */
function atWork(gpu) {
  const jobs = (gpu.own_jobs ?? []).map((id) => known.jobOf(id)).filter((job) => job && stateOf(job) === "open" && job.stage > 0 && job.stage < 5);
  return jobs.sort((one, other) => Number(behind(one)) - Number(behind(other)) || other.stage - one.stage)[0] ?? null;
}

/** Seconds until this job and those after it are done, if those take as long; null if unknown. */
function busyFor(job, after, hub) {
  const now = Date.now() / 1000;
  const left = job.stage === 3 ? progress(job, now, hub)?.left : null;
  if (!(left > 0)) return null;
  const each = left + now - (job.seen[3] ?? now);
  const all = left + after * each;
  return all > 90 ? Math.round(all / 60) * 60 : Math.ceil(all / 5) * 5;
}

/** An error of the API as a sentence, translated where possible. */
export function refused(error, name = "") {
  const said = error.numbers || {};
  const values = { ...said, name: said.name ?? name, kind: knows(`kind.${said.kind}`) ? t(`kind.${said.kind}`) : "", ending: said.ending || "?", known: said.known, count: number(said.count ?? 0) };
  for (const key of ["size", "most", "room"]) values[key] = key in said ? bytes(said[key]) : "";
  if (!error.status) return t("toast.offline");
  if (knows(`bad.${error.code}.${said.kind}`)) return t(`bad.${error.code}.${said.kind}`, values);
  return knows(`bad.${error.code}`) ? t(`bad.${error.code}`, values) : `${sentence(error.message)}.`;
}
