// Many files: a list of the jobs that they make, each of which can be changed or removed before the start.

import { button, h, put, say, show } from "/dom.js";
import { pairsOf } from "/pairs.js";
import { rank } from "/slot.js";
import { bytes, clock, date, lang, number, t } from "/words.js";

const NAMED = 3;
const SHOWN = 500; // rows: more are slow to draw
const inOrder = new Intl.Collator(lang, { numeric: true }).compare;

/** The day and the time, which tell this batch from others. */
function today() {
  const now = new Date();
  const day = new Date(now - 60000 * now.getTimezoneOffset()).toISOString().slice(0, 10);
  return `${date(day)} ${clock(now / 1000, true)}`;
}

/** `count` with the words of `key`, which has a form for one. */
const counted = (key, count) => t(count === 1 ? `${key}.one` : key, { count: number(count) });

/**
 * The jobs of many files for the slots of a form. `changed()` is called at each change, `closed()` when it is given up.
 * With a `table`, its `rows` are the jobs, which name their files; or `faults` say what is wrong in it.
 */
export class Batch {
  constructor(slots, media, changed, closed, table = null) {
    Object.assign(this, { slots, media, changed, table });
    this.items = slots.map(() => []); // the files of each slot: name, size, and `file` or `transfer`
    this.rows = [];
    this.others = [];
    this.touched = false;
    this.said = h("p", { class: "batch-said", role: "status" });
    this.name = h("input", { value: table?.name ?? t("batch.name.new", { time: today() }), maxlength: "80", autocomplete: "off", "aria-label": t("batch.name") });
    this.other = h("p", { class: "hint", hidden: true });
    this.list = h("ol", { class: "batch-rows", tabindex: "0", "aria-label": t("batch.label") });
    this.more = h("input", { type: "file", multiple: true, class: "hide", "aria-label": t("batch.add"), onchange: () => {
      this.add([...this.more.files]);
      this.more.value = "";
    } });
    this.root = h("section", { class: "batch", "aria-label": t("batch.label") },
      h("div", { class: "bar" }, this.said, h("label", { class: "batch-name" }, h("span", { text: t("batch.name") }), this.name), h("div", { class: "tools" },
        h("label", { class: "button quiet pick" }, this.more, h("span", { text: t("batch.add") })), button(t("batch.close"), "close", closed))),
      this.list, this.other, h("ul", { class: "wrong", role: "alert" }, ...(table?.faults ?? []).map((one) => h("li", { text: t(one.column ? "rows.fault.of" : "rows.fault", one) }))));
    this.rows = (table?.rows ?? []).map((given) => new Row(this, slots.map(() => null), given));
  }

  /** All its files, those without a slot too. */
  get files() {
    return [...this.items.flat().map((item) => item.file).filter(Boolean), ...this.others];
  }

  /** The rows that make a job. */
  get ready() {
    return this.rows.filter((row) => row.isReady);
  }

  /** The bytes that are still to be copied. */
  get size() {
    const used = new Set(this.ready.flatMap((row) => row.picks).filter(Boolean));
    return [...used].reduce((sum, item) => sum + (item.transfer?.upload ? 0 : item.size), 0);
  }

  /** Adds files; those in `given` are at a slot already. What was changed by hand stays. */
  add(files, given = [], slot = null) {
    for (const [at, transfer] of given) this.items[at].push({ name: transfer.name, size: transfer.size, transfer });
    for (const file of [...files].sort((one, other) => inOrder(one.name, other.name))) {
      const at = this.slotOf(file, slot);
      if (at < 0) this.others.push(file);
      else if (!this.items[at].some((item) => item.name === file.name && item.size === file.size)) this.items[at].push({ name: file.name, size: file.size, file });
    }
    if (this.table) return this.match();
    if (!this.touched) this.rows = [];
    const used = new Set(this.ready.flatMap((row) => row.picks));
    const free = this.items.map((items) => items.filter((item) => !used.has(item)));
    const groups = free.map((items, at) => ({ names: items.map((item) => item.name), required: this.slots[at].required, roles: this.rolesOf(at) }));
    const rows = pairsOf(groups).jobs.map((job) => new Row(this, job.map((index, at) => free[at][index] ?? null)));
    this.rows = [...this.ready, ...rows];
    return this.settle();
  }

