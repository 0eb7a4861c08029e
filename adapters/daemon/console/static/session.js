// The way in: a link's code becomes a session, kept in this origin's own storage, and shown at every call.

const KEY = "wakestream.session";

/** A call that was refused: `code` is a word for programs, `status` HTTP's, `numbers` what the sentence is about. */
export class Refusal extends Error {
  constructor(status, plain) {
    super(plain.error || `HTTP ${status}`);
    this.status = status;
    this.code = plain.code || "refused";
    this.numbers = plain;
  }
}

export const bearer = () => ({ Authorization: `Bearer ${localStorage.getItem(KEY) || ""}` });

/** Resolves once another session than the one `shown` is there: entered here, or in another tab. */
export function renewed(shown) {
  return new Promise((go) => {
    const look = () => {
      if (bearer().Authorization === shown) return;
      removeEventListener("storage", look);
      removeEventListener("entered", look);
      go();
    };
    addEventListener("storage", look);
    addEventListener("entered", look);
    look();
  });
}

/** One call of the local API. Throws `Refusal`, or `TypeError` without a response. */
export async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { ...bearer(), "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
  });
  const plain = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response.status, plain);
  return plain;
}

/** True once there is a session: made of the code in the address, or one from before. Throws without a response. */
export async function enter(code = codeIn(location.hash)) {
  if (location.hash.includes("link=")) history.replaceState(null, "", location.pathname);
  if (!code && !localStorage.getItem(KEY)) return false;
  try {
    const plain = await call("POST", "/console/session", code ? { code } : {});
    localStorage.setItem(KEY, plain.session);
    dispatchEvent(new Event("entered"));
    return true;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401) return false;
    throw error;
  }
}

/** The code in a link or in pasted text. */
export function codeIn(text) {
  const found = /(?:^|[#&])link=([\w-]+)/.exec(text) || /^\s*([\w-]{20,})\s*$/.exec(text);
  return found ? found[1] : "";
}
