// Looks into media files with the browser's own players: a small picture and the length.

import { h } from "/dom.js";

const WIDTH = 240;
const WITHIN = 8000;
const FRAME_WITHIN = 1500;
const IMAGE_MOST = 20e6; // bytes
const ENDINGS = { video: /\.(mp4|m4v|mov|webm|mkv|avi|mpe?g|ts|3gp)$/i, image: /\.(png|jpe?g|webp|gif|bmp|avif)$/i, audio: /\.(mp3|wav|ogg|oga|opus|flac|m4a|aac)$/i };

/** Looks into a file that was chosen on this page. Nothing is sent. Rejects if the browser cannot open it. */
export async function fileLook(file) {
  const shown = Object.keys(ENDINGS).find((each) => file.type.startsWith(`${each}/`) || (!file.type && ENDINGS[each].test(file.name)));
  if (shown === "image") return imageLook(file);
  const url = URL.createObjectURL(file);
  try {
    return await mediaLook(url, shown);
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** The same for a file at an address. */
export async function mediaLook(url, shown, size = 0) {
  if (shown === "image" && size <= IMAGE_MOST) return imageLook(await (await fetch(url, { cache: "no-store", credentials: "omit" })).blob());
  if (shown !== "video" && shown !== "audio") throw new Error("it is shown in another way");
  const player = h(shown, { preload: shown === "video" ? "auto" : "metadata", playsinline: true });
  player.muted = true;
  try {
    const opened = happens(player, shown === "video" ? "loadeddata" : "loadedmetadata");
    player.src = url;
    await opened;
    const seconds = Number.isFinite(player.duration) ? player.duration : null;
    return { seconds, image: shown === "video" ? await frame(player, seconds ?? 0) : null };
  } finally {
    player.removeAttribute("src");
    player.load(); // closes the file or the connection
  }
}

/** A frame after the beginning, which is often black. */
async function frame(player, seconds) {
  const moved = happens(player, "seeked");
  const shown = new Promise((done) => { // a busy browser has moved before it has the frame
    player.requestVideoFrameCallback?.(done);
    setTimeout(done, player.requestVideoFrameCallback ? FRAME_WITHIN : 0);
  });
  player.currentTime = Math.min(1, seconds / 10);
  await moved;
  await shown;
  return drawn(player, player.videoWidth, player.videoHeight);
}

async function imageLook(data) {
  const bitmap = await createImageBitmap(data);
  try {
    return { seconds: null, image: drawn(bitmap, bitmap.width, bitmap.height) };
  } finally {
    bitmap.close();
  }
}

function happens(player, name) {
  return new Promise((done, failed) => {
    player.addEventListener(name, done, { once: true });
    player.addEventListener("error", () => failed(new Error("it cannot be played")), { once: true });
    setTimeout(failed, WITHIN, new Error("it took too long"));
  });
}

/** The picture as a data URL; null if there is none, as of a video file with sound only. */
function drawn(source, width, height) {
  if (!width || !height) return null;
  const scale = Math.min(1, WIDTH / Math.max(width, height));
  const canvas = h("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff"; // behind transparent pictures, since JPEG has no transparency
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.7);
}
