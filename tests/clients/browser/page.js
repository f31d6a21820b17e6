'use strict'
/* global mqtt */
// What runs in the page, on top of MQTT.js as it is made for browsers: a client whose messages wait for a reader.

const DEADLINE = 10_000

const waiting = []
const messages = []
let client

function within(promise, what) {
  const expired = new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`no ${what} within ${DEADLINE} ms`)), DEADLINE)
  })
  return Promise.race([promise, expired])
}

/** Connects; returns the CONNACK. */
async function connect(url, options) {
  client = mqtt.connect(url, { reconnectPeriod: 0, resubscribe: false, ...options })
  client.on('message', (topic, payload, { qos, retain }) => {
    const message = { topic, payload: payload.toString(), length: payload.length, qos, retain }
    const reader = waiting.shift()
    if (reader) reader(message)
    else messages.push(message)
  })
  return connected()
}

/** The CONNACK of the next connection. */
function connected() {
  const connack = new Promise((resolve, reject) => {
    client.once('connect', ({ sessionPresent }) => resolve({ sessionPresent }))
    client.once('error', reject)
    if (!client.options.reconnectPeriod) client.once('close', () => reject(new Error('closed before the CONNACK')))
  })
  return within(connack, 'CONNACK')
}

/** The codes of the SUBACK. */
async function subscribe(filter, qos) {
  const grants = await within(client.subscribeAsync(filter, { qos }), 'SUBACK')
  return grants.map((grant) => grant.qos)
}

async function publish(topic, payload, options) {
  await within(client.publishAsync(topic, payload, options), 'acknowledgement')
}

/** The next messages, as many as asked for. */
async function take(count) {
  const taken = []
  while (taken.length < count) {
    taken.push(messages.shift() ?? (await within(new Promise((resolve) => waiting.push(resolve)), 'message')))
  }
  return taken
}

async function disconnect() {
  await within(client.endAsync(), 'end of the client')
}

/** Loses the connection, as a browser does that changes the network, and waits until MQTT.js has another one. */
function interrupt() {
  const back = connected()
  client.stream.socket.close()
  return back
}
