// The fields of a job's parameters, made from their JSON Schema.

import { h, icon, put, say, show } from "/dom.js";
import { given } from "/kinds.js";
import { controlOf, drawnFrom, faultOf, plainSchema, stepOf, textOf, valueOf } from "/schema.js";
import { t } from "/words.js";

/** The fields of a kind. `remembered` are the texts of the last time by name; `changed()` is called at each input. */
export function fieldsOf(params, remembered, changed) {
  const required = new Set(params?.required ?? []);
  return Object.entries(params?.properties ?? {}).map(([name, schema]) => new Field(name, plainSchema(schema), required.has(name), remembered[name], changed));
}

class Field {
  constructor(name, schema, required, remembered, changed) {
    Object.assign(this, { name, schema, required, changed });
    this.title = given(schema.title) || name;
    this.control = controlOf(schema);
    this.standard = textOf(schema.default, this.control) || (this.control === "switch" ? "false" : "");
    this.id = `param-${name}`;
    this.wrong = h("p", { class: "wrong", id: `${this.id}-wrong`, role: "alert" });
    this.help = h("p", { class: "field-help", id: `${this.id}-help`, text: helpOf(schema), hidden: !helpOf(schema) });
    this.input = MAKE[this.control](this);
    put(this.input, "id", this.id);
    put(this.input, "aria-describedby", `${this.id}-help ${this.id}-wrong`);
    if (required && this.control !== "switch") put(this.input, "aria-required", "true");
    this.input.addEventListener("input", () => this.edited());
    const optional = required || this.control === "switch" || schema.default !== undefined ? null : h("span", { class: "field-optional", text: t("field.optional") });
    const label = h("label", { for: this.id, class: "field-label" }, h("bdi", { text: this.title }), optional);
    this.root = h("div", { class: "field", "data-control": this.control, "data-field": name }, label, h("div", { class: "field-control" }, this.input, this.range, this.dice()), this.help, this.wrong);
    this.text = this.fits(remembered) ? remembered : this.standard;
  }

  /** A button that draws a seed. */
  dice() {
    const range = drawnFrom(this.name, this.schema);
    if (!range) return null;
    const [least, most] = range;
    const draw = () => {
      this.text = String(least + Math.floor(Math.random() * (most - least + 1)));
      this.edited();
    };
    return h("button", { class: "button quiet icon", type: "button", title: t("field.dice"), "aria-label": t("field.dice"), onclick: draw }, icon("dice"));
  }

  /** Takes the value of a job; `undefined` is the default. */
  use(value) {
    const text = textOf(value, this.control);
    this.text = text !== "" && this.fits(text) ? text : this.standard;
    this.complain("");
  }

  fits(text) {
    return typeof text === "string" && faultOf(text, this.control, this.schema, false, this.title) === "";
  }

  get text() {
    if (this.control === "switch") return String(this.input.checked);
    return this.input.validity.badInput ? "?" : this.input.value;
  }

  set text(text) {
    if (this.control === "switch") this.input.checked = text === "true";
    else this.input.value = text;
    this.slide();
  }

  edited() {
    say(this.wrong, "");
    put(this.input, "aria-invalid", null);
    this.slide();
    this.changed();
  }

  slide() {
    if (this.range) this.range.value = this.input.value === "" ? this.schema.minimum : this.input.value;
  }

  /** The value for the job; `undefined` for the default, which the worker fills in. */
  get value() {
    if (this.text === this.standard && (this.schema.default !== undefined || !this.required)) return undefined;
    return valueOf(this.text, this.control, this.schema);
  }

  /** Whether the next form may have its text. */
  get isSecret() {
    return this.control === "secret";
  }

  /** Whether it has no value and needs one. */
  get isNeeded() {
    return this.required && this.text === "" && this.schema.default === undefined;
  }

  get fault() {
    return faultOf(this.text, this.control, this.schema, this.required, this.title);
  }

  complain(text) {
    say(this.wrong, text);
    put(this.input, "aria-invalid", text ? "true" : null);
  }
}

function helpOf(schema) {
  const said = given(schema.description) || "";
  return schema.type === "array" || schema.type === "object" ? [said, t(`field.${schema.type}.help`)].filter(Boolean).join(" ") : said;
}

function number(field, more = {}) {
  const { schema } = field;
  return h("input", { type: "number", step: stepOf(schema), min: schema.minimum ?? null, max: schema.maximum ?? null, autocomplete: "off", ...more });
}

const lines = (rows, code) => h("textarea", { rows, class: code ? "code" : "", autocomplete: "off", spellcheck: String(!code), dir: "auto" });

const MAKE = {
  number,
  slider(field) {
    const { schema, title } = field;
    const range = h("input", { type: "range", min: schema.minimum, max: schema.maximum, step: stepOf(schema), "aria-label": title });
    range.addEventListener("input", () => {
      field.input.value = range.value;
      field.edited();
    });
    field.range = range;
    return number(field);
  },
  switch: () => h("input", { type: "checkbox", role: "switch", class: "switch" }),
  choice(field) {
    const { schema, required } = field;
    const given = schema.default !== undefined;
    const none = given ? [] : [h("option", { value: "", text: required ? t("field.choose") : "–" })];
    const names = schema.enumNames ?? schema["x-enumNames"] ?? [];
    const options = schema.enum.map((each, at) => h("option", { value: JSON.stringify(each), text: names[at] ?? (typeof each === "string" ? each : JSON.stringify(each)) }));
    return h("select", {}, ...none, ...options);
  },
  text: () => h("input", { type: "text", autocomplete: "off", dir: "auto" }),
  secret: () => h("input", { type: "password", autocomplete: "off" }),
  lines: () => lines(2, false),
  json: () => lines(3, true),
};
