// What the GPUs cost: sums, budgets, days, jobs and licenses in a panel, and what each job cost for its card.

import { by, h, named, put, say, show } from "/dom.js";
import { kindTitle } from "/kinds.js";
import { brief } from "/sentences.js";
import { call } from "/session.js";
import { date, duration, moment, money, number, t } from "/words.js";

const OPEN = "wakestream.costs";
const DAYS = 30;
const FRESH = 15000;
const EVERY = 20000;
const APART = 1000; // thousands of jobs may change them one after the other
let told = { hub: "connecting", spent: {} };

const amount = (value, currency) => (currency ? `${money(value)} ${currency}` : money(value));

/** What a row of the hub's answer cost; empty without a price. */
function cost(row) {
  if (!row || row.cost === undefined) return "";
  const currency = row.currency ?? told.currency;
  return row.cost < 0.005 && row.used_s > 0 ? `< ${amount(0.01, currency)}` : amount(row.cost, currency);
}

/** What an ended job cost; empty if it is not known. */
export const costOf = (id) => cost(told.spent[id]);

/** What jobs take, in words; `found` is the daemon's estimate. */
export function estimateText(found) {
  if (!found.jobs) return "";
  const valued = (key, seconds, amount) => {
    const values = { count: number(found.jobs), time: duration(seconds), cost: cost({ cost: amount, used_s: seconds, currency: found.currency }) };
    return t(amount === undefined ? key : `${key}.cost`, values);
  };
  const more = ["wake", "idle"].filter((part) => found[`${part}_s`]).map((part) => t(`new.${part}`, { time: duration(found[`${part}_s`]) }));
  return [
    valued(found.jobs > 1 ? "new.total" : "new.usual", found.used_s, found.cost),
    more.length ? valued("new.all", found.all_s, found.all_cost).replace("{parts}", more.join(t("list.and"))) : t("new.extra"),
    found.done_at ? t("new.done", { time: moment(found.done_at) }) : "",
  ].filter(Boolean).join(t("list.space"));
}

/** When all unfinished jobs are done, in words; empty if it is not known. */
export const doneIn = () => (told.open?.done_at ? t("now.done", { time: duration(Math.max(1, told.open.done_at - Date.now() / 1000)) }) : "");

/** The panel. `filesOf(id)` names a job's files; `changed()` is called when other parts of the page are out of date. */
export function costs({ filesOf, changed }) {
  const panel = by("costs");
  let asking = false;
  let again = false;
  let at = -Infinity;
  let hub = "";
  let day = "";

  async function ask() {
    if (asking) {
      again = true;
      return;
    }
    asking = true;
    try {
      do {
        if (performance.now() - at < APART) await new Promise((go) => { setTimeout(go, APART); });
        again = false;
        const before = JSON.stringify({ ...told, at: 0 });
        told = await call("GET", "/console/costs");
        at = performance.now();
        if (JSON.stringify({ ...told, at: 0 }) === before) continue; // what is shown keeps its elements
        if (panel.open) draw();
        changed();
      } while (again);
    } catch { /* the next state asks again */ } finally {
      asking = false;
    }
  }

  function draw() {
    say(by("costs-note"), [...notes()].join(" "));
    const known = told.costs ?? {};
    by("costs-sums").replaceChildren(...[...sums(known)].map(([name, value, title]) => h("div", { title }, h("dt", { text: name }), h("dd", { text: value }))));
    show(by("costs-sums"), Boolean(known.totals));
    const days = spread(known);
    show(by("costs-days"), days.length > 0);
    if (days.length) chart(days);
    rows(by("costs-jobs"), ["costs.job", "costs.used", "costs.cost", "costs.idle", "costs.ended"], (known.jobs ?? []).map((job) => [
      title(job), duration(job.used_s), cost(job) || "–",
      cost({ ...job, cost: job.share, used_s: job.share_s }) || (job.share_s === undefined ? "–" : duration(job.share_s)),
      job.ended ? (job.unsaid ? t("costs.unsaid", { time: moment(job.ended) }) : moment(job.ended)) : t("costs.open"),
    ]));
    const all = [...(known.licenses ?? []).map((row) => [row.license || t("costs.others"), row]), ...(known.unused ? [[t("costs.unused"), known.unused]] : [])];
    const whole = all.reduce((sum, [, row]) => sum + row.used_s, 0);
    rows(by("costs-licenses"), ["costs.license", "costs.used", "costs.share", "costs.cost"], whole ? all.map(([name, row]) => [
      named(name), duration(row.used_s), `${number((100 * row.used_s) / whole)}%`, cost(row) || "–",
    ]) : []);
  }

  function title(job) {
    const files = told.names?.[job.id] ?? filesOf(job.id);
    const kind = [kindTitle(job.kind), job.license].filter(Boolean).join("  ·  ");
    return h("span", {}, named(files.join(" + ")), h("span", { class: "costs-kind", text: kind }));
  }

  /** A bar for each day, the last `DAYS`; by cost, or by time where there is no single price. */
  function chart(days) {
    const priced = days.some((one) => one.cost !== undefined) && !told.costs.currencies;
    const size = (one) => (priced ? one.cost ?? 0 : one.on_s);
    const most = Math.max(...days.map(size));
    const shown = (value) => (priced ? amount(value, told.currency) : duration(value));
    by("costs-bars").replaceChildren(...days.map((one) => {
      const bar = h("span", {});
      bar.style.height = `${most ? Math.max(size(one) > 0 ? 2 : 0, (100 * size(one)) / most) : 0}%`;
      return h("span", { class: "day", "data-day": one.day }, bar);
    }));
    say(by("costs-most"), shown(most));
    say(by("costs-from"), date(days[0].day));
    say(by("costs-to"), date(days.at(-1).day));
    rows(by("costs-table"), ["costs.day", "costs.on", ...(priced ? ["costs.cost"] : [])],
      days.filter((one) => one.on_s).reverse().map((one) => [date(one.day), duration(one.on_s), ...(priced ? [cost(one) || "–"] : [])]));
    choose(days.some((one) => one.day === day) ? day : days.at(-1).day, days);
  }

  /** Shows the values of one day. */
  function choose(name, days = spread(told.costs ?? {})) {
    const index = days.findIndex((one) => one.day === name);
    if (index < 0) return;
    day = name;
    const one = days[index];
    const text = t(one.cost === undefined ? "costs.of_day" : "costs.of_day.cost", { day: date(one.day), time: duration(one.on_s), cost: cost(one) });
    say(by("costs-of-day"), text);
    const bars = by("costs-bars");
    put(bars, "aria-valuemax", days.length - 1);
    put(bars, "aria-valuenow", index);
    put(bars, "aria-valuetext", text);
    for (const bar of bars.children) put(bar, "data-chosen", bar.dataset.day === name);
  }

  for (const kind of ["pointermove", "pointerdown"]) {
    by("costs-bars").addEventListener(kind, (event) => {
      const bar = event.target.closest("[data-day]");
      if (bar) choose(bar.dataset.day);
    });
  }
  by("costs-bars").addEventListener("keydown", (event) => {
    const days = spread(told.costs ?? {});
    const now = days.findIndex((one) => one.day === day);
    const next = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, Home: 0, End: days.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    choose(days[Math.min(days.length - 1, Math.max(0, next))].day, days);
  });

  panel.addEventListener("toggle", () => {
    localStorage.setItem(OPEN, panel.open ? "open" : "");
    if (!panel.open) return;
    draw();
    if (performance.now() - at > 2000) ask();
  });
  panel.open = localStorage.getItem(OPEN) === "open";
  setInterval(() => { if (panel.open && !document.hidden) ask(); }, EVERY);

  return {
    /** A job ended: what is known is out of date. */
    ask,
    /** The state of the hub, which comes with each connection to the daemon. */
    state(now) {
      if (now !== hub || performance.now() - at > FRESH) ask();
      hub = now;
    },
  };
}

