'use strict'
// MQTT.js with MQTT 3.1, 3.1.1 and 5.0, over every transport.

const {
  Inbox,
  Suite,
  TRANSPORTS,
  WITH_TLS,
  assert,
  certificate,
  expectSequence,
  letTimePass,
  main,
  over
} = require('../support/harness.js')
const { VERSIONS, withClients } = require('./mqttjs_client.js')

const QUEUED = 100
const NUMBERS = Array.from({ length: QUEUED }, (_, n) => String(n))
const SESSION_TAKEN_OVER = 0x8e
// What Node says when the broker does not take a certificate, or ends the connection instead of the handshake.
const REFUSED = /alert|ECONNRESET|EPIPE|socket hang up|closed|disconnected/

async function everyQos(connect) {
  const [sub, pub] = [await connect(), await connect()]
  for (const granted of [0, 1, 2]) {
    const topic = `qos/${granted}`
    await sub.subscribe(topic, granted)
    for (const published of [0, 1, 2]) {
      const payload = `published at ${published}, ünïcödé ✓`
      await pub.publish(topic, payload, published)
      await sub.expectMessage(topic, payload, Math.min(published, granted))
    }
  }
  await sub.disconnect()
  await pub.disconnect()
}

async function bothWays(connect) {
  const client = await connect()
  for (const qos of [0, 1, 2]) await client.subscribe(`echo/${qos}`, qos)
  const all = Array.from({ length: 300 }, (_, n) => n)
  const published = all.map((n) => client.publish(`echo/${n % 3}`, String(n), n % 3))
  const got = []
  for (const _ of all) got.push(await client.message())
  await Promise.all(published)
  for (const qos of [0, 1, 2]) {
    const echoed = got.filter((m) => m.topic === `echo/${qos}` && m.packet.qos === qos)
    const expected = all.filter((n) => n % 3 === qos)
    expectSequence(echoed.map((m) => Number(m.payload)), expected, `order at QoS ${qos}`)
  }
}

async function sizesOfPayloads(connect) {
  const client = await connect()
  await client.subscribe('payload', 1)
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, n) => n))
  for (const payload of [Buffer.alloc(0), Buffer.from([0]), Buffer.concat(Array(2000).fill(bytes))]) {
    await client.publish('payload', payload, 1)
    const got = await client.message()
    assert.ok(got.payload.equals(payload), `payload of ${payload.length} bytes came back as ${got.payload.length}`)
  }
}

async function unsubscribe(connect) {
  const client = await connect()
  await client.subscribe('unsubscribe/+', 1)
  await client.subscribe('end', 1)
  await client.publish('unsubscribe/a', 'before', 1)
  await client.expectMessage('unsubscribe/a', 'before', 1)
  await client.unsubscribe('unsubscribe/+')
  await client.publish('unsubscribe/a', 'after', 1)
  await client.publish('end', 'nothing before this', 1)
  await client.expectMessage('end', 'nothing before this', 1)
}

async function retained(connect) {
  const topic = 'retained/state'
  const [pub, live] = [await connect(), await connect()]
  await pub.publish(topic, 'first', 1, { retain: true })
  await live.subscribe('retained/#')
  await live.expectMessage(topic, 'first', 1, true)
  await pub.publish(topic, 'second', 2, { retain: true })
  await live.expectMessage(topic, 'second', 2, false)
  const late = await connect()
  await late.subscribe(topic, 1)
  await late.expectMessage(topic, 'second', 1, true)
  await pub.publish(topic, '', 1, { retain: true })
  await live.expectMessage(topic, '', 1, false)
  const after = await connect()
  await after.subscribe(topic)
  await pub.publish(topic, 'nothing was retained', 1)
  await after.expectMessage(topic, 'nothing was retained', 1)
}

