// What shows while the page is in the background: its title, its icon, and a notification when a job ends.

import { progress, STAGES, titleText, waits } from "/store.js";
import { number, t } from "/words.js";

const ASKED = "wakestream.notify"; // "on" or "off"; nothing until the first start of a job
const GATHERED = 500;
const NAMED = 3;

/** The title of the page and its icon. `open` is the number of unfinished jobs. */
export function showProgress(jobs, open, hub) {
  const running = jobs.filter((job) => !job.outcome && !waits(job));
  const parts = new Map(running.map((job) => [job, progress(job, undefined, hub)?.part]));
  const first = running.find((job) => parts.get(job) > 0) ?? running[0];
  const part = parts.get(first);
  const title = titled(first, part, running.length, open);
  if (document.title !== title) document.title = title;
  ring(part > 0 ? Math.floor(100 * part) : null);
}

function titled(job, part, running, open) {
  if (!job) return open ? t("title.waiting", { count: number(open) }) : "wakestream";
  const name = running > 1 ? `${titleText(job)} + ${t("job.more", { count: number(running - 1) })}` : titleText(job);
  if (part > 0) return t("title.percent", { percent: number(Math.floor(100 * part)), name });
  return t("title.stage", { stage: t(`stage.${STAGES[Math.min(job.stage, STAGES.length - 1)]}`), name });
}

let drawn = null;

/** The icon with a ring of so many percent; null: the plain icon. */
function ring(percent) {
  if (percent === drawn) return;
  drawn = percent;
  const circle = (colour, length) => `<circle cx='16' cy='16' r='12' fill='none' stroke='${colour}' stroke-width='7' stroke-dasharray='${length} 100' pathLength='100' transform='rotate(-90 16 16)'/>`;
  const svg = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>${circle("#8893a1", 100)}${circle("#0b63b5", percent)}</svg>`;
  document.querySelector("link[rel=icon]").href = percent === null ? "/icon.svg" : `data:image/svg+xml,${encodeURIComponent(svg)}`;
}

const isThere = () => "Notification" in window;

/** Whether the user wants notifications and the browser allows them. */
export const notifies = () => isThere() && Notification.permission === "granted" && localStorage.getItem(ASKED) === "on";

/** Asks the browser's permission, at the first start of a job only. Call it in a click. */
export function askOnce() {
  if (isThere() && localStorage.getItem(ASKED) === null) switchNotifications(true);
}

/** Switches notifications on or off; resolves with whether they are on. */
export async function switchNotifications(on) {
  localStorage.setItem(ASKED, on ? "on" : "off");
  if (on && isThere() && Notification.permission === "default") await Notification.requestPermission();
  return notifies();
}

let ended = [];

/** Notifies of ended jobs, if the page is not visible. Ends in quick succession make one notification. */
export function notify(cards) {
  if (!document.hidden || !notifies()) return;
  if (!ended.length) setTimeout(send, GATHERED);
  ended.push(...cards);
}

function send() {
  const [jobs, count] = [ended, ended.length];
  ended = [];
  const name = (job) => titleText(job);
  const body = count === 1 ? name(jobs[0]) : [...jobs.slice(0, NAMED).map((job) => `${name(job)}: ${t(`state.${job.outcome.event}`)}`), ...(count > NAMED ? [t("job.more", { count: number(count - NAMED) })] : [])].join("\n");
  const title = count === 1 ? t(`state.${jobs[0].outcome.event}`) : t("notify.many", { count: number(count) });
  try {
    const note = new Notification(title, { body, icon: "/icon.svg", tag: count === 1 ? jobs[0].id : "wakestream" });
    note.onclick = () => { window.focus(); note.close(); };
  } catch { /* some browsers allow notifications from service workers only */ }
}
