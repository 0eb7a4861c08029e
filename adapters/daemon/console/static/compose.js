// A new job: the choice of the kind, its form, and the start button.

import { Batch, batchHint, filesOf } from "/batch.js";
import { estimateText } from "/costs.js";
import { by, h, say, show } from "/dom.js";
import { Form } from "/form.js";
import { choices, choiceTitle, given } from "/kinds.js";
import { refused, watched } from "/sentences.js";
import { call } from "/session.js";
import { rank } from "/slot.js";
import { isCopying, newId, startJob } from "/transfer.js";
import { lang, number, t } from "/words.js";

const LAST = "wakestream.kind";
// Jobs that the page lists when they have ended.
const KEPT = 1000;
const TABLE = /\.(?:csv|tsv|jsonl|ndjson)$/i;
const SOURCE = /^(?:https?:\/\/|file:\/\/|\/|~\/|[a-z]:[\\/]|\\\\)\S/i;

/**
 * Connects the form. `toast(text)` shows a message, `started(job id)` is called for a new job, `reclaim(files)` takes the
 * files that jobs wait for and returns the others, and `hasFolder()` says whether results are saved in a folder too.
 */
export function composer({ toast, started, reclaim, hasFolder }) {
  const start = by("start");
  const select = by("kind");
  let known = { kinds: [], known: false, media: {} };
  let entries = [];
  let entry = null;
  let form = null;
  let batch = null;
  let uploads = [];
  // What is said meanwhile.
  let starting = "";
  let lamps = "";
  let hub = {};
  let listed = "";
  let turn = 0;
  let pricing = 0;

  // The kind

  async function ask() {
    const mine = ++turn;
    try {
      const plain = await call("GET", "/console/form");
      if (mine !== turn) return;
      known = { ...plain, media: Object.assign(Object.create(null), plain.media) };
    } catch {
      // The next state asks again.
      return;
    }
    entries = choices(known);
    const last = entry?.id ?? localStorage.getItem(LAST);
    const gone = form && !entries.some((one) => one.id === entry.id);
    if (gone) entries.push({ ...entry, gone: true, awake: false });
    const titles = entries.map((one) => [one.id, choiceTitle(one)]);
    if (JSON.stringify(titles) !== listed) select.replaceChildren(...titles.map(([value, text]) => h("option", { value, text })));
    listed = JSON.stringify(titles);
    show(by("kind-box"), entries.length > 1);
    choose(entries.find((one) => one.id === last) ?? entries.find((one) => one.kind.name === "lipsync" && (one.awake || one.names.length)) ?? entries.find((one) => one.awake) ?? entries[0]);
  }

  function choose(next) {
    const same = entry && form && JSON.stringify(entry.kind) === JSON.stringify(next.kind);
    // It changes when that has ended.
    if (form && !same && entry.id === next.id && (form.isSending || starting || batch)) return;
    entry = next;
    select.value = entry.id;
    if (!same) {
      const files = batch?.files;
      if (batch) closeBatch();
      form?.close();
      form = made(entry.kind);
      by("form").replaceChildren(...(form ? [form.root] : []));
      form?.settle(uploads);
      if (files && form?.slots.length) openBatch(files, null);
      say(by("veil").firstChild, t(form?.simple ? "new.veil" : "new.veil.any"));
    }
    const help = form?.simple ? "" : given(entry.kind.help) || "";
    say(by("kind-help"), help);
    show(by("kind-help"), help !== "");
    say(by("kind-note"), note());
    show(by("kind-note"), note() !== "");
    changed();
  }

  /** The form of a kind; null for a description that this page cannot read. */
  function made(kind) {
    try {
      return new Form(kind, known.media, changed, (files, slot) => take(files, null, slot));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      return null;
    }
  }

  function note() {
    if (!form) return t("kind.broken");
    if (entry.gone) return t("kind.gone");
    if (entry.names.length && !entry.awake) return hub.hub === "up" ? t(`kind.${sleeping()}`) : "";
    return !known.known && entry.kind.name !== "lipsync" ? t("kind.unknown") : "";
  }

  /** What a job for these GPUs, of which none is on, leads to. */
  function sleeping() {
    const gpus = (hub.gpus ?? []).filter((gpu) => entry.names.includes(gpu.gpu));
    const phases = gpus.map((gpu) => gpu.phase);
    if (phases.some((phase) => ["starting", "booted"].includes(phase))) return "waking";
    if (hub.monitors === 0 || (gpus.length && !gpus.some((gpu) => watched(gpu, hub)))) return "monitor";
    return phases.length && phases.every((phase) => ["no_capacity", "not_ready", "paused"].includes(phase)) ? "stuck" : "asleep";
  }

  select.addEventListener("change", () => {
    localStorage.setItem(LAST, select.value);
    choose(entries.find((one) => one.id === select.value));
  });

  // The start

  function changed() {
    const count = batch?.ready.length;
    start.disabled = Boolean(starting) || !(batch ? count : form?.isFilled);
    say(start, count ? t(count === 1 ? "batch.start.one" : "batch.start", { count: number(count) }) : t("new.start"));
    say(by("new-hint"), form ? hint() : "");
    price();
  }

  /** Says what the jobs of the form or of the list take. */
  function price() {
    const longest = (uploads) => Math.max(0, ...uploads.map((upload) => upload?.seconds || 0)) || null;
    const lengths = batch ? batch.ready.map((row) => longest(row.picks.map((item) => item?.transfer?.upload))) : [longest(form?.slots.map((slot) => slot.upload) ?? [])];
    clearTimeout(pricing);
    pricing = setTimeout(async () => {
      const found = form && lengths.length ? await call("POST", "/console/estimate", { kind: entry.kind.name, lengths: lengths.slice(0, 1000) }).catch(() => null) : {};
      if (found) say(by("new-usual"), estimateText(found));
    }, 100);
  }

  function hint() {
    if (starting) return starting;
    if (batch) return batchHint(batch);
    const names = form.needed;
    if (!names.length) return t(form.isSending ? "new.hint.sending" : "new.hint.ready");
    if (!form.simple || form.slots.length !== 2) return t("new.hint.missing", { names: names.join(t("list.comma")) });
    if (names.length === 2 && entry.kind.help?.startsWith("Test engine")) return given(entry.kind.help);
    return t(`new.hint.${names.length === 2 ? "none" : form.slots.find((slot) => slot.upload || slot.sending).name}`);
  }

  start.addEventListener("click", async () => {
    if (!batch?.table && !form.check()) return;
    if (batch?.ready.length > KEPT && !hasFolder()) return void toast(t("batch.folder", { count: number(KEPT) }), true);
    starting = t("new.hint.starting");
    changed();
    form.remember();
    localStorage.setItem(LAST, entry.id);
    try {
      await (batch ? startMany(form, batch) : startOne(form));
    } finally {
      starting = "";
      changed();
    }
  });

  const jobOf = (mine, name) => {
    // Another one may be chosen by now.
    const { twins, names } = entries.find((one) => one.kind === mine.kind) ?? {};
    return { id: newId(), kind: mine.kind.name, params: mine.params, outputs: mine.wanted, ...(twins ? { gpus: names } : {}), ...(name ? { batch: name } : {}) };
  };

  async function startOne(mine) {
    const job = jobOf(mine);
    mine.given = true;
    const given = mine.slots.filter((slot) => slot.full).map((slot) => [slot, slot.give()]);
    try {
      await startJob(job, Object.fromEntries(given.map(([slot, transfer]) => [slot.name, transfer])));
      started(job.id);
    } catch (error) {
      for (const [slot, transfer] of given) slot.takeBack(transfer);
      complain(mine, error);
    } finally {
      mine.given = false;
      for (const list of mine.lists) list.fit();
    }
  }

  /** Starts the jobs of the list one after the other; at a refusal the rest stays in the list. */
  async function startMany(mine, list) {
    const count = list.ready.length;
    const name = count > 1 ? list.name.value.trim() : "";
    for (const [at, row] of list.ready.entries()) {
      starting = t("batch.starting", { part: number(at + 1), count: number(count) });
      say(by("new-hint"), hint());
      const given = row.picks.map((item, slot) => [mine.slots[slot].name, item && list.transferOf(item, slot)]).filter(([, transfer]) => transfer);
      try {
        const job = jobOf(mine, name);
        Object.assign(job.params, row.given?.params);
        await startJob(job, Object.fromEntries(given));
      } catch (error) {
        list.show();
        row.complain(refused(error));
        row.root.scrollIntoView({ block: "nearest" });
        return complain(mine, error);
      }
      list.begun(row);
      // It was closed.
      if (batch !== list) return undefined;
    }
    toast(t(count === 1 ? "batch.started.one" : "batch.started", { count: number(count) }));
    if (list.rows.length) list.show();
    else closeBatch();
    return undefined;
  }

  function complain(mine, error) {
    if (!mine.complain(error.numbers?.field, refused(error))) toast(refused(error), true);
  }

  // Files

  /** Pasted files are as dropped ones; a pasted path or URL goes to the slot that it fits. */
  addEventListener("paste", (event) => {
    if (!form || event.target.closest?.("input, textarea, select")) return;
    const files = [...event.clipboardData.files];
    if (files.length) return void take(files);
    const sources = event.clipboardData.getData("text").split("\n").map((line) => line.trim().replace(/^"|"$/g, "")).filter((line) => SOURCE.test(line));
    if (batch) return void (sources.length && toast(t("slot.source.one")));
    for (const source of sources.slice(0, form.slots.length)) {
      const name = source.split(/[?#]/)[0];
      const fits = form.slots.filter((slot) => rank({ name, type: "" }, slot.accepts, known.media) >= 0);
      const slot = fits.find((one) => !one.upload && !one.sending) ?? fits[0];
      if (slot) slot.takeSource(source);
      else toast(t("bad.fits", { name: name.split(/[/\\]/).at(-1) }), true);
    }
  });

  /** Takes files that were dropped or chosen: into the slots, or into a list of jobs if there are more. */
  function take(all, over = null, slot = null) {
    const files = reclaim(all);
    if (!form || !files.length) return;
    const table = files.find((file) => TABLE.test(file.name) && form.slots.every((one) => rank(file, one.accepts, known.media) < 0));
    if (table) return void openTable(table, files.filter((file) => file !== table));
    if (batch) return void batch.add(files, [], slot);
    if (!form.slots.length) return void toast(t("bad.noinput"), true);
    if (over?.list) return void over.list.take(files);
    if (files.length === 1 && over) return void over.take(files[0]);
    const fits = files.filter((file) => form.slots.some((one) => rank(file, one.accepts, known.media) >= 0));
    const taken = assigned(fits, form.slots, known.media);
    const rest = fits.filter((file) => ![...taken.values()].includes(file));
    if (rest.length && !form.lists.length) return void openBatch(files, slot);
    const [list] = form.lists;
    const listed = list ? rest.filter((file) => rank(file, list.slots[0].accepts, known.media) >= 0) : [];
    for (const file of files.filter((one) => ![...taken.values(), ...listed].includes(one)).slice(0, 3)) toast(t(form.simple ? "bad.kind" : "bad.fits", { name: file.name }), true);
    const chosen = [...taken];
    for (const [one, file] of chosen.filter(([one]) => !one.list)) one.take(file);
    for (const each of form.lists) each.take([...chosen.filter(([one]) => one.list === each).map(([, file]) => file), ...(each === list ? listed : [])].sort((one, other) => files.indexOf(one) - files.indexOf(other)));
  }

  /** Opens the rows of a table as jobs; the daemon reads and checks it. */
  async function openTable(file, others) {
    const mine = form;
    const query = new URLSearchParams({ lang, kind: entry.kind.name, name: file.name, params: JSON.stringify(form.params) });
    try {
      const found = await call("POST", `/console/rows?${query}`, file);
      if (form !== mine) return;
      const files = [...(batch?.files ?? []), ...others];
      if (batch) closeBatch();
      openBatch(files, null, { name: file.name, ...found });
    } catch (error) {
      toast(refused(error), true);
    }
  }

  function openBatch(files, slot, table) {
    batch = new Batch(form.slots, known.media, changed, closeBatch, table);
    const given = form.slots.flatMap((one, at) => (one.upload || one.sending ? [[at, one.give()]] : []));
    form.showBatch(batch);
    batch.add(files, given, slot);
    batch.list.focus({ preventScroll: true });
  }

  function closeBatch() {
    for (const [at, items] of batch.items.entries()) for (const { transfer } of items) if (transfer && !transfer.posts.size) form.slots[at].takeBack(transfer);
    batch.root.remove();
    batch = null;
    form.showBatch(null);
    changed();
  }

  addEventListener("beforeunload", (event) => { if (form?.isSending || batch || isCopying()) event.preventDefault(); });
  dropping((files, over) => take(files, form?.slots.find((slot) => slot.root === over)));
  // The kinds of a GPU may change while it is on.
  addEventListener("focus", ask);
  ask();
  return {
    ask,
    price,
    /** Fills the form in as it was for a job. */
    use(job) {
      const next = entries.find((one) => one.kind.name === job.kind && !one.gone);
      if (!next) return toast(t("kind.gone"), true);
      choose(next);
      localStorage.setItem(LAST, next.id);
      form.use(job);
      return by("composer").scrollIntoView({ block: "nearest" });
    },
    /** The daemon's list of unused files, which includes uploads of other pages. */
    settle(list) {
      uploads = list;
      form?.settle(list);
      changed();
    },
    /** The state of the GPUs: the kinds are asked for again when one comes or goes. */
    lamps(told) {
      hub = told;
      const now = JSON.stringify([hub.hub, (hub.gpus ?? []).map((gpu) => [gpu.gpu, gpu.phase, gpu.watched]), hub.monitors]);
      if (now !== lamps || !form) ask();
      lamps = now;
      price();
    },
  };
}

/** Which file goes to which slot: the best fit first, empty slots before others. */
export function assigned(files, slots, media) {
  const pairs = files.flatMap((file, at) => slots.map((slot) => ({ file, slot, at, rank: rank(file, slot.accepts, media) })));
  const order = (pair) => [pair.rank, pair.slot.upload ? 1 : 0, pair.at];
  const taken = new Map();
  const found = pairs.filter((pair) => pair.rank >= 0).sort((one, other) => {
    const [mine, theirs] = [order(one), order(other)];
    const differs = mine.findIndex((value, at) => value !== theirs[at]);
    return differs < 0 ? 0 : mine[differs] - theirs[differs];
  });
  for (const { file, slot } of found) if (!taken.has(slot) && ![...taken.values()].includes(file)) taken.set(slot, file);
  return taken;
}

function dropping(take) {
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
    const over = event.target.closest?.(".slot");
    filesOf(event.dataTransfer).then((files) => take(files, over));
  });
}
