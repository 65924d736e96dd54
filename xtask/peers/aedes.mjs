// Aedes over TCP: `node aedes.mjs PORT` serves loopback, with sessions and messages in memory.
import { createServer } from 'node:net'
import { Aedes } from 'aedes'

const aedes = await Aedes.createBroker({ concurrency: 1000, maxClientsIdLength: 64 })
createServer({ noDelay: true }, aedes.handle).listen(Number(process.argv[2]), '127.0.0.1')