async function will(connect) {
  const witness = await connect()
  await witness.subscribe('will/#')
  for (const [qos, retain] of [[0, false], [1, true], [2, false]]) {
    const victim = await connect({ clientId: 'victim', will: { topic: `will/${qos}`, payload: 'gone', qos, retain } })
    victim.kill()
    await witness.expectMessage(`will/${qos}`, 'gone', qos)
  }
  const leaver = await connect({ clientId: 'victim', will: { topic: 'will/2', payload: 'gone', qos: 2, retain: false } })
  await leaver.disconnect()
  await witness.publish('will/end', 'none after DISCONNECT', 1)
  await witness.expectMessage('will/end', 'none after DISCONNECT', 1)
  const late = await connect()
  await late.subscribe('will/1')
  await late.expectMessage('will/1', 'gone', 1, true)
  await witness.publish('will/1', '', 1, { retain: true })
}

function queuedOffline(qos) {
  return async (connect) => {
    const [topic, clientId] = [`queued/${qos}`, `sleeper-${qos}`]
    const first = await connect({ clientId, persistent: true, present: false })
    await first.subscribe(topic)
    await first.disconnect()
    const pub = await connect()
    for (const number of NUMBERS) await pub.publish(topic, number, qos)
    const sub = await connect({ clientId, persistent: true, present: true })
    const got = []
    for (const _ of NUMBERS) got.push(await sub.message())
    expectSequence(got.map((m) => m.payload.toString()), NUMBERS, 'queued messages')
    assert.ok(got.every((m) => m.topic === topic && m.packet.qos === qos && !m.packet.retain), 'topic, QoS, retain flag')
    await pub.publish(topic, 'end', qos)
    await sub.expectMessage(topic, 'end', qos)
    await sub.disconnect()
    await connect({ clientId, present: false })
  }
}

function takeover(version) {
  const farewell = version === 'v5' ? SESSION_TAKEN_OVER : null
  return async (connect) => {
    const pub = await connect()
    const first = await connect({ clientId: 'twin', persistent: true })
    await first.subscribe('takeover')
    const second = await connect({ clientId: 'twin', persistent: true, present: true })
    assert.equal(await first.waitLost(), farewell, 'DISCONNECT of the broker')
    await pub.publish('takeover', 'to the second', 2)
    await second.expectMessage('takeover', 'to the second', 2)
    assert.ok(first.inbox.empty, 'the first client received a message after it was taken over')
    const third = await connect({ clientId: 'twin', present: false })
    assert.equal(await second.waitLost(), farewell, 'DISCONNECT of the broker')
    await third.subscribe('takeover/end')
    await pub.publish('takeover', 'to nobody, the clean session has no such subscription', 1)
    await pub.publish('takeover/end', 'end', 1)
    await third.expectMessage('takeover/end', 'end', 1)
  }
}

async function shared(connect) {
  const pub = await connect()
  for (const qos of [0, 1, 2]) await sharedAt(connect, pub, qos)
}

async function sharedAt(connect, pub, qos) {
  const [topic, inbox] = [`shared/${qos}`, new Inbox()]
  const members = [await connect({ inbox }), await connect({ inbox })]
  for (const member of members) {
    await member.subscribe(`$share/group/${topic}`)
    await member.subscribe(`${topic}/end`)
  }
  const published = NUMBERS.map((number) => pub.publish(topic, number, qos))
  const got = []
  for (const _ of NUMBERS) got.push(await inbox.take('shared message'))
  await Promise.all(published)
  await pub.publish(`${topic}/end`, 'end', 1)
  const ends = [await inbox.take('unshared message'), await inbox.take('unshared message')]
  assert.deepEqual(ends.map((m) => m.payload.toString()), ['end', 'end'], 'what follows the shared messages')
  assert.notEqual(ends[0].client, ends[1].client, 'receivers of the unshared message')
  assert.ok(got.every((m) => m.topic === topic && m.packet.qos === qos && !m.packet.retain), 'topic, QoS, retain flag')
  const ascending = (numbers) => [...numbers].sort((a, b) => a - b)
  expectSequence(ascending(got.map((m) => m.payload.toString())), NUMBERS, 'union of both members')
  for (const member of members) {
    const share = got.filter((m) => m.client === member).map((m) => m.payload.toString())
    assert.ok(share.length > 0, 'one member received nothing')
    expectSequence(share, ascending(share), 'order within a member')
    member.discard()
  }
}