  /** Gives the rows of the table the files that they name. */
  match() {
    const named = this.items.map((items) => new Map(items.map((item) => [item.name.toLowerCase(), item])));
    for (const row of this.rows) row.picks = row.picks.map((item, at) => item ?? named[at].get(row.wanted(at).toLowerCase()) ?? null);
    this.show();
  }

  /** The slot that a file fits best; of equal ones, the one whose name it has. */
  slotOf(file, wanted) {
    if (file.name.startsWith(".") || !file.size) return -1;
    const ranks = this.slots.map((slot) => rank(file, slot.accepts, this.media));
    if (wanted && ranks[this.slots.indexOf(wanted)] >= 0) return this.slots.indexOf(wanted);
    const best = Math.min(...ranks.filter((each) => each >= 0));
    const found = ranks.flatMap((each, at) => (each === best ? [at] : []));
    const words = new Set(file.name.toLowerCase().split(/[^\p{L}\p{M}]+/u));
    return found.find((at) => this.rolesOf(at).some((role) => words.has(role))) ?? found[0] ?? -1;
  }

  rolesOf(at) {
    const { name, words } = this.slots[at];
    return [name, words.title.toLowerCase()];
  }

  /** Each file is in a row: alone if it has no partner. */
  settle() {
    if (this.table) return this.show();
    const used = new Set(this.ready.flatMap((row) => row.picks).filter(Boolean));
    this.rows = this.rows.filter((row) => row.isReady || (row.held && !row.isEmpty));
    for (const row of this.rows) for (const item of row.picks) if (item) used.add(item);
    this.items.forEach((items, at) => items.forEach((item) => {
      if (!used.has(item)) this.rows.push(new Row(this, this.slots.map((_, slot) => (slot === at ? item : null))));
    }));
    return this.show();
  }

  show() {
    const jobs = this.ready.length;
    const single = this.rows.length - jobs;
    const faults = this.table?.faults ? this.table.faults.length + this.table.more : 0;
    const more = this.rows.length - SHOWN;
    const said = [counted("batch.jobs", jobs), ...(single ? [counted(this.table ? "rows.missing" : "batch.single", single)] : []), ...(more > 0 ? [t("rows.more", { count: number(more) })] : [])];
    say(this.said, faults ? counted("rows.faults", faults) : said.join(t("list.comma")));
    const names = this.others.slice(0, NAMED).map((file) => file.name).join(t("list.comma"));
    say(this.other, this.others.length ? `${counted("batch.others", this.others.length)} ${names}${this.others.length > NAMED ? " …" : ""}` : "");
    show(this.other, this.others.length > 0);
    const shown = this.rows.slice(0, SHOWN);
    shown.forEach((row, at) => {
      row.update(at);
      if (this.list.children[at] !== row.root) this.list.insertBefore(row.root, this.list.children[at] ?? null);
    });
    while (this.list.children.length > shown.length) this.list.lastChild.remove();
    this.changed();
  }

  /** Takes a row away, and its files that are in no other. */
  remove(row) {
    const at = this.rows.indexOf(row);
    this.touched = true;
    this.rows.splice(at, 1);
    this.items = this.items.map((items) => items.filter((item) => !row.picks.includes(item) || this.rows.some((one) => one.picks.includes(item))));
    this.settle();
    (this.rows[Math.min(at, this.rows.length - 1)]?.away ?? this.list).focus();
  }

  /** Takes a row away whose job has begun. */
  begun(row) {
    this.rows.splice(this.rows.indexOf(row), 1);
    const kept = new Set(this.rows.flatMap((one) => one.picks));
    this.items = this.items.map((items) => items.filter((item) => kept.has(item)));
    row.root.remove();
    if (!this.list.children.length) this.show(); // the next ones
  }

