// A panel for each GPU: its phase, what that means for jobs, and its costs.

import { button, by, h, put, say, show } from "/dom.js";
import { bootOf, brief, budgetsOf, gpuSays, known } from "/sentences.js";
import { behind } from "/store.js";
import { duration, moment, money, number, percent, phase, t } from "/words.js";

const LAMPS = {
  online: "on", booted: "near", starting: "near", draining: "leave", stopping: "leave", off: "off", lost: "bad",
  no_capacity: "bad", failed: "bad", paused: "bad", not_ready: "bad", unknown: "off",
};
const strips = new Map();

/**
 * Shows the hub's status; called every second, since the texts contain times. `eta` is the estimate of a waiting job,
 * `open` the number of unfinished jobs, `order(gpu, action)` what the buttons do.
 */
export function showGpus(hub, { eta, open, nameOf, order }) {
  const wanted = hub.hub === "up" && hub.gpus && hub.gpus.length ? hub.gpus : [placeholder(hub)];
  showSpent(hub);
  const names = new Set(wanted.map((gpu) => gpu.gpu));
  for (const [name, strip] of strips) {
    if (!names.has(name)) {
      strip.root.remove();
      strips.delete(name);
    }
  }
  wanted.forEach((gpu, at) => {
    if (!strips.has(gpu.gpu)) strips.set(gpu.gpu, made((action) => order(gpu.gpu, action)));
    const strip = strips.get(gpu.gpu);
    if (by("gpus").children[at] !== strip.root) by("gpus").insertBefore(strip.root, by("gpus").children[at] || null);
    update(strip, gpu, { ...hub, eta, open, nameOf });
  });
}

/** What is spent of the budget of all GPUs together, in the head of the page. */
function showSpent(hub) {
  const shared = (hub.hub === "up" && hub.budgets?.filter((budget) => !budget.gpu)) || [];
  const text = shared.map((budget) => t(`head.spent.${budget.period}`, { spent: money(budget.spent), limit: amount(budget.limit, hub) }));
  say(by("spent"), text.join("  ·  "));
  show(by("spent"), text.length > 0);
}

/** What an hour of each GPU costs, and the budgets, in sentences. */
export function moneyOf(hub) {
  if (hub.hub !== "up") return [t(`gpu.${hub.hub}`)];
  const priced = (hub.gpus ?? []).map((gpu) => (gpu.price_per_hour === undefined ? t("set.no_price", gpu) : t("set.price", { gpu: gpu.gpu, price: amount(gpu.price_per_hour, { currency: gpu.currency ?? hub.currency }) })));
  const budgets = (hub.budgets ?? []).map((one) => t(`set.budget.${one.period}`, { of: one.gpu ?? t("costs.all"), limit: amount(one.limit, hub), spent: amount(one.spent, hub) }));
  return [...priced, ...(budgets.length ? budgets : [t("set.no_budget")])];
}

function placeholder(hub) {
  const key = hub.hub === "up" ? "none" : hub.hub;
  const text = key === "connecting" ? "" : t(`gpu.${key}.text`, { why: brief(hub.why).replace(/[.。]+$/, "") });
  const phase = /down|refused|gone/.test(key) ? "failed" : "unknown";
  return { gpu: "", phase, title: t(`gpu.${key}`), text, why: hub.why };
}

function made(order) {
  const lamp = h("span", { class: "lamp", "aria-hidden": "true" }, h("span", { class: "lamp-core" }));
  const name = h("bdi", { class: "gpu-name" });
  const phase = h("span", { class: "gpu-phase" });
  const title = h("p", { class: "gpu-title" }, name, phase);
  const text = h("p", { class: "gpu-text" });
  const figures = h("dl", { class: "figures" });
  const bar = h("div", { class: "gpu-bar", "aria-hidden": "true" }, h("span"));
  const stop = button(t("gpu.stop"), "close", () => order("stop"));
  const keep = button(t("gpu.keep"), "play", () => order("keep"));
  const orders = h("div", { class: "gpu-orders" }, keep, stop);
  const root = h("article", { class: "panel gpu" }, lamp, h("div", { class: "gpu-words" }, title, text), figures, orders, bar);
  return { root, orders, stop, keep, lamp, name, phase, text, figures, bar, cells: new Map() };
}

