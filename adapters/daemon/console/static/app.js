// Connects the parts of the page: login, event stream, job list, history, GPU panel and timeline.

import { makeCard } from "/cards.js";
import { composer } from "/compose.js";
import { by, h, put, say, show } from "/dom.js";
import { showGpus } from "/gpus.js";
import { follow } from "/live.js";
import { past } from "/past.js";
import { gallery, made } from "/results.js";
import { known as told, refused } from "/sentences.js";
import { call, codeIn, enter } from "/session.js";
import { begin, names, take, titleText } from "/store.js";
import { timeline } from "/timeline.js";
import { bytes, number, t, translate } from "/words.js";

const known = { jobs: new Map(), open: 0, gpu: { hub: "connecting" }, names: new Map() };
const cards = new Map();
const MANY = 6;
const ENDED = 6;
const SHOWN = 200;
const NAMES = 20000;
let parts = null;
let drawing = 0;

function toast(text, bad = false) {
  const note = h("p", { class: bad ? "toast bad" : "toast", text });
  by("toasts").append(note);
  setTimeout(() => note.remove(), 9000);
}

// Actions on a job

const acts = {
  cancel: (job) => asked(() => call("POST", `/console/jobs/${encodeURIComponent(job.id)}/cancel`)),
  retry: (job) => asked(() => call("POST", `/console/jobs/${encodeURIComponent(job.id)}/retry`, {})),
  remove: (job) => confirm(t("card.remove.sure", { name: made(job).map((one) => one.file).join(", ") }))
    && asked(() => call("DELETE", `/console/results/${encodeURIComponent(job.id)}`)),
  use: (job) => parts.compose.use(job),
  address: (job) => asked(async () => (await call("POST", `/console/jobs/${encodeURIComponent(job.id)}/ticket`)).url),
  download: async (job, one = made(job)[0]) => {
    const url = await acts.address(job);
    if (url) h("a", { href: `${url}&name=${encodeURIComponent(one.name)}&download=1`, download: one.file }).click();
  },
  open: async (job) => {
    const url = await acts.address(job);
    if (url) theatre(job, url);
  },
};

async function asked(what) {
  try {
    return await what();
  } catch (error) {
    toast(refused(error), true);
    return null;
  }
}

function theatre(job, url) {
  const name = titleText(job);
  const close = h("button", { class: "button quiet", type: "button", text: t("card.hide"), onclick: () => dialog.close() });
  const dialog = h("dialog", { class: "theatre", "aria-label": name, onclose: () => dialog.remove() },
    gallery(job, url, (one) => acts.download(job, one)), h("div", { class: "theatre-foot" }, h("bdi", { text: name }), close));
  document.body.append(dialog);
  dialog.showModal();
}

// Events from the daemon

const hear = {
  state(plain) {
    tell(plain.jobs.filter((card) => card.outcome && known.jobs.has(card.id) && !known.jobs.get(card.id).outcome));
    // A card in use stays, however long ago its job ended.
    const busy = [...known.jobs.values()].filter((job) => job.outcome && cards.get(job.id)?.busy);
    known.jobs = new Map([...busy.map((job) => [job.id, job]), ...plain.jobs.map((card) => [card.id, begin(card, known.jobs.get(card.id))])]);
    known.open = plain.open;
    known.gpu = plain.gpu;
    for (const [id, name] of Object.entries(plain.names)) known.names.set(id, name);
    for (const card of plain.jobs) remember(card);
    for (const run of plain.earlier) parts.time.add(run.boot, run.epoch, run.rows);
    parts.time.add(plain.boot, plain.epoch, plain.rows);
    parts.time.power(plain.gpu);
    parts.compose.lamps(plain.gpu);
    hear.rest(plain);
    showJobs();
    showLamps();
    parts.past.refresh();
  },
  card(card) {
    remember(card);
    const before = known.jobs.get(card.id);
    const removed = card.result && !card.result.here; // the result may be one in the history
    if (card.outcome && !before?.outcome && !removed) tell([card]);
    known.open = card.open;
    if (before || !removed) known.jobs.set(card.id, begin(card));
    if (card.outcome) letGo();
    soon();
    showLamps();
    if (card.outcome) parts.past.refresh();
  },
  event(event) {
    const job = known.jobs.get(event.job);
    if (!job) return;
    take(job, event);
    if (cards.has(event.job)) cards.get(event.job).update(job, known.gpu);
    else soon(); // it starts, and there may be space for its card now
  },
  gpu(plain) {
    known.gpu = plain;
    parts.time.power(plain);
    parts.compose.lamps(plain);
    showLamps();
    showTimes();
  },
  kinds: () => parts.compose.ask(),
  rows: (rows) => parts.time.more(rows),
  rest(plain) {
    parts.compose.settle(plain.uploads);
    say(by("foot"), `${t("foot.local")}  ·  ${t("foot.room", { used: bytes(plain.used), quota: bytes(plain.quota) })}`);
  },
};

/** The names of a job's files, or its id if they are unknown. */
const namesOf = (id) => known.names.get(id) || [id];
const nameOf = (id) => namesOf(id).join(" + ");
told.nameOf = nameOf;

function remember(card) {
  if (known.names.size > NAMES) known.names.delete(known.names.keys().next().value);
  known.names.set(card.id, names(card));
}