  /** A file of the list as something that is copied; once, also for several jobs. */
  transferOf(item, at) {
    item.transfer ??= this.slots[at].transferOf(item.file);
    return item.transfer;
  }
}

class Row {
  constructor(batch, picks, given = null) {
    Object.assign(this, { batch, picks, given, held: false });
    this.selects = batch.slots.map((slot, at) => {
      const fill = () => this.fill(at);
      return h("select", { onfocus: fill, onpointerdown: fill, onchange: () => this.changed(at) });
    });
    this.away = button("", "close", () => batch.remove(this), "quiet icon");
    this.wrong = h("p", { class: "wrong", role: "alert" });
    this.root = h("li", { class: "batch-row" }, h("div", { class: "batch-picks" }, ...this.selects, given && h("bdi", { class: "batch-values", text: Object.entries(given.params).filter(([name]) => !batch.table.secret.includes(name)).map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`).join(" · ") })), this.away, this.wrong);
    this.selects.forEach((_, at) => this.draw(at));
  }

  get isReady() {
    return this.picks.every((item, at) => item || !(this.batch.slots[at].required || this.wanted(at))) && Boolean(this.given || !this.isEmpty);
  }

  /** The name of the file that the table has for a slot; empty without one. */
  wanted(at) {
    return this.given?.inputs[this.batch.slots[at].name] ?? "";
  }

  get isEmpty() {
    return this.picks.every((item) => !item);
  }

  /** Only the chosen file is an option until the list is used: a thousand lists of a thousand names are slow. */
  draw(at) {
    const item = this.picks[at];
    this.selects[at].replaceChildren(h("option", { value: item ? this.batch.items[at].indexOf(item) : "", text: item ? item.name : this.none(at) }));
  }

  fill(at) {
    const chosen = this.batch.items[at].indexOf(this.picks[at]);
    if (this.selects[at].length > 1) return;
    const all = this.batch.items[at].map((item, index) => h("option", { value: index, text: item.name }));
    this.selects[at].replaceChildren(h("option", { value: "", text: this.none(at) }), ...all);
    this.selects[at].value = chosen < 0 ? "" : String(chosen);
  }

  none(at) {
    const slot = this.batch.slots[at];
    if (this.wanted(at)) return t("rows.wanted", { name: this.wanted(at) });
    return slot.required ? t("batch.choose", { name: slot.words.title }) : t("batch.none");
  }

  changed(at) {
    const { value } = this.selects[at];
    this.picks[at] = value === "" ? null : this.batch.items[at][Number(value)];
    this.batch.touched = true;
    this.held = true; // it stays at its place
    say(this.wrong, "");
    this.batch.settle();
  }

  update(at) {
    const count = number(this.given?.line ?? at + 1);
    put(this.root, "data-row", this.isReady ? "ready" : "single");
    this.batch.slots.forEach((slot, index) => {
      put(this.selects[index], "aria-label", t("batch.pick", { name: slot.words.title, count }));
      put(this.selects[index], "title", this.picks[index]?.name ?? null);
      if (this.selects[index] !== document.activeElement) this.draw(index);
    });
    put(this.away, "aria-label", t("batch.remove", { count }));
  }

  complain(text) {
    say(this.wrong, text);
  }
}

/** What is still to be copied, in words. */
export const batchHint = (batch) => (!batch.ready.length ? "" : batch.size ? t("batch.hint", { size: bytes(batch.size) }) : t("new.hint.ready"));

/** The files of a drop, with those in folders. */
export async function filesOf(data) {
  const entries = [...(data.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...data.files];
  const found = [];
  const read = (entry) => new Promise((go) => { entry.file(go, () => go(null)); });
  const list = (reader) => new Promise((go) => { reader.readEntries(go, () => go([])); });
  async function walk(entry) {
    if (entry.isFile) {
      const file = await read(entry);
      if (file) found.push(file);
      return;
    }
    const reader = entry.createReader();
    for (let some = await list(reader); some.length; some = await list(reader)) for (const each of some) await walk(each);
  }
  for (const entry of entries) await walk(entry);
  return found;
}
