// The form of one kind of job, made from its description: input files, parameters, and the results to make.

import { h } from "/dom.js";
import { fieldsOf } from "/fields.js";
import { Slot } from "/slot.js";
import { given } from "/kinds.js";
import { knows, t } from "/words.js";

const KEY = "wakestream.form.";

/** The form of `kind`; `media` are the endings of each media type. `changed()` is called when something changes, `many(files, slot)` for several files. */
export class Form {
  constructor(kind, media, changed, many) {
    this.kind = kind;
    this.simple = kind.name === "lipsync" && !Object.keys(kind.params?.properties ?? {}).length;
    const before = remembered(kind.name);
    this.lists = [];
    this.given = false; // whether its files are on their way to a job
    const edited = () => {
      for (const list of this.lists) if (!this.given) list.fit();
      changed();
    };
    const made = (kind.inputs ?? []).map((slot) => {
      const make = (list) => new Slot(kind.name, slot, media, wordsOf(kind, slot), edited, many, list);
      if (!slot.many) return make();
      this.lists.push(new List(slot, make));
      return this.lists.at(-1);
    });
    this.parts = made;
    this.fields = fieldsOf(kind.params, before.params ?? {}, () => {
      this.remember();
      changed();
    });
    this.outputs = kind.outputs.map((slot, at) => new Output(slot, at === 0, (before.outputs ?? []).includes(slot.name), () => this.remember()));
    this.reset = h("button", { class: "link-button", type: "button", text: t("field.reset"), onclick: () => this.use({}) });
    this.box = h("div", { class: "slots", hidden: !made.length }, ...made.map((part) => part.root));
    const options = this.outputs.filter((one) => one.input);
    this.root = h("div", { class: "form" }, this.box,
      this.fields.length ? h("div", { class: "fields", role: "group", "aria-label": t("new.params") }, ...this.fields.map((field) => field.root)) : null,
      options.length ? h("fieldset", { class: "outputs" }, h("legend", { text: t("new.outputs") }), ...options.map((one) => one.root)) : null,
      this.fields.length ? this.reset : null);
    this.showReset();
  }

  /** The places for files; a list has one for each of its files, and an empty one. */
  get slots() {
    return this.parts.flatMap((part) => part.slots ?? [part]);
  }

  /** Whether all files that it needs are there or on their way. */
  get isFilled() {
    return this.missing.length === 0;
  }

  get isSending() {
    return this.slots.some((slot) => slot.sending);
  }

  /** The slots that need a file. */
  get missing() {
    return this.slots.filter((slot) => slot.required && !slot.full && !slot.list?.slots.some((one) => one.full));
  }

  /** What people call the files and values that are still needed. */
  get needed() {
    const empty = this.fields.filter((field) => field.isNeeded);
    return [...this.missing.map((slot) => slot.words.title), ...empty.map((field) => field.title)];
  }

  /** Shows what is wrong with the parameters, and moves the keyboard focus to the first. Whether all are right. */
  check() {
    const wrong = this.fields.filter((field) => {
      field.complain(field.fault);
      return field.fault !== "";
    });
    wrong[0]?.input.focus();
    return !wrong.length;
  }

  /** Shows a refusal at the field that it names, such as `params.steps`. Whether there is one. */
  complain(path, text) {
    const [part, name] = String(path ?? "").split(".");
    const found = (part === "params" ? this.fields : part === "inputs" ? this.slots : []).find((each) => each.name === name);
    found?.complain(text);
    found?.input.focus();
    return Boolean(found);
  }

  /** The job's parameters; those that are left at their default are not sent. */
  get params() {
    return Object.fromEntries(this.fields.map((field) => [field.name, field.value]).filter(([, value]) => value !== undefined));
  }

  /** The file endings of the results to make, by name. */
  get wanted() {
    return Object.fromEntries(this.outputs.filter((one) => one.isWanted).map((one) => [one.name, one.ending]));
  }