/** What there is to say of the answer as a whole. */
function* notes() {
  if (told.hub === "connecting") yield t("costs.connecting");
  if (told.hub === "old") yield t("costs.old");
  if (told.hub === "refused") yield t("costs.refused", { why: brief(told.why).replace(/[.。]+$/, "") });
  if (told.hub === "down") yield t("costs.down");
  if (told.hub !== "up" && told.at) yield t("costs.from", { time: moment(told.at) });
  if (!told.costs) return;
  const gpus = told.gpus ?? [];
  const free = gpus.filter((gpu) => gpu.price_per_hour === undefined).map((gpu) => gpu.gpu);
  if (!gpus.length) yield t("gpu.none.text");
  else if (told.costs.currencies) yield t("costs.mixed", { currencies: told.costs.currencies.join(t("list.comma")) });
  else if (told.costs.totals?.month.cost === undefined) yield t("costs.no_price");
  else if (free.length) yield t("costs.free", { gpus: free.join(t("list.comma")) });
}

function* sums(known) {
  const { totals, forecast } = known;
  if (!totals) return;
  yield [t("costs.today"), cost(totals.today) || duration(totals.today.on_s)];
  yield [t("costs.month"), cost(totals.month) || duration(totals.month.on_s)];
  if (forecast) yield [t("costs.forecast"), amount(forecast.month, told.currency), t("costs.forecast.title", { mean: amount(forecast.mean, told.currency), days: number(forecast.days) })];
  const order = (budget) => `${budget.gpu ?? ""} ${budget.period}`;
  for (const budget of [...(told.budgets ?? [])].sort((one, other) => (order(one) < order(other) ? -1 : 1))) {
    const of = budget.gpu ?? t("costs.all");
    const values = { spent: amount(budget.spent, told.currency), limit: amount(budget.limit, told.currency), time: moment(budget.until) };
    yield [t(`costs.left.${budget.period}`, { of }), amount(budget.left, told.currency), t(budget.left > 0 ? "fig.left.title" : "costs.spent", values)];
  }
}

/** The last `DAYS` days in order, also those without any use. */
function spread(known) {
  const days = known.days ?? [];
  const last = known.today ?? days.at(-1)?.day;
  if (!last) return [];
  const found = new Map(days.map((one) => [one.day, one]));
  const before = (count) => new Date(Date.parse(last) - count * 86400000).toISOString().slice(0, 10);
  return Array.from({ length: DAYS }, (_, at) => before(DAYS - 1 - at)).map((one) => found.get(one) ?? { day: one, on_s: 0 });
}

/** Fills a table; its box is hidden if it is empty. */
function rows(table, heads, found) {
  const cells = (row, tag) => row.map((cell, at) => h(at ? tag : "th", { scope: tag === "th" ? "col" : at ? null : "row" }, cell));
  table.replaceChildren(
    h("thead", {}, h("tr", {}, ...cells(heads.map((head) => t(head)), "th"))),
    h("tbody", {}, ...found.map((row) => h("tr", {}, ...cells(row, "td")))),
  );
  show(table.closest("details"), found.length > 0);
}
