// Texts in English and Chinese, and formats of numbers, sizes and times.

import { EN } from "./words-en.js";
import { ZH } from "./words-zh.js";

/** The language that the user chose on this page, or else the browser's. */
export const lang = chosen() || (/^zh\b/i.test(navigator.language || "") ? "zh" : "en");

function chosen() {
  try {
    return localStorage.getItem("wakestream.lang");
  } catch {
    return null; // the browser keeps nothing for this page
  }
}

const WORDS = lang === "zh" ? ZH : EN;

/** The text of `key`, with `values` in place of the names in braces. */
export function t(key, values = {}) {
  const text = WORDS[key] ?? EN[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** Whether there is a text for `key`. */
export const knows = (key) => key in WORDS;

/** A GPU's phase in words; a newer hub may have phases that this page does not know. */
export const phase = (word) => (knows(`phase.${word}`) ? t(`phase.${word}`) : word.replaceAll("_", " "));

/** Sets the fixed texts of the page. */
export function translate(root) {
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
  for (const element of root.querySelectorAll("[data-t-placeholder]")) element.placeholder = t(element.dataset.tPlaceholder);
}

const locale = lang === "zh" ? "zh-CN" : navigator.language || "en";
const whole = new Intl.NumberFormat(locale, { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat(locale, { maximumFractionDigits: 1 });
const amount = new Intl.NumberFormat(locale, { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export const number = (value) => whole.format(value);
export const money = (value) => amount.format(value);
export const percent = (part) => `${whole.format(Math.floor(100 * Math.min(1, Math.max(0, part))))}%`;

const TOGETHER = "\u00a0";

/** A size, in decimal units. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${(value < 100 && unit > 0 ? short : whole).format(value)}${TOGETHER}${units[unit]}`;
}

/** A duration in seconds, with at most two units. */
export function duration(seconds) {
  const all = Math.max(0, Math.round(seconds));
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const found = [];
  let rest = all;
  for (const [size, unit] of parts) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count || (unit === "s" && !found.length)) found.push(`${whole.format(count)}${TOGETHER}${t(`unit.${unit}`)}`);
    else if (found.length) break;
    if (found.length === 2) break;
  }
  return found.join(" ");
}

/** A time in UNIX seconds: for today the time only, otherwise with the date; in a zone that is named, or in ours. */
export function moment(at, zone) {
  const date = new Date(at * 1000);
  if (zone) return `${new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short", timeZone: zone }).format(date)} ${zone}`;
  const today = date.toDateString() === new Date().toDateString();
  return (today ? ofToday : ofEarlier).format(date);
}

/** A day such as 2026-01-31. */
export const date = (day) => ofDay.format(Date.parse(day));

// Created once: creating one is a hundred times slower than using it.
const ofDay = new Intl.DateTimeFormat(locale, { month: "short", day: "numeric", timeZone: "UTC" });
const ofToday = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const ofEarlier = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
const { hourCycle } = ofToday.resolvedOptions();
const hour = hourCycle === "h23" ? "2-digit" : "numeric";
const minutes = new Intl.DateTimeFormat(locale, { hour, minute: "2-digit", hourCycle });
const seconds = new Intl.DateTimeFormat(locale, { hour, minute: "2-digit", second: "2-digit", hourCycle });

/** The time of day, in the locale's format. */
export const clock = (at, exact) => (exact ? seconds : minutes).format(new Date(at * 1000));
