'use strict'
/* global connect, disconnect, interrupt, publish, subscribe, take */
// MQTT.js in a page of Chromium, over WebSocket with and without TLS. What is called with `page.run` is in page.js.

const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')

const { Broker, Suite, assert, certificate, expectSequence, main, within } = require('../support/harness.js')
const { Browser } = require('./chromium.js')

const QUEUED = 100
const NUMBERS = Array.from({ length: QUEUED }, (_, n) => String(n))
const VERSIONS = { 'v3.1': ['MQIsdp', 3], 'v3.1.1': ['MQTT', 4], v5: ['MQTT', 5] }

const FILES = {
  '/mqtt.js': path.join(path.dirname(require.resolve('mqtt/package.json')), 'dist/mqtt.min.js'),
  '/page.js': path.join(__dirname, 'page.js')
}
const HTML = '<!doctype html><title>Scenario</title><script src="mqtt.js"></script><script src="page.js"></script>'

/** Serves the page on a port that the kernel chooses. */
async function serve() {
  const server = http.createServer((request, response) => {
    const file = FILES[request.url]
    response.setHeader('Content-Type', `text/${file ? 'javascript' : 'html'}; charset=utf-8`)
    response.end(file ? fs.readFileSync(file) : HTML)
  })
  await within(new Promise((resolve) => server.listen(0, '127.0.0.1', resolve)), 'port of the page')
  return { server, origin: `http://127.0.0.1:${server.address().port}` }
}

/** The pages of one case. They and the broker are all that they know. */
class Pages {
  opened = []

  constructor(browser, origin, { transport, port }, version) {
    Object.assign(this, { browser, origin, version, url: `${transport}://127.0.0.1:${port}/mqtt` })
  }

  open() {
    return this.browser.open(this.origin).then((page) => (this.opened.push(page), page))
  }

  /** Connects from a page; `persistent` is a session that outlives the connection. */
  async connect(page, { clientId, persistent = false, present = false, ...others } = {}) {
    const [protocolId, protocolVersion] = VERSIONS[this.version]
    const properties = this.version === 'v5' && persistent ? { sessionExpiryInterval: 3600 } : undefined
    const settings = { protocolId, protocolVersion, clean: !persistent, clientId, properties, ...others }
    const { sessionPresent } = await page.run((url, settings) => connect(url, settings), this.url, settings)
    this.expectPresent(sessionPresent, present)
  }

  /** MQTT 3.1 has no session present bit. */
  expectPresent(actual, expected) {
    assert.equal(actual, expected && this.version !== 'v3.1', 'session present')
  }

  async connected(options) {
    const page = await this.open()
    await this.connect(page, options)
    return page
  }

  async closeAll() {
    for (const page of this.opened) await page.close().catch(() => {})
  }
}

async function subscribeFrom(page, filter, qos) {
  assert.deepEqual(await page.run((filter, qos) => subscribe(filter, qos), filter, qos), [qos], 'SUBACK codes')
}

function publishFrom(page, topic, payload, qos) {
  return page.run((topic, payload, qos) => publish(topic, payload, { qos }), topic, payload, qos)
}

async function expectMessage(page, topic, payload, qos) {
  const [got] = await page.run(() => take(1))
  assert.deepEqual([got.topic, got.payload, got.qos, got.retain], [topic, payload, qos, false], 'message')
}

async function everyQos(pages) {
  const [sub, pub] = [await pages.connected(), await pages.connected()]
  for (const granted of [0, 1, 2]) {
    await subscribeFrom(sub, `qos/${granted}`, granted)
    for (const published of [0, 1, 2]) {
      const payload = `published at ${published}, ünïcödé ✓`
      await publishFrom(pub, `qos/${granted}`, payload, published)
      await expectMessage(sub, `qos/${granted}`, payload, Math.min(granted, published))
    }
  }
  await sub.run(() => disconnect())
  await pub.run(() => disconnect())
}

async function longPayload(pages) {
  const page = await pages.connected()
  await subscribeFrom(page, 'payload', 1)
  const [got] = await page.run(async () => {
    await publish('payload', 'x'.repeat(500_000), { qos: 1 })
    return take(1)
  })
  assert.equal(got.payload, 'x'.repeat(500_000))
}

async function burst(pages) {
  const page = await pages.connected()
  await subscribeFrom(page, 'burst', 1)
  const got = await page.run(async (count) => {
    const all = Array.from({ length: count }, (_, n) => publish('burst', String(n), { qos: 1 }))
    const taken = await take(count)
    await Promise.all(all)
    return taken.map((message) => message.payload)
  }, 1000)
  expectSequence(got, Array.from({ length: 1000 }, (_, n) => String(n)), 'burst')
}