const PROPERTIES = {
  // MQTT.js groups user properties by name, so only the order of the names and within a name can be seen.
  userProperties: { z: ['first', 'third'], a: 'second' },
  contentType: 'text/plain; ünïcödé',
  responseTopic: 'reply/here',
  correlationData: Buffer.from(Array.from({ length: 256 }, (_, n) => n)),
  payloadFormatIndicator: true
}

function expectProperties(packet) {
  const { userProperties, ...others } = packet.properties
  const pairs = Object.entries(userProperties)
  assert.deepEqual(pairs, Object.entries(PROPERTIES.userProperties), 'user properties in order')
  for (const [name, value] of Object.entries(PROPERTIES)) {
    if (name !== 'userProperties') assert.deepEqual(others[name], value, name)
  }
}

async function properties(connect) {
  const [live, pub] = [await connect(), await connect()]
  await live.subscribe('properties/#')
  for (const qos of [0, 1, 2]) {
    const topic = `properties/${qos}`
    await pub.publish(topic, 'payload', qos, { retain: true, properties: PROPERTIES })
    expectProperties(await live.expectMessage(topic, 'payload', qos))
    const late = await connect()
    await late.subscribe(topic)
    expectProperties(await late.expectMessage(topic, 'payload', qos, true))
    await pub.publish(topic, '', qos, { retain: true })
    await live.expectMessage(topic, '', qos)
  }
}

async function propertiesOfQueuedMessages(connect) {
  const first = await connect({ clientId: 'reader', persistent: true })
  await first.subscribe('properties/queued')
  await first.disconnect()
  const pub = await connect()
  await pub.publish('properties/queued', 'payload', 1, { properties: PROPERTIES })
  const sub = await connect({ clientId: 'reader', persistent: true, present: true })
  expectProperties(await sub.expectMessage('properties/queued', 'payload', 1))
}

async function propertiesOfAWill(connect) {
  const witness = await connect()
  await witness.subscribe('properties/will')
  const last = { topic: 'properties/will', payload: 'gone', qos: 1, retain: false, properties: PROPERTIES }
  const victim = await connect({ will: last })
  victim.kill()
  expectProperties(await witness.expectMessage('properties/will', 'gone', 1))
}

async function disconnectWithWill(connect) {
  const witness = await connect()
  await witness.subscribe('farewell')
  const leaver = await connect({ will: { topic: 'farewell', payload: 'gone', qos: 2, retain: false } })
  await leaver.disconnect(0x04)
  await witness.expectMessage('farewell', 'gone', 2)
}

async function messageExpiry(connect) {
  const [first, pub] = [await connect({ clientId: 'late', persistent: true }), await connect()]
  await first.subscribe('expiry/#')
  const expiring = (messageExpiryInterval, retain = false) => ({ retain, properties: { messageExpiryInterval } })
  await pub.publish('expiry/live', 'at once', 1, expiring(100))
  const live = (await first.expectMessage('expiry/live', 'at once', 1)).properties.messageExpiryInterval
  assert.ok([99, 100].includes(live), `expiry interval of a message sent on at once: ${live}`)
  await first.disconnect()
  await pub.publish('expiry/retained/short', 'expires', 1, expiring(1, true))
  await pub.publish('expiry/retained/long', 'stays', 1, expiring(100, true))
  await pub.publish('expiry/queued', 'expires', 2, expiring(1))
  await pub.publish('expiry/queued', 'stays', 2, expiring(100))
  await pub.publish('expiry/queued', 'has no expiry', 2)
  await letTimePass(2500)
  const sub = await connect({ clientId: 'late', persistent: true, present: true })
  expectCountedDown(await sub.expectMessage('expiry/retained/long', 'stays', 1))
  expectCountedDown(await sub.expectMessage('expiry/queued', 'stays', 2))
  const last = await sub.expectMessage('expiry/queued', 'has no expiry', 2)
  assert.equal(last.properties?.messageExpiryInterval, undefined, 'an expiry interval that was not set')
  await expiredWhileRetained(connect, pub)
}

