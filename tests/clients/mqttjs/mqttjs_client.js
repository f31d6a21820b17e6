'use strict'
// An MQTT.js client as the scenarios drive it.

const fs = require('node:fs')

const mqtt = require('mqtt')

const { Inbox, WITH_TLS, assert, certificate, within } = require('../support/harness.js')

const VERSIONS = { 'v3.1': 3, 'v3.1.1': 4, v5: 5 }

// What MQTT.js calls the transports of the harness.
const PROTOCOLS = { tcp: 'mqtt', tls: 'mqtts', ws: 'ws', wss: 'wss', unix: 'mqtt+unix' }

let created = 0

/** The settings for an address, and for a client certificate if a name is given. */
function where({ transport, port, path }, identity) {
  const settings = { protocol: PROTOCOLS[transport], host: '127.0.0.1', port, path: path ?? '/mqtt' }
  const read = (name) => fs.readFileSync(certificate(name))
  if (WITH_TLS.includes(transport)) settings.ca = read('ca.pem')
  return identity ? { ...settings, cert: read(`${identity}.pem`), key: read(`${identity}.key`) } : settings
}

class Client {
  /** Connects. MQTT 3.1 has no session present bit: it is reserved there, and zero. */
  static async connect(address, version, options = {}) {
    const { clientId, persistent = false, present = false, inbox, will, properties, identity } = options
    const client = new Client()
    client.v5 = version === 'v5'
    client.inbox = inbox ?? new Inbox()
    client.lost = new Inbox()
    client.wireTopics = []
    client.mqtt = mqtt.connect({
      ...where(address, identity),
      protocolId: version === 'v3.1' ? 'MQIsdp' : 'MQTT',
      protocolVersion: VERSIONS[version],
      clientId: clientId ?? `mqttjs-${created++}`,
      clean: !persistent,
      reconnectPeriod: 0,
      resubscribe: false,
      will,
      properties: client.v5 ? { ...(persistent && { sessionExpiryInterval: 3600 }), ...properties } : undefined
    })
    client.#listen()
    client.connack = await within(client.connected, 'CONNACK')
    assert.equal(client.connack.sessionPresent, present && version !== 'v3.1', 'session present')
    return client
  }

  #listen() {
    let reason = null
    this.mqtt.on('message', (topic, payload, packet) => this.inbox.put({ client: this, topic, payload, packet }))
    this.mqtt.on('disconnect', (packet) => (reason = packet.reasonCode))
    this.mqtt.on('close', () => this.lost.put(reason))
    this.mqtt.on('packetreceive', (packet) => {
      if (packet.cmd === 'publish') this.wireTopics.push(packet.topic)
    })
    this.connected = new Promise((resolve, reject) => {
      this.mqtt.on('connect', resolve)
      this.mqtt.on('error', reject)
      this.mqtt.on('close', () => reject(new Error('closed before the CONNACK')))
    })
  }

  /** Subscribes, and checks the codes of the SUBACK. */
  async subscribe(filter, qos = 2, options = {}) {
    const grants = await within(this.mqtt.subscribeAsync(filter, { qos, ...options }), 'SUBACK')
    assert.deepEqual(grants.map((grant) => grant.qos), [qos], 'SUBACK codes')
  }

  async unsubscribe(filter) {
    await within(this.mqtt.unsubscribeAsync(filter), 'UNSUBACK')
  }

  /** Publishes; settles when the message is acknowledged in full. */
  publish(topic, payload, qos = 0, options = {}, deadline = undefined) {
    return within(this.mqtt.publishAsync(topic, payload, { qos, ...options }), 'acknowledgement', deadline)
  }

  async message(deadline) {
    return this.inbox.take('message', deadline)
  }

  /** The next message is exactly this one. */
  async expectMessage(topic, payload, qos, retain = false) {
    const got = await this.message()
    const actual = { topic: got.topic, payload: got.payload.toString(), qos: got.packet.qos, retain: got.packet.retain }
    assert.deepEqual(actual, { topic, payload, qos, retain })
    return got.packet
  }

  /** A clean end, with DISCONNECT; returns when the broker has closed too. */
  async disconnect(reasonCode) {
    await within(this.mqtt.endAsync(false, reasonCode === undefined ? {} : { reasonCode }), 'end of the client')
    await this.waitLost()
  }

  /** Closes the connection without DISCONNECT, and without the farewell of WebSocket. */
  kill() {
    this.mqtt.stream.destroy()
  }

  /** Waits until the broker has ended the connection; the code of its DISCONNECT, or null. */
  waitLost() {
    return this.lost.take('end of the connection')
  }

  /** Frees everything, whatever state the client is in. */
  discard() {
    this.mqtt.on('error', () => {})
    this.mqtt.end(true)
  }
}

/** Runs a function with a `connect`, to the first address unless told otherwise; frees all clients at the end. */
async function withClients(addresses, version, run) {
  const clients = []
  const connect = async (options, address = addresses[0]) => {
    const client = await Client.connect(address, version, options)
    clients.push(client)
    return client
  }
  try {
    await run(connect, addresses)
  } finally {
    clients.forEach((client) => client.discard())
  }
}

module.exports = { VERSIONS, withClients }
