// Connects the parts of the page: login, event stream, job list, history, GPU panel and timeline.

import { composer } from "/compose.js";
import { again, copied, copyingJob, reclaim, stopCopying } from "/copying.js";
import { costs } from "/costs.js";
import { by, h, say, show } from "/dom.js";
import { moneyOf, showGpus } from "/gpus.js";
import { jobLists } from "/lists.js";
import { follow } from "/live.js";
import { past } from "/past.js";
import { Order } from "/order.js";
import { gallery, made } from "/results.js";
import { selection } from "/select.js";
import { known as told, refused } from "/sentences.js";
import { call, codeIn, enter, Refusal } from "/session.js";
import { settings } from "/settings.js";
import { askOnce, notifies, notify, showProgress } from "/signals.js";
import { begin, names, take, titleText, waitOf } from "/store.js";
import { timeline } from "/timeline.js";
import { newId } from "/transfer.js";
import { actOn, DELAY, Undo } from "/undo.js";
import { bytes, duration, moment, number, t, translate } from "/words.js";

const known = { jobs: new Map(), order: new Map(), open: 0, gpu: { hub: "connecting" }, names: new Map() };
const NAMES = 20000;
let parts = null;

function toast(text, bad = false) {
  const note = h("p", { class: bad ? "toast bad" : "toast", text });
  by("toasts").append(note);
  setTimeout(() => note.remove(), 9000);
}

/** A message with a button that takes an action back; the result removes it. */
function undoable(text, undo) {
  const note = h("p", { class: "toast" }, h("span", { text }), h("button", { class: "toast-button", type: "button", text: t("undo"), onclick: undo }));
  by("toasts").append(note);
  return () => note.remove();
}

const undo = new Undo({
  shown: undoable,
  changed: () => {
    lists.tick();
    parts?.past.refresh();
  },
  failed: (error) => { if (error.code !== "ended") toast(refused(error instanceof Error ? error : new Refusal(409, error)), true); },
});

// Actions on a job

const acts = {
  asked,
  again: (job, files) => asked(() => again(job, files)),
  undo,
  order: new Order({ known, lists: () => lists, asked, toast }),
  cancel: (job) => undo.later("cancel", [job.id], t("undo.cancelled", { name: titleText(job), time: duration(DELAY) }), cancelled),
  retry: (job) => asked(() => call("POST", `/console/jobs/${encodeURIComponent(job.id)}/retry`, {})),
  another: (job) => asked(async () => {
    const id = newId();
    await call("POST", `/console/jobs/${encodeURIComponent(job.id)}/another`, { id });
    lists.goTo(id);
  }),
  remove: (job) => undo.later("remove", [job.id], t("undo.removed", { name: made(job).map((one) => one.file).join(t("list.comma")), time: duration(DELAY) })),
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

const lists = jobLists(known, acts);

/** Stops the copies that only these jobs needed. */
function cancelled(ids) {
  for (const id of ids) if (known.jobs.get(id)?.copying) stopCopying(known.jobs.get(id), [...known.jobs.values()].filter((job) => !ids.includes(job.id)));
}

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
    const busy = [...known.jobs.values()].filter((job) => job.outcome && lists.isBusy(job.id));
    const waiting = (plain.waiting ?? []).map((one) => [one.id, copyingJob(one)]);
    known.jobs = new Map([...busy.map((job) => [job.id, job]), ...waiting, ...plain.jobs.map((card) => [card.id, begin(card, known.jobs.get(card.id))])]);
    hear.order(plain.jobs.map((card) => card.id));
    known.open = plain.open;
    known.gpu = plain.gpu;
    for (const [id, name] of Object.entries(plain.names)) known.names.set(id, name);
    for (const card of plain.jobs) remember(card);
    for (const run of plain.earlier) parts.time.add(run.boot, run.epoch, run.rows);
    parts.time.add(plain.boot, plain.epoch, plain.rows);
    parts.time.power(plain.gpu);
    parts.compose.lamps(plain.gpu);
    parts.costs.state(plain.gpu.hub);
    hear.rest(plain);
    showJobs();
    showLink();
    showLamps();
    parts.past.refresh();
    parts.batchesSoon();
  },
  card(card) {
    remember(card);
    if (card.batch) parts.batchesSoon();
    const before = known.jobs.get(card.id);
    const removed = card.result && !card.result.here; // the result may be one in the history
    if (card.outcome && !before?.outcome && !removed) tell([card]);
    if (known.open !== card.open) parts.costs.ask();
    known.open = card.open;
    if (before || !removed) known.jobs.set(card.id, begin(card));
    if (card.outcome) lists.letGo();
    lists.soon();
    showLamps();
    if (card.outcome) parts.past.refresh();
  },
  event(event) {
    const job = known.jobs.get(event.job);
    if (!job) return;
    const before = waitOf(job);
    take(job, event);
    if (lists.has(job.id)) lists.update(job);
    if (!lists.has(job.id) || before !== waitOf(job)) lists.soon(); // it starts, or waits for something else
  },
  order(ids) {
    known.order = new Map(ids.map((id, place) => [id, place]));
    lists.soon();
  },
  wait(plain) {
    parts.batchesSoon();
    if (!plain.gone) known.jobs.set(plain.id, copyingJob(plain));
    else if (known.jobs.get(plain.id)?.copying) known.jobs.delete(plain.id);
    if (!plain.gone) known.names.set(plain.id, names(known.jobs.get(plain.id)));
    lists.soon();
  },
  copy: (plain) => copied(known.jobs.values(), plain),
  gpu(plain) {
    known.gpu = plain;
    parts.time.power(plain);
    parts.compose.lamps(plain);
    parts.costs.state(plain.hub);
    showLink();
    showLamps();
    lists.tick();
  },
  kinds: () => parts.compose.ask(),
  costs: () => parts.costs.ask(),
  rows: (rows) => parts.time.more(rows),
  undelivered: (plain) => toast(t("toast.undelivered", plain), true),
  rest(plain) {
    parts.compose.settle(plain.uploads);
    parts.settings.told(plain.settings);
    say(by("foot"), `${t("foot.local")}  ·  ${t("foot.room", { used: bytes(plain.used), quota: bytes(plain.quota) })}`);
  },
};