/** The session is left with DISCONNECT, and its client comes back in a page that knows nothing of it. */
function queuedOffline(qos) {
  return async (pages) => {
    const [sub, pub] = [await pages.open(), await pages.connected()]
    await pages.connect(sub, { clientId: 'sleeper', persistent: true })
    await subscribeFrom(sub, 'queued', qos)
    await sub.run(() => disconnect())
    await sub.reload()
    await publishAll(pub, 'queued', qos)
    await pages.connect(sub, { clientId: 'sleeper', persistent: true, present: true })
    await expectAll(sub, pub, 'queued', qos)
    await sub.run(() => disconnect())
    await pages.connect(sub, { clientId: 'sleeper' })
  }
}

/** A reload ends the connection without DISCONNECT: the will is published, and the session stays. */
async function reloaded(pages) {
  const [sub, pub] = [await pages.open(), await pages.connected()]
  await subscribeFrom(pub, 'reload/will', 1)
  const will = { topic: 'reload/will', payload: 'gone', qos: 1, retain: false }
  await pages.connect(sub, { clientId: 'reloader', persistent: true, will })
  await subscribeFrom(sub, 'reload/queued', 1)
  await sub.reload()
  await expectMessage(pub, 'reload/will', 'gone', 1)
  await publishAll(pub, 'reload/queued', 1)
  await pages.connect(sub, { clientId: 'reloader', persistent: true, present: true })
  await expectAll(sub, pub, 'reload/queued', 1)
}

/** MQTT.js connects again by itself, and need not subscribe again. */
async function interrupted(pages) {
  const [sub, pub] = [await pages.open(), await pages.connected()]
  await pages.connect(sub, { clientId: 'traveller', persistent: true, reconnectPeriod: 50 })
  await subscribeFrom(sub, 'interrupted', 2)
  for (const round of [1, 2, 3]) {
    const [back] = await Promise.all([sub.run(() => interrupt()), publishFrom(pub, 'interrupted', `${round}`, 2)])
    pages.expectPresent(back.sessionPresent, true)
    await expectMessage(sub, 'interrupted', `${round}`, 2)
  }
}

function publishAll(page, topic, qos) {
  const call = async (topic, qos, numbers) => {
    for (const number of numbers) await publish(topic, number, { qos })
  }
  return page.run(call, topic, qos, NUMBERS)
}

/** All that `publishAll` has published, and nothing before the message behind it. */
async function expectAll(sub, pub, topic, qos) {
  const got = await sub.run((count) => take(count), QUEUED)
  expectSequence(got.map((message) => message.payload), NUMBERS, 'queued messages')
  assert.ok(got.every((m) => m.topic === topic && m.qos === qos && !m.retain), 'topic, QoS and retain flag')
  await publishFrom(pub, topic, 'end', qos)
  await expectMessage(sub, topic, 'end', qos)
}

/** A browser says on every WebSocket where its page is from. */
function origins(browser, origin) {
  return async () => {
    for (const [allowed, accepted] of [[origin, true], ['https://example.test', false]]) {
      const broker = await Broker.start(['ws', 'wss'], ['--ws-origin', allowed])
      try {
        for (const address of broker.addresses) await fromOrigin(browser, origin, address, accepted)
        await broker.stop()
      } finally {
        broker.discard()
      }
    }
  }
}

async function fromOrigin(browser, origin, address, accepted) {
  const pages = new Pages(browser, origin, address, 'v5')
  try {
    if (accepted) await everyQos(pages)
    else await assert.rejects(pages.connected(), { message: /closed before the CONNACK/ })
  } finally {
    await pages.closeAll()
  }
}

function overTransport(browser, origin, transport, version) {
  const suite = new Suite(`Chromium ${version} over ${transport}`, [transport])
  const add = (name, run) => suite.add(name, async (address) => {
    const pages = new Pages(browser, origin, address, version)
    try {
      await run(pages)
    } finally {
      await pages.closeAll()
    }
  })
  add('every QoS published to every QoS subscribed', everyQos)
  add('a long payload', longPayload)
  add('1,000 messages at once', burst)
  for (const qos of [1, 2]) {
    add(`${QUEUED} messages queued offline at QoS ${qos} and resumed in order`, queuedOffline(qos))
  }
  add('a reloaded page finds its session, and its will was published', reloaded)
  add('a connection that is lost comes back with its session', interrupted)
  return suite
}

async function start() {
  const browser = await Browser.start(certificate('server.pem'))
  const { server, origin } = await serve()
  const suites = ['ws', 'wss'].flatMap((transport) =>
    Object.keys(VERSIONS).map((version) => overTransport(browser, origin, transport, version))
  )
  const alone = new Suite('Chromium', [])
  alone.add('only pages of the allowed origin', origins(browser, origin))
  alone.add('the browser ends', async () => {
    await browser.close()
    server.closeAllConnections?.()
    server.close()
  })
  await main([...suites, alone])
}

start().catch((error) => {
  console.log(`not ok Chromium starts\n    ${error.stack}`)
  process.exit(1)
})
