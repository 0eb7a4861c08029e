// Jobs that wait until their files are copied into the daemon, by this page or by another one.

import { refused } from "/sentences.js";
import { call, Refusal } from "/session.js";
import { begin } from "/store.js";
import { Copy, Transfer, transfers } from "/transfer.js";
import { bytes, percent, t } from "/words.js";

/** A waiting job of the daemon as a job of the page. */
export function copyingJob(plain) {
  const outputs = Object.keys(plain.outputs).map((name) => ({ name, file: "", here: false }));
  const card = { id: plain.id, state: "open", stage: "submit", kind: plain.kind, params: plain.params, inputs: plain.inputs, outputs, priority: 0, accepted_at: plain.at };
  return Object.assign(begin({ ...card, ended_at: null, outcome: null, result: null, retry_of: null, events: [] }), { stage: -1, copying: plain });
}

/** The files of a waiting job that have to be chosen again, or that another page copies. */
export const missing = (job) => job.copying.inputs.filter((one) => one.state !== "here" && !isOurs(one) && !(one.source && one.state === "coming"));

/** Whether a refused job, or a file that the daemon could not copy, can be tried again as it is. */
export const canRepeat = (job) => Boolean(job.copying?.refused) || Boolean(job.copying?.inputs.some((one) => one.failed && one.source));

/** Takes over how far the daemon's copy of a file is. */
export function copied(jobs, { id, name, size, sent }) {
  for (const job of jobs) for (const one of job.copying?.inputs ?? []) if (one.upload === id) Object.assign(one, { file: name, size, sent });
}

const isOurs = (input) => transfers.has(input.upload) && !transfers.get(input.upload).isOver;

/** What is to be said about it. */
export function copyingText(job) {
  const { inputs, refused: why } = job.copying;
  if (why) return refused(new Refusal(409, why));
  const failed = inputs.find((one) => transfers.get(one.upload)?.error ?? one.failed);
  if (failed?.source && failed.failed?.code === "broken") return t("copy.broken", { name: failed.file });
  if (failed) return refused(transfers.get(failed.upload)?.error ?? new Refusal(409, failed.failed), failed.file);
  const gone = missing(job);
  const names = gone.map((one) => one.file).join(t("list.comma"));
  if (gone.length) return t(gone.some((one) => one.state === "lost") ? "copy.lost" : "copy.away", { names });
  const own = inputs.map((one) => [one, transfers.get(one.upload)]);
  if (own.some(([, transfer]) => transfer?.waits)) return t("slot.again");
  const unknown = inputs.filter((one) => !one.size).map((one) => one.file);
  if (unknown.length) return t("copy.turn", { names: unknown.join(t("list.comma")) });
  const size = inputs.reduce((sum, one) => sum + one.size, 0);
  const sent = own.reduce((sum, [one, transfer]) => sum + (one.state === "here" ? one.size : transfer?.sent ?? one.sent), 0);
  const needsPage = inputs.some((one) => one.state !== "here" && !one.source);
  return t(needsPage ? "copy.going" : "copy.alone", { percent: percent(sent / size), size: bytes(size) });
}

/** Whether it stands until someone does something. */
export const isStuck = (job) => Boolean(job.copying.refused) || missing(job).length > 0;

/** Starts a refused job again, with `files` in place of the missing ones. Without any, the daemon copies again what it could not. */
export async function again(job, files) {
  const inputs = Object.fromEntries(job.copying.inputs.map((one) => [one.name, one.upload]));
  const left = [...files];
  const copies = [];
  for (const one of missing(job)) {
    const at = Math.max(left.findIndex((file) => file.name === one.file), missing(job).length === 1 ? 0 : -1);
    const about = { kind: one.content, accepts: one.accepts, slot: "" };
    const [file] = at < 0 ? [] : left.splice(at, 1);
    if (!file && !(one.failed && one.source && !files.length)) continue;
    const transfer = file ? new Transfer(file, about) : new Copy(one.source, about);
    inputs[one.name] = await transfer.announced();
    copies.push([one.name, transfer]);
  }
  const { id, kind, params, outputs } = job.copying;
  const post = () => call("POST", "/console/jobs", { id, kind, params, outputs, inputs: { ...inputs, ...Object.fromEntries(copies.map(([name, transfer]) => [name, transfer.id])) } });
  if (copies.length || job.copying.refused) await post();
  for (const [, transfer] of copies) {
    transfer.posts.add(post);
    transfer.copied().catch(() => {}); // the card says it
  }
}

/** Gives files to the jobs that miss them by name and size; returns the others. `failed(error)` is called at a refusal. */
export function reclaim(jobs, files, failed) {
  const rest = new Set(files);
  for (const job of jobs) {
    const mine = missing(job).map((one) => files.find((file) => file.name === one.file && file.size === one.size)).filter(Boolean);
    if (!mine.length) continue;
    for (const file of mine) rest.delete(file);
    again(job, mine).catch(failed);
  }
  return [...rest];
}

/** Stops the copies for a job that none of the `others` needs. */
export function stopCopying(job, others) {
  const needed = new Set(others.flatMap((one) => (one.copying && one.id !== job.id ? one.copying.inputs.map((each) => each.upload) : [])));
  for (const { upload } of job.copying.inputs) if (!needed.has(upload)) transfers.get(upload)?.stop();
}