/** Announces ends of jobs to screen readers; each in its own element, since two may have the same text. */
function tell(ended) {
  const words = (card) => `${titleText(card, ", ")}: ${t(`state.${card.outcome.event}`)}`;
  if (ended.length) by("told").replaceChildren(...ended.map((card, at) => h("span", { text: `${at ? "; " : ""}${words(card)}` })));
}

/** Running jobs in order, then ended ones, latest first. */
function inTurn(one, other) {
  if (Boolean(one.outcome) !== Boolean(other.outcome)) return one.outcome ? 1 : -1;
  return one.outcome ? other.ended_at - one.ended_at : one.accepted_at - other.accepted_at;
}

/** Older ended jobs move into the history, except those in use. */
function letGo() {
  const ended = [...known.jobs.values()].filter((job) => job.outcome).sort(inTurn);
  for (const job of ended.slice(ENDED)) if (!cards.get(job.id)?.busy) known.jobs.delete(job.id);
}

/** The GPU panel, with the estimates of waiting jobs. */
function showLamps() {
  const waiting = [...known.jobs.values()].find((job) => !job.outcome && job.stage === 0 && job.eta);
  showGpus(known.gpu, { eta: waiting ? waiting.eta : null, open: known.open, nameOf });
}

/** The jobs that the page shows: running, next in turn, ended. */
function chosen() {
  const jobs = [...known.jobs.values()];
  const open = jobs.filter((job) => !job.outcome);
  if (open.length <= SHOWN) return jobs.sort(inTurn);
  const begun = (job) => Number(Boolean(job.last) && job.last.event !== "accepted" && !job.note?.data?.waits);
  open.sort((one, other) => begun(other) - begun(one) || other.priority - one.priority || inTurn(one, other));
  return [...open.slice(0, SHOWN), ...jobs.filter((job) => job.outcome)].sort(inTurn);
}

/** Shows the jobs after a short delay: thousands may arrive at once. */
function soon() {
  drawing ||= setTimeout(() => {
    drawing = 0;
    showJobs();
  }, 20);
}

function showJobs() {
  const list = by("cards");
  const jobs = chosen();
  const shown = new Set(jobs.map((job) => job.id));
  put(list, "data-many", jobs.length > MANY);
  for (const [id, card] of cards) {
    if (!shown.has(id)) {
      card.root.remove();
      cards.delete(id);
    }
  }
  jobs.forEach((job, at) => {
    if (cards.has(job.id)) cards.get(job.id).update(job, known.gpu);
    else cards.set(job.id, makeCard(job, known.gpu, acts));
    const { root } = cards.get(job.id);
    if (list.children[at] !== root) {
      if (root.isConnected && list.moveBefore) list.moveBefore(root, list.children[at] || null);
      else list.insertBefore(root, list.children[at] || null);
    }
  });
  const here = jobs.filter((job) => !job.outcome).length;
  const open = Math.max(here, known.open);
  say(by("now-more"), open > here ? t(open - here === 1 ? "now.more.one" : "now.more", { shown: number(here), count: number(open - here) }) : "");
  say(by("now-count"), open ? number(open) : "");
  document.title = open ? `(${number(open)}) wakestream` : "wakestream";
  show(by("now-empty"), !jobs.length);
}

/** Updates the cards: their texts contain times. */
function showTimes() {
  for (const [id, card] of cards) {
    const job = known.jobs.get(id);
    if (job) card.update(job, known.gpu);
  }
}

setInterval(() => {
  if (document.hidden || !parts) return;
  showTimes();
  showLamps();
}, 1000);

// Login

function linked(how) {
  document.body.dataset.link = how;
  say(by("link-text"), t(`link.${how}`));
  if (how === "locked") lock();
}

function lock() {
  document.body.dataset.link = "locked";
  say(by("link-text"), t("link.locked"));
  show(by("house"), false);
  show(by("door"), true);
}

function open() {
  show(by("door"), false);
  show(by("house"), true);
  parts ??= {
    time: timeline({ namesOf, nameOf, toast }),
    past: past(acts, () => [...known.jobs.values()].filter((job) => job.outcome)),
    compose: composer({ toast, started: (id) => setTimeout(() => goTo(id), 300) }),
  };
  showLamps();
  follow({ hear: (kind, plain) => hear[kind]?.(plain), linked, rows: parts.time.last });
}

/** Scrolls to the job that was just started, and moves the keyboard focus to it if its button is gone. */
function goTo(id) {
  const card = document.querySelector(`#cards > [data-job="${CSS.escape(id)}"]`);
  card?.scrollIntoView({ block: "nearest" });
  if (document.activeElement === document.body) card?.querySelector("h3").focus({ preventScroll: true });
}

async function knock(code) {
  try {
    const locked = !by("door").hidden;
    if (await enter(code)) {
      open();
      if (locked) by("work").focus({ preventScroll: true });
      return;
    }
    lock();
    if (code) say(by("door-wrong"), t("door.wrong"));
  } catch {
    linked("down");
    setTimeout(() => knock(code), 1500);
  }
}

by("door-form").addEventListener("submit", (event) => {
  event.preventDefault();
  say(by("door-wrong"), "");
  const code = codeIn(by("door-code").value);
  by("door-code").value = "";
  if (code) knock(code);
  else say(by("door-wrong"), t("door.wrong"));
});
addEventListener("storage", () => { if (!by("door").hidden) knock(""); }); // another tab has a session
addEventListener("hashchange", () => {
  const code = codeIn(location.hash);
  if (code && !by("door").hidden) knock(code);
  if (code) history.replaceState(null, "", location.pathname);
});

translate(document);
knock(codeIn(location.hash));
