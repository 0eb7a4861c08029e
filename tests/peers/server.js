// Another project's tus server, for our client: `server.js FOLDER [PORT]` keeps its files there and says its address.
import { createServer } from 'node:http'
import { FileStore } from '@tus/file-store'
import { Server } from '@tus/server'

const [folder, port] = process.argv.slice(2)
const tus = new Server({ path: '/files', datastore: new FileStore({ directory: folder }) })
const server = createServer((request, response) => tus.handle(request, response))
server.listen(Number(port ?? 0), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
process.stdin.resume().on('end', () => process.exit(0))
