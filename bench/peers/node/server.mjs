// WebSockets with node and ws, as the documentation of ws shows how to send to all clients.
// node server.mjs PORT CONTROL_PORT: each line that comes at the control port is sent to every client.
import net from 'node:net'
import readline from 'node:readline'
import { WebSocket, WebSocketServer } from 'ws'

const [port, controlPort] = process.argv.slice(2).map(Number)
const server = new WebSocketServer({ host: '0.0.0.0', port, backlog: 65535, perMessageDeflate: false })
server.on('connection', (client) => {
  // A peer that is gone is no fault of the server's.
  client.on('error', () => {})
})

net.createServer((publisher) => {
  publisher.on('error', () => {})
  readline.createInterface({ input: publisher }).on('line', (line) => {
    // Encoded once: a string would be for each client.
    const data = Buffer.from(line)
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary: false })
    }
  })
}).listen(controlPort, '127.0.0.1')
