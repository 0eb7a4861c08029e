// tus-js-client against our worker: `client.js ENDPOINT SECRET FILE BLAKE3 URLS [STOP]`.
// Uploads FILE in parts of 1 MiB; with STOP it breaks off as soon as so many bytes went. What it needs to go on it keeps
// in the file URLS. Says how it began and ended, as one JSON line.
import { createReadStream, statSync } from 'node:fs'
import { FileUrlStorage, Upload } from 'tus-js-client'

const [endpoint, secret, file, blake3, urls, stop] = process.argv.slice(2)
const requests = []
const upload = new Upload(createReadStream(file), {
  endpoint,
  headers: { Authorization: `Bearer ${secret}` },
  metadata: { filename: 'film.mp4', blake3 },
  uploadSize: statSync(file).size,
  chunkSize: 1024 * 1024,
  retryDelays: [0, 100, 500, 1000, 5000],
  urlStorage: new FileUrlStorage(urls),
  fingerprint: async () => blake3,
  onAfterResponse: (request, response) => requests.push([request.getMethod(), response.getStatus()]),
  onChunkComplete: async (_, sent) => {
    if (stop && sent >= Number(stop)) {
      await upload.abort()
      report('stopped')
    }
  },
  onSuccess: () => report('done'),
  onError: (error) => report(String(error)),
})

function report(end) {
  console.log(JSON.stringify({ end, requests }))
  process.exit(0)
}

const previous = await upload.findPreviousUploads()
if (previous.length) upload.resumeFromPreviousUpload(previous[0])
upload.start()