function update(strip, gpu, hub) {
  put(strip.root, "data-lamp", LAMPS[gpu.phase] || "off");
  say(strip.name, gpu.gpu);
  say(strip.phase, gpu.title || phase(gpu.phase));
  say(strip.text, gpu.title ? gpu.text : gpuSays(gpu, hub, hub.eta));
  put(strip.text, "title", gpu.why || null);
  const figures = gpu.title ? [] : [...figuresOf(gpu, hub)];
  const wanted = new Set(figures.map(([key]) => key));
  for (const [key, cell] of strip.cells) {
    if (!wanted.has(key)) {
      cell.root.remove();
      strip.cells.delete(key);
    }
  }
  for (const each of figures) figure(strip, ...each);
  figures.forEach(([key], at) => {
    const { root } = strip.cells.get(key);
    if (strip.figures.children[at] !== root) strip.figures.insertBefore(root, strip.figures.children[at] || null);
  });
  show(strip.figures, figures.length > 0);
  const on = Boolean(hub.orders) && gpu.phase === "online";
  show(strip.orders, on || (Boolean(hub.orders) && gpu.phase === "lost"));
  show(strip.keep, on);
  put(strip.stop, "aria-label", `${t("gpu.stop")}: ${gpu.gpu}`);
  put(strip.keep, "aria-label", `${t("gpu.keep")}: ${gpu.gpu}`);
  waking(strip, gpu, hub);
}

function figure(strip, key, value, title, name = t(`fig.${key}`)) {
  if (!strip.cells.has(key)) {
    const number = h("dd");
    const root = h("div", {}, h("dt"), number);
    strip.figures.append(root);
    strip.cells.set(key, { root, number });
  }
  const cell = strip.cells.get(key);
  say(cell.root.firstChild, name);
  say(cell.number, value);
  put(cell.root, "title", title);
}

function* figuresOf(gpu, hub) {
  const now = Date.now() / 1000;
  if (gpu.uptime_s && (gpu.phase === "online" || gpu.phase === "draining")) yield ["uptime", duration(gpu.uptime_s + Math.max(0, now - hub.ts))];
  else if (gpu.since) yield ["since", duration(now - gpu.since), null, t("fig.since", { phase: phase(gpu.phase) })];
  const held = Object.entries(holders(gpu)).filter(([, count]) => count > 0);
  const said = held.map(([key, count]) => t(`fig.${key}`, { count: number(count) })).join(t("list.clause"));
  yield ["holders", said || t("fig.none"), (gpu.own_jobs || []).map(hub.nameOf).join(", ") || null];
  if (hub.queue) yield ["queue", number(hub.queue)];
  const month = gpu.month;
  if (month && "cost" in month) {
    yield ["cost", amount(month.cost, hub), null];
    const all = month.cost + month.saved;
    const part = all > 0 ? ` (${percent(month.saved / all)})` : "";
    yield ["saved", `${amount(month.saved, hub)}${part}`, t("fig.saved.title")];
  } else if (month) {
    yield ["on", duration(month.on_s)];
  }
  yield* budget(gpu, hub);
}

/** How many jobs of a GPU do what. `own_jobs` has the first of them; those that it does not have wait at the worker. */
function holders(gpu) {
  const jobs = (gpu.own_jobs ?? []).map((id) => known.jobOf(id));
  const busy = jobs.filter((job) => job && job.stage > 0 && !behind(job));
  const rendering = busy.filter((job) => job.stage === 3).length;
  const own = jobs.filter((job) => !job).length;
  return { rendering, transfer: busy.length - rendering, waiting: (gpu.own ?? 0) - own - busy.length, own, others: gpu.others ?? 0 };
}

const amount = (value, hub) => (hub.currency ? `${money(value)} ${hub.currency}` : money(value));

/** What is left of the budget that ends first. */
function* budget(gpu, hub) {
  const [least] = budgetsOf(gpu, hub).sort((one, other) => one.left / one.limit - other.left / other.limit);
  if (!least) return;
  const values = { spent: amount(least.spent, hub), limit: amount(least.limit, hub), time: moment(least.until) };
  yield [least.period === "day" ? "left.day" : "left.month", amount(least.left, hub), t("fig.left.title", values)];
}

function waking(strip, gpu, hub) {
  const eta = gpu.phase === "starting" ? bootOf(gpu, hub, hub.eta) : null;
  show(strip.bar, Boolean(eta));
  if (!eta) return;
  const now = Date.now() / 1000;
  const gone = now - gpu.since;
  const left = Math.max(0, eta.p50 - (now - eta.at));
  strip.bar.firstChild.style.width = `${Math.min(96, (100 * gone) / Math.max(1, gone + left))}%`;
}