async function expiredWhileRetained(connect, pub) {
  const sub = await connect()
  await sub.subscribe('expiry/retained/#')
  expectCountedDown(await sub.expectMessage('expiry/retained/long', 'stays', 1, true))
  await pub.publish('expiry/retained/end', 'end', 1)
  await sub.expectMessage('expiry/retained/end', 'end', 1)
  await pub.publish('expiry/retained/long', '', 1, { retain: true })
}

function expectCountedDown(packet) {
  const left = packet.properties?.messageExpiryInterval
  assert.ok(left >= 80 && left <= 98, `expiry interval left: ${left}`)
}

async function topicAliasFromTheClient(connect) {
  const [sub, pub] = [await connect(), await connect()]
  assert.ok(pub.connack.properties.topicAliasMaximum >= 2, 'the broker takes no topic aliases')
  await sub.subscribe('alias/#')
  const aliased = { properties: { topicAlias: 2 } }
  for (const [topic, payload] of [['alias/one', 'names'], ['', 'alias only'], ['alias/two', 'renames'], ['', 'new']]) {
    await pub.publish(topic, payload, 1, aliased)
  }
  await sub.expectMessage('alias/one', 'names', 1)
  await sub.expectMessage('alias/one', 'alias only', 1)
  await sub.expectMessage('alias/two', 'renames', 1)
  await sub.expectMessage('alias/two', 'new', 1)
}

async function topicAliasFromTheBroker(connect) {
  const [sub, pub] = [await connect({ properties: { topicAliasMaximum: 2 } }), await connect()]
  await sub.subscribe('alias/out/+')
  for (let n = 0; n < 12; n++) await pub.publish(`alias/out/${n % 3}`, String(n), 1)
  for (let n = 0; n < 12; n++) await sub.expectMessage(`alias/out/${n % 3}`, String(n), 1)
  assert.ok(sub.wireTopics.includes(''), 'the broker used no topic alias though the client allows two')
}

async function subscriptionOptions(connect) {
  const [client, other] = [await connect(), await connect()]
  await other.publish('options/kept', 'retained', 1, { retain: true })
  await client.subscribe('options/#', 1, { nl: true, rap: true, rh: 1 })
  await client.expectMessage('options/kept', 'retained', 1, true)
  await client.subscribe('options/#', 1, { nl: true, rap: true, rh: 1 })
  await client.publish('options/own', 'not to myself', 1)
  await other.publish('options/kept', '', 1, { retain: true })
  await client.expectMessage('options/kept', '', 1, true)
}

async function subscriptionIdentifiers(connect) {
  const client = await connect()
  await client.subscribe('identifiers/#', 1, { properties: { subscriptionIdentifier: 7 } })
  await client.subscribe('identifiers/+', 2, { properties: { subscriptionIdentifier: 268_435_455 } })
  await client.subscribe('identifiers/one', 0)
  await client.publish('identifiers/one', 'one copy at the highest QoS', 2)
  const got = await client.expectMessage('identifiers/one', 'one copy at the highest QoS', 2)
  const identifiers = [...got.properties.subscriptionIdentifier].sort((a, b) => a - b)
  assert.deepEqual(identifiers, [7, 268_435_455], 'subscription identifiers')
  await client.publish('identifiers/end', 'end', 0)
  await client.expectMessage('identifiers/end', 'end', 0)
}