  /** Takes the parameters and the results of a job, or the defaults. */
  use({ params = {}, outputs = [] }) {
    for (const field of this.fields) field.use(Object.hasOwn(params, field.name) ? params[field.name] : undefined);
    for (const one of this.outputs) if (one.input) one.input.checked = outputs.some((each) => each.name === one.name);
    this.remember();
    this.fields[0].input.focus();
  }

  /** Shows a list of jobs in place of the slots, or the slots again. */
  showBatch(batch) {
    this.box.hidden = Boolean(batch) || !this.slots.length;
    if (batch) this.box.after(batch.root);
  }

  remember() {
    this.showReset();
    const params = Object.fromEntries(this.fields.filter((field) => !field.isSecret && field.text !== field.standard).map((field) => [field.name, field.text]));
    const outputs = this.outputs.filter((one) => one.input?.checked).map((one) => one.name);
    try {
      localStorage.setItem(KEY + this.kind.name, JSON.stringify({ params, outputs }));
    } catch { /* the storage is full: the values are not remembered */ }
  }

  showReset() {
    this.reset.hidden = this.fields.every((field) => field.text === field.standard);
  }

  settle(uploads) {
    for (const part of this.parts) part.settle(uploads);
  }

  /** Stops the uploads; complete files stay at the daemon, for the next time. */
  close() {
    for (const slot of this.slots) slot.stop();
    this.root.remove();
  }
}

/** An input that is a list: a slot for each file, and an empty one for the next. */
class List {
  constructor(slot, make) {
    Object.assign(this, { slot, make, gone: new Set(), slots: [] });
    this.title = given(slot.title) || slot.name;
    this.root = h("div", { class: "slot-list", role: "group", "aria-label": this.title });
    this.fit();
  }

  /** Removes the empty slots but the last one; the names of the others are in their order. */
  fit() {
    for (const slot of this.slots.filter((one) => !one.full && one !== this.slots.at(-1))) {
      this.slots.splice(this.slots.indexOf(slot), 1);
      slot.root.remove();
    }
    if (!this.slots.length || this.slots.at(-1).full) {
      this.slots.push(this.make(this));
      this.root.append(this.slots.at(-1).root);
    }
    this.slots.forEach((slot, at) => slot.call(at ? `${this.slot.name}_${at + 1}` : this.slot.name, at && !slot.full ? t("slot.more") : this.title));
  }

  take(files) {
    for (const file of files) this.slots.at(-1).take(file);
  }

  /** Each file of the daemon's list is in one slot. */
  settle(uploads) {
    for (let count = 0; count !== this.slots.length;) {
      count = this.slots.length;
      for (const slot of [...this.slots]) slot.settle(uploads.filter((one) => !this.slots.some((other) => other !== slot && [other.upload?.id, other.transfer?.id].includes(one.id))));
      this.fit();
    }
  }
}

/** An output. The main one and the required ones are always made. */
class Output {
  constructor(slot, main, wanted, changed) {
    this.name = slot.name;
    this.ending = (slot.accepts ?? []).find((each) => each.startsWith(".")) ?? "";
    if (main || slot.required !== false) return;
    this.input = h("input", { type: "checkbox", onchange: changed });
    this.input.checked = wanted;
    this.root = h("label", { class: "option", title: given(slot.help) || null }, this.input, h("bdi", { text: given(slot.title) || slot.name }));
  }

  get isWanted() {
    return !this.input || this.input.checked;
  }
}

function wordsOf(kind, slot) {
  const ours = kind.name === "lipsync" && knows(`slot.choose.${slot.name}`);
  const title = ours ? t(`slot.${slot.name}`) : given(slot.title) || slot.name;
  return { ours, title, hint: (!ours && given(slot.help)) || t(slot.many ? "slot.hint.list" : "slot.hint"), choose: ours ? t(`slot.choose.${slot.name}`) : t("slot.choose", { name: title }) };
}

function remembered(kind) {
  try {
    return JSON.parse(localStorage.getItem(KEY + kind)) ?? {};
  } catch {
    return {};
  }
}