/** The names of a job's files, or its id if they are unknown. */
const namesOf = (id) => known.names.get(id) || [id];
const nameOf = (id) => namesOf(id).join(" + ");
told.nameOf = nameOf;
told.jobOf = (id) => known.jobs.get(id);

function remember(card) {
  if (known.names.size > NAMES) known.names.delete(known.names.keys().next().value);
  known.names.set(card.id, names(card));
}

/** Announces ends of jobs to screen readers; each in its own element, since two may have the same text. */
function tell(ended) {
  if (ended.length) notify(ended);
  const words = (card) => `${titleText(card, ", ")}: ${t(`state.${card.outcome.event}`)}`;
  if (ended.length) by("told").replaceChildren(...ended.map((card, at) => h("span", { text: `${at ? "; " : ""}${words(card)}` })));
}

/** The GPU panel, with the estimates of waiting jobs. */
function showLamps() {
  const waiting = [...known.jobs.values()].find((job) => !job.outcome && job.stage === 0 && job.eta);
  showGpus(document.body.dataset.link === "gone" ? { hub: "gone" } : known.gpu, { eta: waiting ? waiting.eta : null, open: known.open, nameOf, order: orderGpu });
}

/** Turns a GPU off or keeps it on. Own jobs that need it are cancelled first, after a question. */
async function orderGpu(name, action) {
  const gpu = known.gpu.gpus.find((one) => one.gpu === name) ?? {};
  const all = action === "stop" ? await asked(() => call("GET", "/console/ids")) : { open: [] }; // also those without a card
  if (!all) return undefined;
  const ids = all.open.filter((id) => !known.jobs.get(id)?.copying && (known.gpu.gpus.length === 1 || gpu.own_jobs?.includes(id)));
  const values = { gpu: name, count: number(ids.length) };
  if (action === "stop" && gpu.others) return toast(t("gpu.cut.others", values), true);
  if (ids.length && !confirm(t(ids.length === 1 ? "gpu.cut.one" : "gpu.cut", values))) return undefined;
  return asked(async () => {
    await actOn("cancel", ids);
    const { until } = await call("POST", "/console/gpus", { gpu: name, action, cancelled: ids.length > 0 });
    toast(t(action === "keep" ? "gpu.kept" : "gpu.stopping", { ...values, time: moment(until) }));
  });
}

/** The job lists, the page's title and its icon. */
function showJobs() {
  lists.draw();
  showTitle();
}

const showTitle = () => showProgress([...known.jobs.values()], known.open, known.gpu);

/** What jobs cost is known now. */
function showCosts() {
  lists.soon();
  parts.past.refresh();
  parts.compose.price();
}

setInterval(() => {
  if (document.hidden || !parts) return;
  lists.tick();
  showLamps();
}, 1000);
setInterval(() => { if (parts) showTitle(); }, 1000);


// Login

function linked(how) {
  document.body.dataset.link = how;
  if (how === "locked") lock();
  showLink();
  showLamps();
}

/** The page is live only if the daemon reaches the hub as well. */
function showLink() {
  const { dataset } = document.body;
  dataset.hub = dataset.link === "up" ? known.gpu.hub : "";
  say(by("link-text"), t(`link.${/down|refused/.test(dataset.hub) ? "hub" : dataset.link}`));
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
    ...selection({ undo, toast, cancelled }),
    time: timeline({ namesOf, nameOf, toast }),
    settings: settings(toast, () => moneyOf(known.gpu)),
    past: past(acts, known),
    costs: costs({ filesOf: namesOf, changed: showCosts }),
    compose: composer({
      toast, started: lists.goTo, hasFolder: () => parts.settings.hasFolder(),
      reclaim: (files) => reclaim([...known.jobs.values()].filter((job) => job.copying), files, (error) => toast(refused(error), true)),
    }),
  };
  showLamps();
  follow({ watches: () => known.open > 0 && notifies(), hear: (kind, plain) => hear[kind]?.(plain), linked, rows: parts.time.last });
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

by("start").addEventListener("click", askOnce);
translate(document);
knock(codeIn(location.hash));