/** A message that comes by one transport leaves by all of them. */
async function acrossTransports(connect, addresses) {
  const clients = []
  for (const address of addresses) clients.push(await connect({}, address))
  for (const client of clients) await client.subscribe('across/#')
  for (const [n, publisher] of clients.entries()) {
    for (const qos of [0, 1, 2]) {
      await publisher.publish(`across/${n}`, `at ${qos}`, qos)
      for (const client of clients) await client.expectMessage(`across/${n}`, `at ${qos}`, qos)
    }
  }
}

/** A session is not bound to the transport that began it. */
async function sessionMoves(connect, addresses) {
  const [first, pub] = [await connect({ clientId: 'mover', persistent: true }), await connect()]
  await first.subscribe('moved')
  await first.disconnect()
  for (const address of addresses) {
    await pub.publish('moved', address.transport, 1)
    const client = await connect({ clientId: 'mover', persistent: true, present: true }, address)
    await client.expectMessage('moved', address.transport, 1)
    await client.disconnect()
  }
}

async function clientCertificates(connect, addresses) {
  for (const address of addresses) {
    const client = await connect({ identity: 'client' }, address)
    await client.subscribe('certificates')
    for (const identity of [undefined, 'revoked', 'expired', 'self-signed', 'other']) {
      await assert.rejects(connect({ identity }, address), { message: REFUSED }, `the broker took ${identity}`)
    }
    await client.publish('certificates', 'still served', 1)
    await client.expectMessage('certificates', 'still served', 1)
  }
}

function suites() {
  const all = Object.keys(TRANSPORTS)
  const versions = Object.keys(VERSIONS)
  const each = all.flatMap((transport) => versions.map((version) => overTransport(transport, version)))
  const across = versions.map((version) => {
    const [suite, add] = suiteOf(`MQTT.js ${version} across transports`, version, all)
    add('a message by one transport to all', acrossTransports)
    add('a session from one transport to the next', sessionMoves)
    return suite
  })
  const authority = ['--tls-ca', certificate('ca.pem'), '--tls-crl', certificate('crl.pem')]
  const [certificates, add] = suiteOf('MQTT.js with certificates', 'v5', WITH_TLS, authority)
  add('a client certificate, and four that are refused', clientCertificates)
  return [...each, ...across, certificates]
}

/** A suite, and what adds a case to it. */
function suiteOf(name, version, transports, options) {
  const suite = new Suite(name, transports, options)
  return [suite, (name, run) => suite.add(name, (...addresses) => withClients(addresses, version, run))]
}

function overTransport(transport, version) {
  const [suite, add] = suiteOf(over(`MQTT.js ${version}`, transport), version, [transport])
  add('every QoS published to every QoS subscribed', everyQos)
  add('every QoS both ways on one connection', bothWays)
  add('empty, binary and long payloads', sizesOfPayloads)
  add('unsubscribe', unsubscribe)
  add('retained message set, replaced and cleared', retained)
  add('will of a killed socket, none after DISCONNECT', will)
  for (const qos of [1, 2]) {
    add(`${QUEUED} messages queued offline at QoS ${qos} and resumed in order`, queuedOffline(qos))
  }
  add('takeover', takeover(version))
  add('shared subscription of two members', shared)
  if (version === 'v5') addVersion5(add)
  return suite
}

function addVersion5(add) {
  add('properties, live and retained', properties)
  add('properties of queued messages', propertiesOfQueuedMessages)
  add('properties of a will', propertiesOfAWill)
  add('will after DISCONNECT 0x04', disconnectWithWill)
  add('message expiry counted down and expired', messageExpiry)
  add('topic alias from the client', topicAliasFromTheClient)
  add('topic alias from the broker', topicAliasFromTheBroker)
  add('no local, retain as published, retain handling', subscriptionOptions)
  add('subscription identifiers of overlapping subscriptions', subscriptionIdentifiers)
}

main(suites())
