// Parameters from their JSON Schema: which control fits, and whether a value does. Pure.

import { isSecret } from "/kinds.js";
import { t } from "/words.js";

const STEPS_MOST = 1000;
const LINE = 120;
const SEED_MOST = 2 ** 32 - 1;

/** The schema without "or nothing": `type [X, null]` is X, which may be left out. The daemon has made it flat. */
export function plainSchema(given) {
  const schema = given && typeof given === "object" ? given : {};
  const types = [schema.type ?? []].flat().filter((type) => type !== "null");
  return types.length === 1 ? { ...schema, type: types[0] } : schema;
}

/** The control for a plain schema: `choice`, `switch`, `slider`, `number`, `text`, `lines`, `secret`, or `json` for the rest. */
export function controlOf(schema) {
  if (Array.isArray(schema.enum)) return "choice";
  switch (schema.type) {
    case "boolean": return "switch";
    case "integer":
    case "number": return isSlider(schema) ? "slider" : "number";
    case "string": return isSecret(schema) ? "secret" : isLine(schema) ? "text" : "lines";
    default: return "json";
  }
}

const isLine = (schema) => (schema.maxLength <= LINE || Boolean(schema.format)) && !isLong(schema);
const isLong = ({ title, default: given }) => /prompt|提示词/i.test(title ?? "") || /\n|.{60}/.test(typeof given === "string" ? given : "");

/** The range of a whole number that is drawn at random, as image models need one; null for other parameters. */
export function drawnFrom(name, schema) {
  if (schema.type !== "integer" || schema.enum || !/(^|[_\W])seed\b/i.test(`${name} ${schema.title ?? ""}`)) return null;
  return [Math.max(0, schema.minimum ?? 0), Math.min(schema.maximum ?? SEED_MOST, SEED_MOST)];
}

/** The step of a number: what the schema says; 1 for whole numbers; otherwise a hundredth of the range. */
export function stepOf(schema) {
  const said = schema.multipleOf ?? schema["x-step"];
  if (said > 0) return said;
  if (schema.type === "integer") return 1;
  const range = schema.maximum - schema.minimum;
  return range > 0 ? 10 ** Math.floor(Math.log10(range / 100) + 1e-9) : "any";
}

/** A slider needs both limits, and steps that a hand can hit. */
function isSlider(schema) {
  const range = schema.maximum - schema.minimum;
  return range > 0 && range / stepOf(schema) <= STEPS_MOST;
}

/** A value as the text of its control. */
export const textOf = (value, control) => (value === undefined || value === null ? "" : control === "json" || control === "choice" ? JSON.stringify(value) : String(value));

/** The value of a text; `undefined` for an empty one. Throws `SyntaxError` for a text without a value. */
export function valueOf(text, control, schema) {
  if (text === "" && control !== "switch") return undefined;
  switch (control) {
    case "switch": return text === "true";
    case "choice":
    case "json": return JSON.parse(text);
    case "number":
    case "slider": return numberOf(text, schema);
    default: return text;
  }
}

/** A number; a whole one with more digits than a JavaScript number has stays as it is written. */
function numberOf(text, schema) {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new SyntaxError(text);
  if (schema.type === "integer" && /^-?\d+$/.test(text) && !Number.isSafeInteger(value) && JSON.rawJSON) return JSON.rawJSON(text);
  return value;
}

/** The sentence for a text that does not fit; empty if it does. `name` is what the page calls the parameter. */
export function faultOf(text, control, schema, required, name) {
  let value;
  try {
    value = valueOf(text, control, schema);
  } catch {
    return t(control === "json" ? "field.json" : "field.number", { name, value: cut(text) });
  }
  if (value === undefined) return required && schema.default === undefined ? t("field.needed", { name }) : "";
  const said = { name, value: cut(text) };
  for (const [holds, key, limit] of rules(value, Number(text), schema)) if (!holds) return t(key, { ...said, limit });
  return "";
}

function* rules(value, number, schema) {
  const has = (key) => typeof schema[key] === "number";
  if (schema.type === "integer" || schema.type === "number") {
    if (schema.type === "integer") yield [Number.isInteger(number), "field.whole"];
    if (has("minimum")) yield [number >= schema.minimum, "field.min", schema.minimum];
    if (has("maximum")) yield [number <= schema.maximum, "field.max", schema.maximum];
    if (has("exclusiveMinimum")) yield [number > schema.exclusiveMinimum, "field.above", schema.exclusiveMinimum];
    if (has("exclusiveMaximum")) yield [number < schema.exclusiveMaximum, "field.below", schema.exclusiveMaximum];
    if (has("multipleOf")) yield [isMultiple(number, schema.multipleOf), "field.step", schema.multipleOf];
  }
  if (typeof value === "string") {
    const length = [...value].length;
    if (has("minLength")) yield [length >= schema.minLength, "field.short", schema.minLength];
    if (has("maxLength")) yield [length <= schema.maxLength, "field.long", schema.maxLength];
  }
  const shape = Array.isArray(value) ? "array" : value === null ? "null" : typeof value;
  if (["array", "object"].includes(schema.type)) yield [shape === schema.type, `field.${schema.type}`];
  if (shape === "array" && has("minItems")) yield [value.length >= schema.minItems, "field.few", schema.minItems];
  if (shape === "array" && has("maxItems")) yield [value.length <= schema.maxItems, "field.many", schema.maxItems];
}

function isMultiple(number, step) {
  const times = number / step;
  return Math.abs(times - Math.round(times)) < 1e-9 * Math.max(1, Math.abs(times));
}

const cut = (text) => (text.length > 60 ? `${text.slice(0, 60)}…` : text);
