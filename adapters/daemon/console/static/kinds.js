// The kinds of jobs that the GPUs offer, as the hub tells them.

import { lang, t } from "/words.js";

const LIPSYNC = { name: "lipsync", inputs: [{ name: "video", accepts: ["video"] }, { name: "audio", accepts: ["audio"] }], outputs: [{ name: "video", accepts: [".mp4"] }] };
const PARAMS = 8;
const VALUE = 60;
const CHINESE = lang === "zh" ? await fetch("/kinds-zh.json").then((answer) => answer.json()).catch(() => ({})) : {};
const byName = new Map();

/** A text of a kind in the language of the page, where it is one of the engine that comes with the worker. */
export const given = (text) => (Object.hasOwn(CHINESE, text) ? CHINESE[text] : text);

/** The choices: `id`, `kind`, its GPUs, and whether one of them is on. Lip-sync is always one. */
export function choices({ kinds: told }) {
  const kinds = told.map((one) => ({ ...one, kind: { ...one.kind, inputs: withoutNumbers(one.kind.inputs ?? []), outputs: withoutNumbers(one.kind.outputs) } }));
  const all = kinds.some((one) => one.kind.name === "lipsync") ? kinds : [{ kind: LIPSYNC, gpus: [] }, ...kinds];
  const found = all.map(({ kind, gpus }) => {
    const twins = all.filter((one) => one.kind.name === kind.name).length > 1;
    const names = gpus.map((one) => one.gpu);
    return { id: twins ? `${kind.name}@${names.join(",")}` : kind.name, kind, names, twins, awake: gpus.some((one) => one.online) };
  });
  byName.clear();
  for (const { kind } of found) byName.set(kind.name, kind);
  return found;
}

/** The outputs without the slots for the further files of a list, which are for programs that know no lists. */
function withoutNumbers(outputs) {
  const lists = outputs.filter((one) => one.many).map((one) => one.name);
  return outputs.filter(({ name }) => !lists.includes(/^(.+)_[0-9]+$/.exec(name)?.[1]));
}

/** What people call a kind; of two of the same name, with the GPUs that have it. */
export function choiceTitle({ kind, names, twins }) {
  return twins ? `${kindTitle(kind.name, kind)} (${names.join(", ")})` : kindTitle(kind.name, kind);
}

/** What people call the kind with this name. */
export function kindTitle(name, kind = byName.get(name)) {
  return name === "lipsync" ? t("kind.lipsync") : given(kind?.title) || name;
}

/** The titles of the kinds with their names. */
export const kindNames = () => [["lipsync", null], ...byName].map(([name, kind]) => [kindTitle(name, kind ?? undefined), name]);

/** A job's kind, unless that is its title, and its parameters as one line; empty for lip-sync without parameters. */
export function kindLine(job) {
  const schemas = byName.get(job.kind)?.params?.properties ?? {};
  const params = Object.entries(job.params ?? {});
  if (job.kind === "lipsync" && !params.length) return "";
  const said = params.slice(0, PARAMS).map(([name, value]) => `${given(schemas[name]?.title) || name}: ${isSecret(schemas[name]) ? "•••" : short(value)}`);
  return [...(job.inputs.length ? [kindTitle(job.kind)] : []), ...said, ...(params.length > PARAMS ? ["…"] : [])].join("  ·  ");
}

/** Whether the page does not show or remember a parameter. */
export const isSecret = (schema) => schema?.format === "password" || schema?.writeOnly === true;

function short(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > VALUE ? `${text.slice(0, VALUE)}…` : text;
}
