// Codes for new machines, each with its QR picture and the time that is left. Used and expired ones vanish.

import { button, by, h, say } from "./dom.js";
import { copied, fieldsOf } from "./fields.js";
import { duration, t } from "./words.js";

export function invites({ asked, toast }) {
  const list = by("codes");
  const shown = new Map();
  const pictures = new Map();
  const form = fieldsOf(by("invite-form"), "invite", t("invites.make"));

  function picture(one, svg) {
    return h("img", { class: "qr", width: "180", height: "180", src: `data:image/svg+xml;base64,${btoa(svg)}`, alt: t("invites.qr", { command: one.command }) });
  }

  function item(one) {
    const left = h("span", { class: "soft left" });
    const place = h("div", { class: "qr-place" });
    const look = button(t("invites.show"), null, async () => {
      const found = await asked("qr", { code: one.code });
      if (found) open(found.svg);
    });
    const open = (svg) => {
      pictures.set(one.code, svg);
      place.replaceChildren(picture(one, svg));
    };
    place.append(look);
    if (pictures.has(one.code)) open(pictures.get(one.code));
    const about = [one.note, one.gpus.join(", ")].filter(Boolean).join(" · ");
    const words = h("div", { class: "code-words" },
      about ? h("p", { class: "soft" }, h("bdi", { text: about })) : null,
      h("p", { class: "soft", text: t("invites.type") }),
      h("pre", { tabindex: "0", "aria-label": t("invites.command") }, h("code", { text: one.command })),
      h("div", { class: "tools" }, copied(() => one.command, toast, t("invites.copy"))));
    const head = h("summary", { class: "code-head" }, h("strong", { class: "code-text", text: one.code }), h("span", { class: "pill", text: t(`role.${one.role}`) }), left);
    const box = h("details", {}, head, h("div", { class: "code" }, place, words));
    return { one, left, root: h("li", { "data-code": one.code }, box), reveal: (svg) => { open(svg); box.open = true; } };
  }

  function tick() {
    for (const [code, { one, left, root }] of shown) {
      const seconds = one.until - Date.now() / 1000;
      if (seconds <= 0) {
        root.remove();
        shown.delete(code);
      } else say(left, t("invites.left", { time: seconds >= 60 ? duration(60 * Math.floor(seconds / 60)) : duration(seconds) }));
    }
  }

  function show(found) {
    const here = new Set(found.map((one) => one.code));
    for (const [code, { root }] of shown) {
      if (here.has(code)) continue;
      root.remove();
      shown.delete(code);
      pictures.delete(code);
    }
    found.forEach((one, at) => {
      if (!shown.has(one.code)) shown.set(one.code, item(one));
      const { root } = shown.get(one.code);
      if (list.children[at] !== root) list.insertBefore(root, list.children[at] || null);
    });
    tick();
  }

  by("invite-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = form.read();
    if (!given) return;
    const made = await form.busy(asked("invite", given));
    if (!made) return;
    pictures.set(made.invite.code, made.svg);
    form.clear();
    show([made.invite, ...[...shown.values()].map(({ one }) => one).filter((one) => one.code !== made.invite.code)]);
    shown.get(made.invite.code).reveal(made.svg); // the others stay closed
  });

  return {
    show,
    tick,
    forget() {
      pictures.clear();
      shown.clear();
      list.replaceChildren();
    },
  };
}
