// Costs: a bar for each day, this month, the forecast, what is left of each budget, and what other settings would cost.

import { by, h, say, show } from "./dom.js";
import { amount, cells, fill } from "./gpus.js";
import { duration, lang, moment, number, percent, t } from "./words.js";

const DAYS = 31;
const DAY = 86400000;
let drawn = "";

const locale = lang === "zh" ? "zh-CN" : navigator.language || "en";
const dayText = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", timeZone: "UTC" });

/** The last days, also those without a cost. */
function daysOf(costs) {
  const found = new Map(costs.days.map((day) => [day.day, day]));
  const last = Date.parse(costs.today);
  return Array.from({ length: DAYS }, (_, at) => {
    const date = new Date(last - (DAYS - 1 - at) * DAY);
    return { ...found.get(date.toISOString().slice(0, 10)), text: dayText.format(date), today: at === DAYS - 1 };
  });
}

export function showCosts(costs, state) {
  const priced = costs.days.length > 0 && costs.days.every((day) => "cost" in day);
  const sizeOf = (day) => (priced ? day.cost : day.on_s) || 0;
  const said = (day) => (priced ? amount(day.cost || 0, state, day) : duration(day.on_s || 0));
  const text = JSON.stringify([costs, state.currency, figures(costs, state)]);
  if (text === drawn) return;
  drawn = text;
  cells(by("costs-figures"), figures(costs, state));
  const days = daysOf(costs);
  const most = Math.max(...days.map(sizeOf), 1e-9);
  const bars = days.map((day) => {
    const bar = h("span", { class: day.today ? "bar-fill today" : "bar-fill", title: `${day.text}: ${said(day)}` });
    bar.style.height = `${sizeOf(day) ? Math.max(2, (100 * sizeOf(day)) / most) : 0}%`;
    return h("span", { class: "bar-slot" }, bar);
  });
  const ends = h("span", { class: "chart-ends" }, h("span", { text: days[0].text }), h("span", { text: t("chart.most", { amount: said(days.find((day) => sizeOf(day) === most) || {}) }) }), h("span", { text: days.at(-1).text }));
  const highest = days.reduce((one, other) => (sizeOf(other) > sizeOf(one) ? other : one));
  const chart = by("chart");
  chart.setAttribute("aria-label", t(priced ? "chart.label" : "chart.hours", { first: days[0].text, last: days.at(-1).text, day: highest.text, amount: said(highest) }));
  chart.replaceChildren(h("span", { class: "bars" }, ...bars), ends);
  const rows = days.filter((day) => day.on_s).reverse().map((day) => [day.text, duration(day.on_s), "cost" in day ? amount(day.cost, state, day) : "–"]);
  fill(by("days-table"), [t("col.day"), `#${t("col.on")}`, `#${t("col.cost")}`], rows, t("costs.none"));
}

/** Of several moneys there is no sum: then the hours are shown, as without a price. */
function figures(costs, state) {
  const said = (row) => ("cost" in row ? amount(row.cost, state, row) : duration(row.on_s));
  const found = [[t("costs.today"), said(costs.totals.today)], [t("costs.month"), said(costs.totals.month)]];
  if (costs.forecast) {
    const saved = state.gpus.reduce((all, gpu) => all + (gpu.month?.saved || 0), 0);
    if (!state.more) found.push([t("costs.saved"), amount(saved, state), t("costs.saved.title")]);
    found.push([t("costs.forecast"), amount(costs.forecast.month, state), t("costs.forecast.title", { mean: amount(costs.forecast.mean, state), days: costs.forecast.days })]);
  }
  if (!state.gpus.some((gpu) => "price_per_hour" in gpu)) found.push([t("costs.price"), t("costs.noprice")]);
  return found;
}

let budgets = "";

export function showBudgets(state) {
  const text = JSON.stringify([state.budgets, state.currency]);
  if (text === budgets) return;
  budgets = text;
  by("budgets").replaceChildren(...(state.budgets || []).map((one) => budget(one, state)));
}

function budget(one, state) {
  const part = one.spent / one.limit;
  const name = t(`budget.${one.period}`, { of: one.gpu ?? t("budget.all") });
  const text = one.left > 0 ? "budget.left" : one.gpu ? "budget.spent.one" : "budget.spent";
  const said = t(text, { gpu: one.gpu, spent: amount(one.spent, state), limit: amount(one.limit, state), left: amount(one.left, state), time: moment(one.until) });
  const bar = h("span", { class: "meter-fill", "data-level": part >= 1 ? "full" : part >= 0.8 ? "near" : null });
  bar.style.width = `${Math.min(100, 100 * part)}%`;
  return h("div", { class: "budget" }, h("p", {}, h("bdi", { text: name }), h("span", { class: "soft", text: percent(part) })),
    h("span", { class: "meter", "aria-hidden": "true" }, bar), h("p", { class: "soft", text: said }));
}

const VALUES = { idle: duration, patience: duration };

/** The recommendation, and for each setting a bar of its cost and one of its mean wait, as `wakestream plan --svg` draws them. */
export function showPlan(plan, state) {
  show(by("plan"), true);
  const priced = state.gpus.some((gpu) => "price_per_hour" in gpu);
  const rows = plan.rows || [];
  const nameOf = ({ setting, value }) => t(`option.${setting}`, { value: VALUES[setting]?.(Number(value)) ?? value });
  const costOf = (row) => (priced ? amount(row.cost, state) : duration(3600 * row.cost));
  const best = rows.find((row) => plan.recommended && row.setting === plan.recommended.setting && row.value === plan.recommended.value);
  const said = best && { setting: nameOf(best), cost: costOf(best), now: costOf(rows[0]), wait: duration(best.wait_s), before: duration(rows[0].wait_s), sure: percent(best.sure) };
  say(by("plan-said"), best ? t("option.best", said) : t(plan.enough ? "option.stay" : "option.too_little"));
  const from = plan.enough ? [t("option.from", { jobs: number(plan.jobs), days: plan.days })] : [];
  if (plan.left_out) from.push(t("option.left_out", { n: number(plan.left_out) }));
  say(by("plan-from"), from.join(" "));
  const bar = (name, row, text) => {
    const made = h("span", { class: "plan-fill" });
    made.style.width = `${(100 * row[name]) / Math.max(...rows.map((each) => each[name]), 1e-9)}%`;
    return h("span", { class: "plan-cell", role: "cell" }, made, h("span", { text }));
  };
  const heads = ["", t("costs"), t("option.wait")].map((text) => h("span", { class: "soft", role: "columnheader", text }));
  by("plan-rows").replaceChildren(...(rows.length ? [h("div", { role: "row" }, ...heads)] : []), ...rows.map((row) =>
    h("div", { role: "row", "data-of": row === best ? "best" : row === rows[0] ? "now" : null },
      h("bdi", { role: "cell", text: nameOf(row) }), bar("cost", row, costOf(row)), bar("wait_s", row, duration(row.wait_s)))));
}
