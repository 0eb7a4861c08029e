// GPUs, who holds them, and the jobs of each license.

import { by, h, named, put, say, show } from "./dom.js";
import { bytes, duration, knows, money, number, phase, t } from "./words.js";

const LAMPS = {
  online: "on", booted: "near", starting: "near", draining: "leave", stopping: "leave", off: "off", lost: "bad",
  no_capacity: "bad", failed: "bad", paused: "bad", not_ready: "bad", unknown: "off",
};
const shown = new WeakMap();

/** An amount with its money: that of `row`, where the hub has no single one. */
export function amount(value, state, row = {}) {
  const currency = row.currency || state.currency;
  return currency ? `${money(value)} ${currency}` : money(value);
}

/** A license for people: its note, or its id. */
export const licenseName = (id, state) => state.notes?.[id] || id;

const since = (at) => duration(Math.max(0, Date.now() / 1000 - at));

/** Replaces the content of `target` if its data differs: a selection and the focus stay. */
function draw(target, data, make) {
  const text = JSON.stringify(data);
  if (shown.get(target) === text) return;
  shown.set(target, text);
  target.replaceChildren(...make());
}

/** A table, or a sentence when it has no rows. Each head is a text, with "#" before it for numbers. */
export function fill(target, heads, rows, none) {
  draw(target, [heads, rows, none], () => {
    if (!rows.length) return [h("p", { class: "empty", text: none })];
    const cls = (at) => (heads[at].startsWith("#") ? "num" : null);
    const head = h("tr", {}, ...heads.map((name, at) => h("th", { scope: "col", class: cls(at), text: name.replace(/^#/, "") })));
    const body = rows.map((row) => h("tr", {}, ...row.map((cell, at) => h("td", { class: cls(at) }, cls(at) ? cell : named(cell)))));
    return [h("table", {}, h("thead", {}, head), h("tbody", {}, ...body))];
  });
}

export function showOverview(state) {
  const { peers } = state;
  const figures = [
    ["waiting", number(state.queue)], ["running", number(state.all_leases)],
    ...["client", "worker", "monitor"].map((role) => [`peers.${role}`, number(peers[role])]),
    ...(peers.other ? [["peers.other", number(peers.other)]] : []),
  ];
  cells(by("overview"), figures.map(([key, value]) => [t(`over.${key}`), value]));
}

/** Fills a list of names with values. */
export function cells(list, rows) {
  draw(list, rows, () => rows.map(([name, value, title]) => h("div", { title }, h("dt", { text: name }), h("dd", { text: value }))));
}

export function showGpus(state) {
  const panel = by("gpus");
  draw(panel, state.gpus.map((gpu) => gpu.gpu), () => state.gpus.length ? state.gpus.map(strip) : [h("p", { class: "panel part empty", text: t("gpus.none") })]);
  state.gpus.forEach((gpu, at) => update(panel.children[at], gpu, state));
  say(by("gpus-more"), state.more ? t("more.gpus", { count: number(state.more) }) : "");
}

function strip(gpu) {
  const lamp = h("span", { class: "lamp", "aria-hidden": "true" }, h("span", { class: "lamp-core" }));
  const title = h("h3", { class: "gpu-title" }, h("bdi", { class: "gpu-name", text: gpu.gpu }), h("span", { class: "gpu-phase" }));
  const words = h("div", { class: "gpu-words" }, title, h("p", { class: "gpu-text" }));
  return h("article", { class: "panel gpu" }, lamp, words, h("dl", { class: "figures" }));
}

function update(root, gpu, state) {
  put(root, "data-lamp", LAMPS[gpu.phase] || "off");
  say(root.querySelector(".gpu-phase"), phase(gpu.phase));
  const text = root.querySelector(".gpu-text");
  say(text, planOf(gpu, state) || (gpu.phase !== "online" && gpu.why) || [gpu.machine, gpu.waiting ? t("gpu.waiting", { count: number(gpu.waiting) }) : ""].filter(Boolean).join(" · "));
  show(text, Boolean(text.textContent));
  cells(root.querySelector(".figures"), [...figures(gpu, state)]);
}

/** What the hub plans for a GPU; empty if nothing. */
function planOf(gpu, state) {
  const { do: act, in_s, why } = gpu.plan ?? {};
  if (!act || act === "keep" || (act === "wake" && in_s == null && gpu.phase === "no_capacity")) return ""; // it may not come
  const time = duration(Math.max(1, (in_s ?? 0) - Math.max(0, Date.now() / 1000 - state.ts)));
  const key = act === "wake" && in_s != null ? `plan.wake.${/upload/.test(why) ? "upload" : "in"}` : `plan.${act}`;
  return knows(key) ? t(key, { time }) : why;
}

function* figures(gpu, state) {
  if (gpu.since) yield [t("gpu.phase_since", { phase: phase(gpu.phase) }), since(gpu.since)];
  const mine = state.leases.filter((lease) => lease.gpu === gpu.gpu);
  const others = gpu.others - 1;
  const jobs = mine.map((lease) => lease.job).join(", ");
  if (mine.length) {
    yield [t("gpu.job"), others > 0 ? t("gpu.job.more", { job: mine[0].job, count: number(others) }) : mine[0].job, jobs];
    yield [t("gpu.holder"), [...new Set(mine.map((lease) => licenseName(lease.license, state)))].join(", ")];
  } else {
    yield [t("gpu.job"), gpu.others ? number(gpu.others) : t("gpu.free")];
  }
  if (gpu.boot_s) yield [t("gpu.boot"), duration(gpu.boot_s.p50), t("gpu.boot.title", { p90: duration(gpu.boot_s.p90), count: number(gpu.boots) })];
  if ("price_per_hour" in gpu) yield [t("gpu.price"), t("gpu.price.value", { price: amount(gpu.price_per_hour, state, gpu) })];
  if (gpu.month && "cost" in gpu.month) yield [t("gpu.month"), amount(gpu.month.cost, state, gpu)];
}

export function showJobs(state) {
  const rows = state.licenses.map((row) => [licenseName(row.license, state), number(row.waiting), number(row.running)]);
  fill(by("jobs"), [t("col.license"), `#${t("over.waiting")}`, `#${t("over.running")}`], rows, t("jobs.none"));
  rest(by("jobs-more"), state.all_licenses - rows.length);
}

export function showLeases(state) {
  const rows = state.leases.map((row) => [row.job, row.gpu, licenseName(row.license, state), since(row.since)]);
  fill(by("leases"), [t("col.job"), "GPU", t("col.license"), `#${t("gpu.since")}`], rows, t("leases.none"));
  rest(by("leases-more"), state.all_leases - rows.length);
}

/** What each license has in the depot, and the jobs whose files are there. */
export function showDepot(state) {
  const { depot } = state;
  show(by("depot"), Boolean(depot));
  if (!depot) return;
  show(by("depot-down"), !depot.up);
  const jobs = ["storing", "away", "stored", "at_work", "delivered"].map((name) => [t(`depot.${name}`), number(depot[name])]);
  const quota = depot.quota ? [[t("depot.quota"), bytes(depot.quota)]] : [];
  cells(by("depot-figures"), [[t("depot.size"), bytes(depot.size)], ...quota, ...jobs, [t("costs.saved"), duration(depot.saved_s), t("depot.saved.title")]]);
  const rows = depot.licenses.map((row) => [licenseName(row.license, state), number(row.files), bytes(row.size)]);
  fill(by("depot-licenses"), [t("col.license"), `#${t("depot.files")}`, `#${t("depot.size")}`], rows, t("depot.none"));
}

function rest(line, count) {
  say(line, count > 0 ? t("more.rows", { count: number(count) }) : "");
  show(line, count > 0);
}
