// A new job: the choice of the kind, its form, and the start button.

import { usualOf } from "/costs.js";
import { by, h, put, say, show } from "/dom.js";
import { Form } from "/form.js";
import { choices, choiceTitle } from "/kinds.js";
import { refused } from "/sentences.js";
import { call } from "/session.js";
import { rank } from "/slot.js";
import { t } from "/words.js";

const LAST = "wakestream.kind";

/** Connects the form. `toast(text)` shows a message, `started(job id)` is called for each new job. */
export function composer({ toast, started }) {
  const start = by("start");
  const select = by("kind");
  let known = { kinds: [], known: false, media: {} };
  let entries = [];
  let entry = null;
  let form = null;
  let uploads = [];
  let starting = false;
  let lamps = "";
  let listed = "";
  let turn = 0;

  // The kind

  async function ask() {
    const mine = ++turn;
    try {
      const plain = await call("GET", "/console/form");
      if (mine !== turn) return;
      known = { ...plain, media: Object.assign(Object.create(null), plain.media) };
    } catch {
      return; // the next state asks again
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
    if (form && !same && entry.id === next.id && (form.isSending || starting)) return; // it changes when that has ended
    entry = next;
    select.value = entry.id;
    if (!same) {
      form?.close();
      form = made(entry.kind);
      by("form").replaceChildren(...(form ? [form.root] : []));
      form?.settle(uploads);
      say(by("veil").firstChild, t(form?.simple ? "new.veil" : "new.veil.any"));
    }
    const help = form?.simple ? "" : entry.kind.help || "";
    say(by("kind-help"), help);
    show(by("kind-help"), help !== "");
    say(by("kind-note"), note());
    show(by("kind-note"), note() !== "");
    changed();
  }

  /** The form of a kind; null for a description that this page cannot read. */
  function made(kind) {
    try {
      return new Form(kind, known.media, changed);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      return null;
    }
  }

  function note() {
    if (!form) return t("kind.broken");
    if (entry.gone) return t("kind.gone");
    if (entry.names.length && !entry.awake) return t("kind.asleep");
    return !known.known && entry.kind.name !== "lipsync" ? t("kind.unknown") : "";
  }

  select.addEventListener("change", () => {
    localStorage.setItem(LAST, select.value);
    choose(entries.find((one) => one.id === select.value));
  });

  // The start

  function changed() {
    start.disabled = !form?.isFilled || starting;
    say(by("new-hint"), form ? hint() : "");
    say(by("new-usual"), form ? usualOf(entry.kind.name) : "");
  }

  function hint() {
    if (starting) return t("new.hint.starting");
    if (form.isSending) return t("new.hint.sending");
    const names = form.needed;
    if (!names.length) return t("new.hint.ready");
    if (!form.simple || form.slots.length !== 2) return t("new.hint.missing", { names: names.join(t("list.comma")) });
    return t(`new.hint.${names.length === 2 ? "none" : form.slots.find((slot) => slot.upload).name}`);
  }

  start.addEventListener("click", async () => {
    if (!form.check()) return;
    starting = true;
    changed();
    const mine = form;
    const random = crypto.getRandomValues(new Uint8Array(8));
    const id = `ws-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    const job = { id, kind: mine.kind.name, params: mine.params, outputs: mine.wanted };
    const given = mine.slots.filter((slot) => slot.upload).map((slot) => [slot, slot.give()]);
    mine.remember();
    localStorage.setItem(LAST, entry.id);
    try {
      await call("POST", "/console/jobs", { ...job, inputs: Object.fromEntries(given.map(([slot, upload]) => [slot.name, upload.id])) });
      started(id);
    } catch (error) {
      for (const [slot, upload] of given) slot.takeBack(upload);
      if (!mine.complain(error.numbers?.field, refused(error))) toast(refused(error), true);
    } finally {
      starting = false;
      changed();
    }
  });

  addEventListener("beforeunload", (event) => { if (form?.isSending) event.preventDefault(); });
  dropping(() => form, () => known.media, toast);
  addEventListener("focus", ask); // the kinds of a GPU may change while it is on
  ask();
  return {
    ask,
    price: changed,
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
    lamps(hub) {
      const now = JSON.stringify([hub.hub, (hub.gpus ?? []).map((gpu) => [gpu.gpu, gpu.phase])]);
      if (now !== lamps || !form) ask();
      lamps = now;
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

function dropping(formNow, mediaNow, toast) {
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
    const form = formNow();
    if (!form) return;
    const over = event.target.closest?.(".slot");
    take([...event.dataTransfer.files], form, form.slots.find((slot) => slot.root === over));
  });

  function take(files, form, over) {
    if (files.length === 1 && over) return void over.take(files[0]);
    if (!form.slots.length) return toast(t("bad.noinput"), true);
    const taken = assigned(files, form.slots, mediaNow());
    const used = [...taken.values()];
    let spare = false;
    for (const file of files.filter((one) => !used.includes(one))) {
      if (form.slots.some((slot) => rank(file, slot.accepts, mediaNow()) >= 0)) spare = true;
      else toast(t(form.simple ? "bad.kind" : "bad.fits", { name: file.name }), true);
    }
    if (spare) toast(t(form.simple ? "toast.two" : "toast.spare"));
    for (const [slot, file] of taken) slot.take(file);
  }
}
