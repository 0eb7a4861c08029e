// Licenses: search, issue, revoke. An issued key is shown once.

import { button, by, h, named, say, show } from "./dom.js";
import { moment, number, t } from "./words.js";
import { copied, fieldsOf } from "./fields.js";

const PART = 100;
const SLOWLY = 200;

export function licenses({ asked, toast }) {
  let most = PART;
  let own = "";
  let turn = 0;
  let timer = 0;
  const list = by("licenses");
  const search = by("licenses-search");
  const form = fieldsOf(by("issue-form"), "issue", t("licenses.issue"));

  async function refresh() {
    turn += 1;
    const mine = turn;
    const found = await asked("licenses", { search: search.value, most });
    if (!found || mine !== turn) return;
    const focused = document.activeElement?.closest?.("#licenses li")?.dataset.id;
    list.replaceChildren(...found.rows.map(row));
    if (focused) list.querySelector(`[data-id="${CSS.escape(focused)}"] button`)?.focus();
    say(by("licenses-count"), number(found.all));
    show(by("licenses-more"), found.found > found.rows.length && most < 10 * PART);
    say(by("licenses-empty"), text(found));
    show(by("licenses-empty"), Boolean(text(found)));
  }

  function text(found) {
    if (!found.found) return t(search.value ? "licenses.nothing" : "licenses.none", { text: search.value });
    return found.found > found.rows.length || search.value ? t("licenses.found", { shown: number(found.rows.length), count: number(found.found) }) : "";
  }

  function row(one) {
    const facts = [one.id, one.gpus.length ? t("licenses.gpus", { names: one.gpus.join(", ") }) : "", t("licenses.issued", { time: moment(one.issued) })];
    if (one.revoked) facts.push(t("licenses.revoked", { time: moment(one.revoked) }));
    if (one.id === own) facts.push(t("licenses.own"));
    const tool = one.revoked ? null : button(t("licenses.revoke"), null, () => revoke(one));
    tool?.setAttribute("aria-label", t("licenses.revoke.label", { name: one.note || one.id }));
    return h("li", { class: "row-item", "data-id": one.id, "data-revoked": one.revoked ? "true" : null },
      h("span", { class: "pill", text: t(`role.${one.role}`) }),
      h("div", { class: "row-text" }, h("p", { class: "row-title" }, named(one.note || one.id)), h("p", { class: "soft" }, h("bdi", { text: facts.filter(Boolean).join(" · ") }))),
      tool);
  }

  async function revoke(one) {
    const sure = one.id === own ? "licenses.revoke.own" : "licenses.revoke.sure";
    if (!confirm(t(sure, { name: one.note || one.id, role: t(`role.${one.role}`) }))) return;
    if (await asked("revoke", { id: one.id })) toast(t("licenses.revoke.done", { name: one.note || one.id }));
  }

  /** Shows a new key until it is hidden. */
  function secret({ key, license }) {
    const box = by("secret");
    const code = h("code", { class: "key", text: key, tabindex: "0" });
    const hide = button(t("licenses.hide"), "close", () => { box.replaceChildren(); show(box, false); by("licenses-search").focus(); });
    const copy = copied(() => key, toast);
    box.replaceChildren(h("p", {}, h("bdi", { text: t("licenses.once", { name: license.note || license.id, role: t(`role.${license.role}`) }) })), code, h("div", { class: "tools" }, copy, hide));
    show(box, true);
    copy.focus();
  }

  by("issue-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = form.read();
    if (!given) return;
    const made = await form.busy(asked("issue", given));
    if (!made) return;
    form.clear();
    secret(made);
  });
  search.addEventListener("input", () => {
    clearTimeout(timer);
    most = PART;
    timer = setTimeout(refresh, SLOWLY);
  });
  by("licenses-more").addEventListener("click", () => {
    most = Math.min(10 * PART, most + PART);
    refresh();
  });

  return {
    refresh,
    mine(id) { own = id; },
    /** Removes all that was shown: the session has ended. */
    forget() {
      turn += 1;
      list.replaceChildren();
      by("secret").replaceChildren();
      show(by("secret"), false);
    },
  };
}
